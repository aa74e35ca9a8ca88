"""`raftkv watch`: changes as they happen, on stdout or to a command; one watch, or as many as one types with -i.

What may not live here: streams (watch_stream.py), and how responses become text (printers).

Source: etcdctl 3.4's grammar, texts and exit codes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from raftkv.cli import goformat
from raftkv.cli.exits import AlreadyReported, Exit, Failure, bad_arguments
from raftkv.cli.lazy import CliCommand
from raftkv.cli.options import Integer, Settings, flag, settings_of
from raftkv.cli.txn import split_words
from raftkv.pb import rpc_pb2

if TYPE_CHECKING:
    from raftkv.cli.rpc import Connection
    from raftkv.cli.watch_stream import Following

EXAMPLES = """
raftkv watch greeting
raftkv watch users/ --prefix --prev-kv
raftkv watch a m                                keys from a, before m
raftkv watch greeting --rev 4                   from revision 4 on
raftkv watch greeting -- sh -c 'echo "$ETCD_WATCH_VALUE"'
raftkv watch -i                                 reads lines: watch KEY [RANGE_END] [flags], progress
"""

_EXEC = "raftkv.cli.watch.exec"
BAD_NUMBER = "bad number of arguments"
COMPACTED = "etcdserver: mvcc: required revision has been compacted"

Show = Callable[[rpc_pb2.WatchResponse], None]


class _WatchCommand(CliCommand):
    """What follows `--` is a command to run, and none of the arguments."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" in args:
            at = args.index("--")
            ctx.meta[_EXEC] = args[at + 1 :]
            args = args[:at]
        return super().parse_args(ctx, args)


@click.command("watch", cls=_WatchCommand, examples=EXAMPLES)
@click.argument("arguments", metavar="[KEY [RANGE_END]] [-- COMMAND [ARG]...]", nargs=-1)
@flag("-i", "--interactive", help="Read watches from stdin, one a line.")
@flag("--prefix", help="All keys that begin with KEY.")
@flag("--prev-kv", help="Show the key-value pair as it was before, too.")
@flag("--progress-notify", help="Tell now and then how far the server is, while nothing happens.")
@click.option("--rev", type=Integer(minimum=-(2**63)), default="0", help="First revision to hear of; 0: from now on.")
@click.pass_context
def watch(ctx: click.Context, /, arguments: tuple[str, ...], interactive: bool, **options: Any) -> None:
    """Show every change of a key, a range or a prefix, as it happens.

    With a command after `--`, it is run for each event, with ETCD_WATCH_REVISION, ETCD_WATCH_EVENT_TYPE, ETCD_WATCH_KEY and
    ETCD_WATCH_VALUE in its environment. ETCDCTL_WATCH_KEY and ETCDCTL_WATCH_RANGE_END may take the place of the arguments.
    """
    settings = settings_of(ctx)
    if os.environ.get("ETCDCTL_WATCH_RANGE_END") and not os.environ.get("ETCDCTL_WATCH_KEY"):
        end = goformat.quote(os.environb[b"ETCDCTL_WATCH_RANGE_END"]).decode()
        raise bad_arguments(f"ETCDCTL_WATCH_KEY is empty but got ETCDCTL_WATCH_RANGE_END={end}")
    if interactive:
        _interactive(settings)
    request = watch_request(arguments, **options)
    command = _command(ctx)

    from raftkv.cli.printers import printer
    from raftkv.cli.rpc import Connection
    from raftkv.cli.watch_stream import Following

    show = printer(settings, "watch")
    with Connection(settings) as connection:
        _print_all(Following(connection, request), show, command)
    raise Failure("watch is canceled by the server", Exit.CANCELED)


def watch_request(
    arguments: Sequence[str], *, prefix: bool, prev_kv: bool, progress_notify: bool, rev: int
) -> rpc_pb2.WatchCreateRequest:
    """The request of `watch`.

    Raises:
        Failure: too few or too many arguments, or contradicting ones.
    """
    key, end = os.environ.get("ETCDCTL_WATCH_KEY", ""), os.environ.get("ETCDCTL_WATCH_RANGE_END", "")
    if key and arguments:
        raise bad_arguments(f"{BAD_NUMBER} (found conflicting environment key)")
    words = list(arguments) or [word for word in (key, end) if word]
    if not 1 <= len(words) <= 2:
        raise bad_arguments(BAD_NUMBER)
    if len(words) == 2 and prefix:
        raise bad_arguments("`range_end` and `--prefix` are mutually exclusive")
    first = os.fsencode(words[0])
    last = os.fsencode(words[1]) if len(words) == 2 else b""
    if prefix:
        first, last = _prefix(first)
    return rpc_pb2.WatchCreateRequest(
        key=first, range_end=last, start_revision=rev, prev_kv=prev_kv, progress_notify=progress_notify
    )


def _prefix(stem: bytes) -> tuple[bytes, bytes]:
    shortened = stem.rstrip(b"\xff")
    if not shortened:
        return stem or b"\0", b"\0"
    return stem, shortened[:-1] + bytes((shortened[-1] + 1,))


def _command(ctx: click.Context) -> list[str]:
    command: list[str] | None = ctx.meta.get(_EXEC)
    if command == []:
        raise bad_arguments(f"{BAD_NUMBER} (found separator --, but no commands)")
    return command or []


def _print_all(following: Following, show: Show, command: Sequence[str]) -> None:
    """Show a watch until the server ends it."""
    for response in following.responses():
        if response.canceled:
            reason = COMPACTED if response.compact_revision else response.cancel_reason
            click.echo(f"watch was canceled ({reason})", err=True)
        elif not response.events:
            click.echo(f"progress notify: {response.header.revision}")
        show(response)
        for event in response.events if command else ():
            _run(command, response.header.revision, event)


def _run(command: Sequence[str], revision: int, event: Any) -> None:
    """Run a command for one event; it must succeed."""
    variables = {
        b"ETCD_WATCH_REVISION": str(revision).encode(),
        b"ETCD_WATCH_EVENT_TYPE": b'"DELETE"' if event.type else b'"PUT"',
        b"ETCD_WATCH_KEY": goformat.quote(event.kv.key),
        b"ETCD_WATCH_VALUE": goformat.quote(event.kv.value),
    }
    sys.stdout.flush()
    try:
        done = subprocess.run(list(command), env=dict(os.environb) | variables, check=False)  # noqa: S603 - asked for
        error = f"exit status {done.returncode}" if done.returncode > 0 else f"signal: {-done.returncode}"
        is_failed = done.returncode != 0
    except FileNotFoundError:
        error, is_failed = f'exec: "{command[0]}": executable file not found in $PATH', True
    except OSError as failure:
        error, is_failed = f"{command[0]}: {failure.strerror}", True
    if is_failed:
        words = " ".join(goformat.quote(os.fsencode(word)).decode() for word in command)
        click.echo(f"command [{words}] error ({error})", err=True)
        raise AlreadyReported


# Interactive ----------------------------------------------------------------------------------------------------------


def _interactive(settings: Settings) -> None:
    """Read lines and do what they say; it ends, as an error, with the input.

    Raises:
        Failure: always.
    """
    from raftkv.cli.printers import printer
    from raftkv.cli.rpc import Connection

    show = _one_at_a_time(printer(settings, "watch"))
    watches: list[Following] = []
    with Connection(settings) as connection:
        for line in _lines():
            words = split_words(line)
            if not words:
                click.echo(f"Invalid command: {line} (watch and progress supported)", err=True)
            elif words[0] == "progress":
                for following in watches:
                    following.request_progress()
            elif words[0] == "watch":
                _begin(connection, line, words[1:], show, watches)
            else:
                click.echo(f"Invalid command {line} (only support watch)", err=True)
    raise Failure("Error reading watch request line: EOF", Exit.INVALID_INPUT)


def _lines() -> Iterator[str]:
    for line in sys.stdin:
        if not line.endswith("\n"):
            return
        yield line[:-1]


def _begin(connection: Connection, line: str, words: list[str], show: Show, watches: list[Following]) -> None:
    """Begin the watch of one line, in a thread of its own."""
    from raftkv.cli.watch_stream import Following

    if not words and not os.environ.get("ETCDCTL_WATCH_KEY"):
        click.echo(f"Invalid command {line} (command type or key is not provided)", err=True)
        return
    try:
        with watch.make_context("watch", words, help_option_names=[]) as ctx:
            options = dict(ctx.params)
            command = _command(ctx)
    except click.NoSuchOption as error:
        raise bad_arguments(f"unknown flag: {error.option_name}") from None
    except click.UsageError as error:
        raise bad_arguments(error.message) from None
    options.pop("interactive")
    try:
        request = watch_request(options.pop("arguments"), **options)
    except Failure as error:
        click.echo(f"Invalid command {line} ({error.message})", err=True)
        return
    following = Following(connection, request)
    watches.append(following)
    threading.Thread(target=_follow, args=(following, show, command), daemon=True).start()


def _follow(following: Following, show: Show, command: Sequence[str]) -> None:
    """A thread of one watch; when its command fails, so does the program, as in etcdctl."""
    from raftkv.errors import RequestError

    try:
        _print_all(following, show, command)
    except AlreadyReported:
        sys.stdout.flush()
        os._exit(Exit.FAILED)
    except RequestError as error:
        click.echo(f"watch was canceled ({error})", err=True)


def _one_at_a_time(show: Show) -> Show:
    lock = threading.Lock()

    def locked(response: rpc_pb2.WatchResponse) -> None:
        with lock:
            show(response)

    return locked

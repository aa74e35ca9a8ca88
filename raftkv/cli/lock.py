"""`raftkv lock`: hold a lock while a command runs, or until a signal.

What may not live here: how a lock is held (`raftkv.client.locking`).

Source: grammar, texts and exit codes are etcdctl 3.4's.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from raftkv.cli import goformat
from raftkv.cli.exits import Failure, bad_arguments
from raftkv.cli.holding import (
    DEFAULT_TTL_S,
    Interrupted,
    client_of,
    interruptible,
    key_as_it_is,
    undisturbed,
)
from raftkv.cli.lazy import CliCommand
from raftkv.cli.options import Integer, settings_of
from raftkv.errors import RequestError

if TYPE_CHECKING:
    from raftkv.client import Lock

EXAMPLES = """
raftkv lock deploy                              prints the key; until Ctrl-C
raftkv lock deploy make deploy                  while the command runs; its exit code
raftkv lock deploy -- sh -c 'echo $ETCD_LOCK_KEY $ETCD_LOCK_REV'
"""
KILLED = 255


class CommandFailed(Failure):
    """The command that ran under the lock did not end with 0."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self._status = status

    @property
    def exit_code(self) -> int:  # type: ignore[override]  # As in Failure.
        return self._status


@click.command("lock", cls=CliCommand, examples=EXAMPLES)
@click.argument("arguments", metavar="NAME [COMMAND [ARG]...]", nargs=-1)
@click.option(
    "--ttl", type=Integer(minimum=-(2**63)), default="10", help="Seconds after which a dead holder's lock is free."
)
@click.pass_context
def lock(ctx: click.Context, /, arguments: tuple[str, ...], ttl: int) -> None:
    """Hold a lock, one client at a time, in the order in which they asked.

    With a command, while that runs, with ETCD_LOCK_KEY and ETCD_LOCK_REV in its environment; a command with flags needs `--`
    before it. ETCD_LOCK_REV grows from holder to holder: what the command changes can refuse a smaller one than it has seen.
    """
    settings = settings_of(ctx)
    if not arguments:
        raise bad_arguments("lock takes a lock name argument and an optional command to execute")

    from raftkv.cli.printers import printer

    show = printer(settings, "get")
    with client_of(settings) as client:
        held = client.lock(os.fsencode(arguments[0]), ttl=ttl if ttl > 0 else DEFAULT_TTL_S)
        try:
            with interruptible():
                held.acquire()
                answer = key_as_it_is(settings, held.key)
                if not answer.kvs:
                    raise Failure("lock lost on init")
                if len(arguments) > 1:
                    run_holding(held, answer.header.revision, arguments[1:])
                    return
                show(answer)
                held.lost.wait()
        except Interrupted:
            if not held.is_held:
                raise Failure("context canceled") from None
            held.release()
        else:
            raise Failure("session expired")


def run_holding(held: Lock, revision: int, command: Sequence[str]) -> None:
    """Run the command, and release the lock.

    Raises:
        CommandFailed: with the command's exit code, whatever becomes of the lock.
        Failure: it could not be run.
        RequestError: it ended well, and the lock could not be released.
    """
    sys.stdout.flush()
    with undisturbed():
        failed = _failure_of(command, {b"ETCD_LOCK_KEY": held.key, b"ETCD_LOCK_REV": b"%d" % revision})
        if held.lost.is_set():
            click.echo("the lock was lost while the command ran", err=True)
        try:
            held.release()
        except RequestError as error:
            if failed is None:
                raise
            click.echo(f"the lock was not released: {error}", err=True)
    if failed is not None:
        raise failed


def _failure_of(command: Sequence[str], variables: dict[bytes, bytes]) -> Failure | None:
    try:
        status = subprocess.run(  # noqa: S603 - asked for
            list(command), env=dict(os.environb) | variables, stdin=subprocess.DEVNULL, check=False
        ).returncode
    except FileNotFoundError:
        quoted = goformat.quote(os.fsencode(command[0])).decode()
        return Failure(f"exec: {quoted}: executable file not found in $PATH")
    except OSError as error:
        return Failure(f"fork/exec {command[0]}: {(error.strerror or str(error)).lower()}")
    if status < 0:
        return CommandFailed(f"signal: {(signal.strsignal(-status) or str(-status)).lower()}", KILLED)
    return CommandFailed(f"exit status {status}", status) if status else None

"""The root command, and the one place where an exception becomes a line on stderr and an exit code.

What may not live here: any subcommand; they are imported by name when used (see `lazy.py`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from raftkv.cli import EXTRA_BY_COMMAND
from raftkv.cli.exits import AlreadyReported, Exit
from raftkv.cli.lazy import Lazy, LazyGroup
from raftkv.errors import ConfigError, RaftkvError

COMMANDS = {
    "put": Lazy(module="raftkv.cli.kv", name="put", help="Put a key."),
    "get": Lazy(module="raftkv.cli.kv", name="get", help="Get a key or a range of keys."),
    "del": Lazy(module="raftkv.cli.kv", name="delete", help="Delete a key or a range of keys."),
    "txn": Lazy(module="raftkv.cli.txn", name="txn", help="Compare and write in one transaction, read from stdin."),
    "compaction": Lazy(module="raftkv.cli.kv", name="compaction", help="Forget history before a revision."),
    "lease": Lazy(module="raftkv.cli.lease", name="lease", help="Leases: keys that go when their owner does."),
    "lock": Lazy(module="raftkv.cli.lock", name="lock", help="Hold a lock, while a command runs or until a signal."),
    "elect": Lazy(module="raftkv.cli.elect", name="elect", help="Take part in an election, or watch it."),
    "watch": Lazy(module="raftkv.cli.watch", name="watch", help="Show changes as they happen."),
    "endpoint": Lazy(module="raftkv.cli.endpoint", name="endpoint", help="Status, health and hash of each server."),
    "member": Lazy(module="raftkv.cli.member", name="member", help="Members of the cluster."),
    "move-leader": Lazy(module="raftkv.cli.leader", name="move_leader", help="Have another member lead."),
    "snapshot": Lazy(module="raftkv.cli.snapshot", name="snapshot", help="Save, check and restore snapshots."),
    "defrag": Lazy(module="raftkv.cli.maintenance", name="defrag", help="Give free pages back to the file system."),
    "alarm": Lazy(module="raftkv.cli.maintenance", name="alarm", help="List and end alarms."),
    "check": Lazy(module="raftkv.cli.check", name="check", help="Is the cluster fast enough?"),
    "make-mirror": Lazy(
        module="raftkv.cli.mirror", name="make_mirror", help="Copy keys to another cluster, and follow."
    ),
    "why": Lazy(module="raftkv.cli.why", name="why", help="Why leadership changed: cause, evidence, votes, outage."),
    "serve": Lazy(
        module="raftkv.cli.serve", name="serve", help="Run a server (a node).", extra=EXTRA_BY_COMMAND["serve"]
    ),
    "demo": Lazy(
        module="raftkv.cli.demo",
        name="demo",
        help="Three nodes, a murdered leader, nothing lost.",
        extra=EXTRA_BY_COMMAND["demo"],
    ),
    "drill": Lazy(module="raftkv.cli.drill", name="drill", help="Break the cluster on purpose, and prove the outcome."),
    "version": Lazy(module="raftkv.cli.version", name="version", help="Version of raftkv and of the API."),
    "completion": Lazy(module="raftkv.cli.completion", name="completion", help="Completion script for a shell."),
}

# Packages that a command may find missing only when it runs.
EXTRA_BY_MODULE = {"grpc": "cli", "google": "cli", "rich": "cli", "lmdb": "server", "uvloop": "server"}

COMPLETION_VARIABLE = "_RAFTKV_COMPLETE"  # Set by the shell's completion script.

EXAMPLES = """
raftkv demo                                     see it survive
raftkv serve                                    a store on 127.0.0.1:2379
raftkv put greeting hello
raftkv get greeting
raftkv --endpoints 10.0.0.1:2379,10.0.0.2:2379 endpoint status -w table
raftkv why                                      why leadership changed, and for how long nobody led
"""


def _show_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from raftkv.cli.version import version_text

        click.echo(version_text())
        ctx.exit()


cli = LazyGroup(
    "raftkv",
    lazy=COMMANDS,
    help="A replicated key-value store that survives the death of its leader. Speaks etcd's API.",
    examples=EXAMPLES,
    params=[
        click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_show_version,
            help="Show the version and exit.",
        )
    ],
    context_settings={"help_option_names": ["-h", "--help"]},
)


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; every error of the world is one line on stderr."""
    words = list(arguments)
    if words[:1] == ["help"]:  # `etcdctl help get` is `etcdctl get --help`.
        words = [*words[1:], "--help"]
    try:
        code = _invoke(words)
        sys.stdout.flush()
    except BrokenPipeError:
        _drop_output()
        return Exit.BROKEN_PIPE
    except (click.Abort, KeyboardInterrupt):
        return Exit.INTERRUPTED
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if module not in EXTRA_BY_MODULE:
            raise
        extra = EXTRA_BY_MODULE[module]
        return report(f"raftkv needs the {extra} extra: pip install 'raftkv[{extra}]' (no module named {module})", 1)
    except AlreadyReported:
        return Exit.FAILED
    except click.ClickException as error:
        return report(error_line(error), error.exit_code)
    except ConfigError as error:
        return report(str(error), Exit.USAGE)
    except RaftkvError as error:
        return report(str(error), Exit.FAILED)
    except OSError as error:  # Of our own output, mostly: what else is read or written has been said in better words.
        _drop_output_if_broken()
        what = f"{error.filename}: " if error.filename else ""
        return report(what + (error.strerror or str(error)).lower(), Exit.FAILED)
    return code if isinstance(code, int) else Exit.OK


def _invoke(words: list[str]) -> object:
    """What click's own `main` does, without its handling of errors, which differs between its versions."""
    if COMPLETION_VARIABLE in os.environ:
        return cli.main(args=words, prog_name="raftkv", complete_var=COMPLETION_VARIABLE, standalone_mode=False)
    try:
        with cli.make_context("raftkv", words) as ctx:
            return cli.invoke(ctx)
    except click.exceptions.Exit as done:
        return done.exit_code


def report(message: str, code: int) -> int:
    """Write the one line; red on a terminal, and only there."""
    line = " ".join(message.split())
    click.echo(f"{click.style('Error:', fg='red', bold=True)} {line}", err=True)
    return code


def error_line(error: click.ClickException) -> str:
    """What is wrong, named, and what is allowed."""
    if isinstance(error, click.NoSuchOption):
        return _unknown_flag(error)
    if isinstance(error, click.MissingParameter):
        return _missing(error)
    if isinstance(error, click.BadParameter) and error.param is not None:
        named = isinstance(error.param, click.Option)
        name = max(error.param.opts, key=len) if named else str(error.param.metavar or error.param.name).upper()
        return f"invalid value for {name}: {error.message.rstrip('.')}"
    if isinstance(error, click.BadOptionUsage):
        return f"{error.message.rstrip('.')} (see --help)"
    return error.format_message()


def _unknown_flag(error: click.NoSuchOption) -> str:
    ctx = error.ctx
    if ctx is None:
        return f"unknown flag: {error.option_name}"
    names = [max(p.opts, key=len) for p in ctx.command.get_params(ctx) if isinstance(p, click.Option)]
    return f'unknown flag {error.option_name} for "{ctx.command_path}"; allowed: {", ".join(names)}'


def _missing(error: click.MissingParameter) -> str:
    parameter = error.param
    if parameter is None or parameter.name is None:
        return error.format_message()
    name = max(parameter.opts, key=len) if isinstance(parameter, click.Option) else parameter.name.upper()
    choices = ", ".join(str(choice) for choice in getattr(parameter.type, "choices", ()))
    return f"missing {parameter.param_type_name} {name}" + (f"; allowed: {choices}" if choices else "")


def _drop_output() -> None:
    """The reader of our output has gone: what is still buffered goes nowhere, without a word at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _drop_output_if_broken() -> None:
    try:
        sys.stdout.flush()
    except OSError:
        _drop_output()

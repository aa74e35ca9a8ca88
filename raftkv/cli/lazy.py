"""Click classes of ours: commands that are imported when used, global flags anywhere, help with examples.

etcdctl's flags may stand before or after the subcommand (`raftkv -w json get k`, `raftkv get k -w json`), and a boolean
flag may carry a value (`--prefix=true`). click knows neither, so `CliCommand` and `LazyGroup` both take the global options
and both rewrite `--flag=true` before parsing.

What may not live here: the options themselves (options.py), any command.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click
from click.shell_completion import CompletionItem

from raftkv.cli.exits import Failure
from raftkv.cli.options import GLOBAL_OPTIONS, Flag

_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Lazy:
    """A subcommand that is not imported yet.

    Attributes:
        module: where it is.
        name: the click command object in that module.
        help: one line for the parent's --help; written here so that --help imports nothing.
        extra: the optional dependencies it needs, `server` in `raftkv[server]`.
    """

    module: str
    name: str
    help: str
    extra: str = "cli"


class _Shared(click.Command):
    """What CliCommand and LazyGroup share: global options, `--flag=value`, help in two groups of options, examples."""

    examples: str = ""
    shared_options: Sequence[click.Option] = ()
    subcommands: Collection[str] = ()

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        return [*super().get_params(ctx), *self.shared_options, *GLOBAL_OPTIONS]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        # A group leaves what follows the subcommand's name to the subcommand.
        end = next((at for at, word in enumerate(args) if word in self.subcommands), len(args))
        return super().parse_args(ctx, spell_out_flags(args[:end], self.get_params(ctx), ctx) + args[end:])

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        own: list[tuple[str, str]] = []
        everywhere: list[tuple[str, str]] = []
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                (everywhere if parameter in GLOBAL_OPTIONS else own).append(record)
        for title, rows in (("Options", own), ("Global options", everywhere)):
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)
        if isinstance(self, click.Group):
            self.format_commands(ctx, formatter)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.examples:
            with formatter.section("Examples"):
                for line in self.examples.strip("\n").splitlines():
                    formatter.write(f"  {line}\n" if line else "\n")


class CliCommand(_Shared):
    """A command of ours; `examples` are shown verbatim below the options."""

    def __init__(
        self, *args: Any, examples: str = "", shared_options: Sequence[click.Option] = (), **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples
        self.shared_options = shared_options


class LazyGroup(_Shared, click.Group):
    """A group whose subcommands are imported when they are used."""

    def __init__(
        self,
        *args: Any,
        lazy: Mapping[str, Lazy],
        examples: str = "",
        shared_options: Sequence[click.Option] = (),
        **kwargs: Any,
    ) -> None:
        kwargs |= {"invoke_without_command": True, "callback": show_help_if_alone}
        super().__init__(*args, **kwargs)
        self.lazy = self.subcommands = lazy
        self.examples = examples
        self.shared_options = shared_options

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = self.lazy.get(cmd_name)
        return None if entry is None else load(entry, f"{ctx.command_path} {cmd_name}")

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in self.lazy and not ctx.resilient_parsing:
            allowed = ", ".join(self.lazy)
            raise click.UsageError(f'unknown command "{name}" for "{ctx.command_path}"; allowed: {allowed}', ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in self.lazy.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        names = [
            CompletionItem(name, help=entry.help) for name, entry in self.lazy.items() if name.startswith(incomplete)
        ]
        return names + click.Command.shell_complete(self, ctx, incomplete)


def load(entry: Lazy, path: str) -> click.Command:
    """Import a subcommand.

    Raises:
        Failure: an optional dependency is missing, or the subcommand itself.
    """
    try:
        module = importlib.import_module(entry.module)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if missing == entry.module:
            raise Failure(f"{path} is not part of this installation of raftkv") from None
        if missing.partition(".")[0] == "raftkv":
            raise
        raise Failure(
            f"{path} needs the {entry.extra} extra: pip install 'raftkv[{entry.extra}]' (no module named {missing})"
        ) from None
    command = getattr(module, entry.name)
    assert isinstance(command, click.Command), f"{entry.module}.{entry.name} is a {type(command)}"
    return command


def show_help_if_alone(**_: Any) -> None:
    """A group without a subcommand shows its help, as etcdctl does."""
    ctx = click.get_current_context()
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def spell_out_flags(args: Sequence[str], parameters: Sequence[click.Parameter], ctx: click.Context) -> list[str]:
    """Rewrite `--flag=true` to `--flag`, `--flag=false` to `--no-flag`, and `-w=json` to `-wjson`, up to a `--`.

    Raises:
        click.BadParameter: a boolean flag with a value that is no boolean.
    """
    flags = {name: p for p in parameters if isinstance(p, Flag) for name in p.opts}
    shorts = {name for p in parameters for name in p.opts if len(name) == 2}
    spelled: list[str] = []
    for at, word in enumerate(args):
        if word == "--":
            return [*spelled, *args[at:]]
        name, equals, value = word.partition("=")
        if equals and name in flags:
            if value not in _TRUE | _FALSE:
                raise click.BadParameter(f'"{value}" is neither true nor false', ctx, flags[name])
            spelled.append(name if value in _TRUE else flags[name].secondary_opts[0])
        else:
            spelled.append(name + value if equals and name in shorts else word)
    return spelled

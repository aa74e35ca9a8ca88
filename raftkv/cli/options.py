"""Global flags, the types of flag values, and `Settings`: what a command needs to know of them.

A global flag may be given before or after the subcommand, or in the environment: `--write-out`, `$RAFTKV_WRITE_OUT`,
`$ETCDCTL_WRITE_OUT`, in this order. The nearest to the command wins.

What may not live here: gRPC, output, any command.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import click

from raftkv.cli import goformat

ENVIRONMENT_PREFIXES = ("RAFTKV_", "ETCDCTL_")
FORMATS = ("simple", "json", "table", "fields", "protobuf")
_META = "raftkv.cli.globals"  # Where click carries the flags that were given, shared by a context and its children.


class Duration(click.ParamType):  # type: ignore[type-arg]  # Not generic in older clicks.
    """Seconds, written as Go writes durations; positive, or 0 too where that turns something off."""

    name = "duration"

    def __init__(self, *, zero: bool = False) -> None:
        self.zero = zero

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        try:
            seconds = goformat.parse_duration(value)
        except ValueError:
            seconds = -1.0
        if seconds < 0 or (seconds == 0 and not self.zero):
            above = "" if self.zero else " above zero"
            self.fail(f'"{value}" is not a duration{above}, such as 300ms, 5s or 1m30s', param, ctx)
        return seconds


class Integer(click.ParamType):  # type: ignore[type-arg]
    """A 64-bit integer, at least `minimum`; in hexadecimal where `base` is 16."""

    name = "integer"

    def __init__(self, *, minimum: int = 0, base: int = 10, what: str = "a number") -> None:
        self.minimum = minimum
        self.base = base
        self.what = what

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            number = goformat.parse_int(value, self.base)
        except ValueError:
            number = self.minimum - 1
        if number < self.minimum:
            limits = f"{self.minimum} to {2**63 - 1}" if self.base == 10 else f"{self.minimum:x} to {2**63 - 1:x}"
            self.fail(f'"{value}" is not {self.what} ({limits})', param, ctx)
        return number


class OneOf(click.ParamType):  # type: ignore[type-arg]
    """One of a few words, in any case where `any_case`; nothing at all means the default."""

    name = "word"

    def __init__(self, *words: str, any_case: bool = False) -> None:
        self.words = words
        self.any_case = any_case

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        word = str(value).upper() if self.any_case else str(value)
        if word not in self.words and not (self.any_case and not word):
            self.fail(f'"{value}" is not one of {", ".join(self.words)}', param, ctx)
        return word

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        from click.shell_completion import CompletionItem

        wanted = incomplete.upper() if self.any_case else incomplete
        return [CompletionItem(word) for word in self.words if word.startswith(wanted)]


class Endpoints(click.ParamType):  # type: ignore[type-arg]
    """`HOST:PORT,HOST:PORT`, each with http:// or https:// before it or not."""

    name = "endpoints"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        endpoints = tuple(word.strip() for word in str(value).split(",") if word.strip())
        if not endpoints:
            self.fail("no endpoint given; allowed: HOST:PORT[,HOST:PORT...]", param, ctx)
        for endpoint in endpoints:
            if not _is_endpoint(endpoint):
                self.fail(f'"{endpoint}" is not HOST:PORT, http://HOST:PORT or https://HOST:PORT', param, ctx)
        return endpoints


def _is_endpoint(endpoint: str) -> bool:
    scheme, separator, address = endpoint.rpartition("://")
    if separator and scheme not in {"http", "https", "unix", "unixs"}:
        return False
    if scheme.startswith("unix"):
        return bool(address)
    host, _, port = address.rpartition(":")
    in_brackets = host.startswith("[") and host.endswith("]")
    return bool(host) and (in_brackets or ":" not in host) and port.isascii() and port.isdigit() and int(port) < 65536


class Flag(click.Option):
    """A boolean flag that has a hidden `--no-` twin, for `--flag=false` (see `lazy.spell_out_flags`)."""

    def __init__(self, param_decls: Sequence[str], **settings: Any) -> None:
        both = [name if not name.startswith("--") else f"{name}/--no-{name[2:]}" for name in param_decls]
        super().__init__(both, is_flag=True, **settings)

    def get_help_record(self, ctx: click.Context) -> tuple[str, str]:
        return ", ".join(sorted(self.opts, key=len)), self.help or ""


def flag(*names: str, **settings: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A boolean flag of a command: false unless given."""
    return click.option(*names, cls=Flag, default=False, **settings)


def _remember(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """Keep a global flag that was given; one given twice (before and after the subcommand) counts as the later one."""
    assert param.name is not None
    if value is not None and value != ():
        given = ctx.meta.setdefault(_META, {})
        if param.multiple if isinstance(param, click.Option) else False:
            value = given.get(param.name, ()) + tuple(word for words in value for word in words)
        given[param.name] = value


def shared_option(*names: str, **settings: Any) -> click.Option:
    """An option that a group and its subcommands share, whose value `given` finds."""
    return click.Option(names, expose_value=False, callback=_remember, **settings)


def shared_flag(*names: str, **settings: Any) -> click.Option:
    """A boolean `shared_option`."""
    return Flag(names, default=None, expose_value=False, callback=_remember, **settings)


def given(ctx: click.Context) -> dict[str, Any]:
    """The shared and global flags of this command line, by parameter name."""
    flags: dict[str, Any] = ctx.meta.get(_META, {})
    return flags


GLOBAL_OPTIONS: tuple[click.Option, ...] = (
    shared_option(
        "--endpoints", type=Endpoints(), multiple=True, help="Servers to talk to, in turn.  [default: 127.0.0.1:2379]"
    ),
    shared_option(
        "-w", "--write-out", type=OneOf(*FORMATS), metavar="FORMAT", help=f"{', '.join(FORMATS)}.  [default: simple]"
    ),
    shared_flag("--hex", help="Print keys and values as \\xNN."),
    shared_option("--command-timeout", type=Duration(), help="How long a command may take.  [default: 5s]"),
    shared_option("--dial-timeout", type=Duration(), help="How long to look for a server that answers.  [default: 2s]"),
    shared_option("--keepalive-time", type=Duration(), help="Ping a silent server after this.  [default: 2s]"),
    shared_option("--keepalive-timeout", type=Duration(), help="Give up a ping after this.  [default: 6s]"),
    shared_option("--cacert", type=click.Path(), help="CA bundle that the servers' certificates must chain to."),
    shared_option("--cert", type=click.Path(), help="Client certificate."),
    shared_option("--key", type=click.Path(), help="Key of the client certificate."),
    shared_flag("--insecure-transport", help="No TLS, except to https:// endpoints.  [default: true]"),
    shared_option("--user", metavar="NAME[:PASSWORD]", help="Log in; asks for the password if it is left out."),
    shared_option("--password", help="Password of --user."),
    shared_flag("--debug", help="Tell on stderr what is tried."),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    r"""The global flags of one command.

    Attributes:
        endpoints: `HOST:PORT`, with a scheme or not; at least one.
        write_out: one of FORMATS.
        hex: print keys and values as `\xNN`.
        command_timeout: seconds, for the whole command, every endpoint tried.
        dial_timeout: seconds, how long it may take until some server accepts a connection.
        keepalive_time: seconds, silence after which a server is pinged.
        keepalive_timeout: seconds, how long a ping may stay unanswered.
        cacert, cert, key: paths of PEM files, or empty.
        insecure_transport: False asks for TLS to every endpoint.
        user, password: for the Auth service; empty: no login.
        debug: tell on stderr what is tried.
    """

    endpoints: tuple[str, ...] = ("127.0.0.1:2379",)
    write_out: str = "simple"
    hex: bool = False
    command_timeout: float = 5.0
    dial_timeout: float = 2.0
    keepalive_time: float = 2.0
    keepalive_timeout: float = 6.0
    cacert: str = ""
    cert: str = ""
    key: str = ""
    insecure_transport: bool = True
    user: str = ""
    password: str = ""
    debug: bool = False


def settings_of(ctx: click.Context) -> Settings:
    """The global flags: from the command line, else the environment, else the default.

    Raises:
        click.UsageError: a value in the environment is wrong; the message names the variable.
    """
    values: dict[str, Any] = {}
    for parameter in GLOBAL_OPTIONS:
        name = parameter.name
        assert name is not None
        if name in given(ctx):
            values[name] = given(ctx)[name]
        elif (found := _from_environment(parameter, ctx)) is not None:
            values[name] = found
    if values.get("user") and ":" not in values["user"] and not values.get("password"):
        values["password"] = _ask_password(ctx)
    return Settings(**values)


def _ask_password(ctx: click.Context) -> str:
    if not sys.stdin.isatty():
        raise click.UsageError("--user has no password; allowed: --user NAME:PASSWORD, or --password", ctx)
    password: str = click.prompt("Password", hide_input=True, err=True)
    return password


def _from_environment(parameter: click.Option, ctx: click.Context) -> Any:
    assert parameter.name is not None
    for prefix in ENVIRONMENT_PREFIXES:
        variable = prefix + parameter.name.upper()
        text = os.environ.get(variable, "")
        if text:
            try:
                return parameter.type.convert(text, parameter, ctx)
            except click.BadParameter as error:
                raise click.UsageError(f"invalid value of ${variable}: {error.message}", ctx) from None
    return None

"""`raftkv member add|remove|update|promote|list|replace`.

What may not live here: which changes are possible and safe; the leader says that.

Source: grammar, checks and texts are etcdctl 3.4's; `replace` is ours.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from raftkv.cli.exits import Failure, bad_arguments
from raftkv.cli.lazy import CliCommand, Lazy, LazyGroup
from raftkv.cli.options import Settings, flag, settings_of

if TYPE_CHECKING:
    from raftkv.cli.printers import MemberResponse
    from raftkv.cli.rpc import Connection

LIST_EXAMPLES = """
raftkv member list
raftkv member list -w table
"""
ADD_EXAMPLES = """
raftkv member add n4 --peer-urls=http://10.0.0.4:2380
raftkv member add n4 --peer-urls=http://10.0.0.4:2380 --learner
"""
REMOVE_EXAMPLES = "raftkv member remove 8e9e05c52164694d\n"
UPDATE_EXAMPLES = "raftkv member update 8e9e05c52164694d --peer-urls=http://10.0.0.9:2380\n"
PROMOTE_EXAMPLES = "raftkv member promote 8e9e05c52164694d\n"

member = LazyGroup(
    "member",
    lazy={
        "add": Lazy(module=__name__, name="member_add", help="Add a member; then start it with what is printed."),
        "remove": Lazy(module=__name__, name="member_remove", help="Remove a member; it stops by itself."),
        "update": Lazy(module=__name__, name="member_update", help="Give a member other peer URLs."),
        "promote": Lazy(module=__name__, name="member_promote", help="Have a learner vote."),
        "list": Lazy(module=__name__, name="member_list", help="All members: ID, status, name, addresses."),
        "replace": Lazy(
            module="raftkv.cli.member_replace", name="member_replace", help="Put a new member in place of a dead one."
        ),
    },
    help="Members of the cluster.",
    examples=LIST_EXAMPLES + ADD_EXAMPLES.lstrip("\n") + REMOVE_EXAMPLES,
)


@click.command("list", cls=CliCommand, examples=LIST_EXAMPLES)
@click.argument("arguments", nargs=-1, metavar="")
@click.pass_context
def member_list(ctx: click.Context, arguments: tuple[str, ...]) -> None:
    """List the members: ID, status, name, peer addresses, client addresses, whether it is a learner."""
    settings = settings_of(ctx)
    if arguments:
        raise bad_arguments("member list command does not accept argument")

    from raftkv.cli.printers import printer
    from raftkv.cli.rpc import Connection

    show = printer(settings, "member_list")
    with Connection(settings) as connection:
        show(connection.member_list())


@click.command("add", cls=CliCommand, examples=ADD_EXAMPLES)
@click.argument("arguments", nargs=-1, metavar="NAME")
@click.option("--peer-urls", default="", metavar="URLS", help="Where peers will reach it.")
@flag("--learner", help="It gets the log, and does not vote until it is promoted.")
@click.pass_context
def member_add(ctx: click.Context, arguments: tuple[str, ...], peer_urls: str, learner: bool) -> None:
    """Add a member and print what to start it with.

    The new node is started with an empty data directory and --initial-cluster-state existing.
    """
    settings = settings_of(ctx)
    if len(arguments) < 1:
        raise bad_arguments("member name not provided")
    if len(arguments) > 1:
        raise bad_arguments("too many arguments")
    if not peer_urls:
        raise bad_arguments("member peer urls not provided")
    urls = checked_urls(peer_urls)

    from raftkv.cli.printers import MemberAdded, printer
    from raftkv.cli.rpc import Connection

    show = printer(settings, "member_add")
    with Connection(settings) as connection:
        show(MemberAdded(name=arguments[0], response=connection.member_add(urls, learner=learner)))


@click.command("remove", cls=CliCommand, examples=REMOVE_EXAMPLES)
@click.argument("arguments", nargs=-1, metavar="MEMBER_ID")
@click.pass_context
def member_remove(ctx: click.Context, arguments: tuple[str, ...]) -> None:
    """Remove a member. If it runs it stops by itself; if it is down, when it is started next."""
    settings = settings_of(ctx)
    node = parsed_id(arguments)
    _change(settings, "member_remove", node, lambda connection: connection.member_remove(node))


@click.command("update", cls=CliCommand, examples=UPDATE_EXAMPLES)
@click.argument("arguments", nargs=-1, metavar="MEMBER_ID")
@click.option("--peer-urls", default="", metavar="URLS", help="Where peers will reach it.")
@click.pass_context
def member_update(ctx: click.Context, arguments: tuple[str, ...], peer_urls: str) -> None:
    """Give a member other peer URLs, before it is started with them."""
    settings = settings_of(ctx)
    node = parsed_id(arguments)
    if not peer_urls:
        raise bad_arguments("member peer urls not provided")
    urls = checked_urls(peer_urls)
    _change(settings, "member_update", node, lambda connection: connection.member_update(node, urls))


@click.command("promote", cls=CliCommand, examples=PROMOTE_EXAMPLES)
@click.argument("arguments", nargs=-1, metavar="MEMBER_ID")
@click.pass_context
def member_promote(ctx: click.Context, arguments: tuple[str, ...]) -> None:
    """Have a learner vote; refused until it has caught up with the leader."""
    settings = settings_of(ctx)
    node = parsed_id(arguments)
    _change(settings, "member_promote", node, lambda connection: connection.member_promote(node))


def _change(settings: Settings, kind: str, node: int, send: Callable[[Connection], MemberResponse]) -> None:
    """Have a change of one member made, and print what came of it."""
    from raftkv.cli.printers import MemberChanged, printer
    from raftkv.cli.rpc import Connection

    show = printer(settings, kind)  # An impossible format is refused before anything is changed.
    with Connection(settings) as connection:
        show(MemberChanged(member=node, response=send(connection)))


def parsed_id(arguments: Sequence[str]) -> int:
    """A member ID in hexadecimal."""
    if len(arguments) != 1:
        raise bad_arguments("member ID is not provided")
    try:
        return parsed_hexadecimal(arguments[0])
    except ValueError as error:
        raise bad_arguments(f"bad member ID arg ({error}), expecting ID in Hex") from None


def parsed_hexadecimal(text: str) -> int:
    """As Go's strconv.ParseUint does it.

    Raises:
        ValueError: in its words.
    """
    if not text or not set(text) <= set(string.hexdigits):
        raise ValueError(f'strconv.ParseUint: parsing "{text}": invalid syntax')
    number = int(text, 16)
    if number >= 2**64:
        raise ValueError(f'strconv.ParseUint: parsing "{text}": value out of range')
    return number


def checked_urls(text: str) -> list[str]:
    """Peer URLs as etcd's client takes them.

    Raises:
        Failure: in the words of Go's etcd client.
    """
    urls = [url.strip() for url in text.split(",")]
    for url in urls:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https", "unix", "unixs"):
            raise Failure(f"URL scheme must be http, https, unix, or unixs: {url}")
        if not _is_host_and_port(parts.netloc):
            raise Failure(f'URL address does not have the form "host:port": {url}')
        if parts.path:
            raise Failure(f"URL must not contain a path: {url}")
    return sorted(urls)


def _is_host_and_port(netloc: str) -> bool:
    host, colon, _ = netloc.rpartition(":")
    return bool(colon) and (":" not in host or (host.startswith("[") and host.endswith("]")))

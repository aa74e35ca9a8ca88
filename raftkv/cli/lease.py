"""`raftkv lease grant|revoke|timetolive|keep-alive|list`.

What may not live here: how answers become text (printers).

Source: grammar, texts and exit codes are etcdctl 3.4's.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from raftkv.cli import goformat
from raftkv.cli.exits import Exit, Failure, bad_arguments
from raftkv.cli.lazy import CliCommand, Lazy, LazyGroup
from raftkv.cli.options import flag, settings_of

if TYPE_CHECKING:
    from raftkv.cli.rpc import Connection
    from raftkv.pb import rpc_pb2

RENEWALS_PER_TTL = 3
RETRY_S = 0.1
NOT_FOUND = "etcdserver: requested lease not found"

GRANT_EXAMPLES = "raftkv lease grant 60                           prints the lease's ID\n"
REVOKE_EXAMPLES = "raftkv lease revoke 32695410dcc0ca06            deletes its keys, too\n"
TIME_EXAMPLES = "raftkv lease timetolive 32695410dcc0ca06 --keys\n"
KEEP_ALIVE_EXAMPLES = """
raftkv lease keep-alive 32695410dcc0ca06        until it is gone
raftkv lease keep-alive --once 32695410dcc0ca06
"""
LIST_EXAMPLES = "raftkv lease list\n"

lease = LazyGroup(
    "lease",
    lazy={
        "grant": Lazy(module=__name__, name="lease_grant", help="Create a lease with a TTL in seconds."),
        "revoke": Lazy(module=__name__, name="lease_revoke", help="End a lease, and delete its keys."),
        "timetolive": Lazy(module=__name__, name="lease_timetolive", help="How long a lease lives, and its keys."),
        "keep-alive": Lazy(module=__name__, name="lease_keep_alive", help="Renew a lease, again and again."),
        "list": Lazy(module=__name__, name="lease_list", help="All leases."),
    },
    help="Leases: keys that go when their owner does.",
    examples=GRANT_EXAMPLES + "raftkv put alive/me yes --lease=32695410dcc0ca06\n" + KEEP_ALIVE_EXAMPLES.lstrip("\n"),
)


@click.command("grant", cls=CliCommand, examples=GRANT_EXAMPLES)
@click.argument("arguments", nargs=-1, metavar="TTL")
@click.pass_context
def lease_grant(ctx: click.Context, arguments: tuple[str, ...]) -> None:
    """Create a lease that lives for TTL seconds unless it is renewed; prints its ID."""
    settings = settings_of(ctx)
    if len(arguments) != 1:
        raise bad_arguments("lease grant command needs TTL argument")
    try:
        ttl = goformat.parse_int(arguments[0])
    except ValueError as error:
        raise bad_arguments(f"bad TTL ({_go_error(arguments[0], error)})") from None

    from raftkv.cli.printers import printer
    from raftkv.cli.rpc import Connection

    show = printer(settings, "lease_grant")
    with Connection(settings) as connection, _said("failed to grant lease"):
        show(connection.lease_grant(ttl))


@click.command("revoke", cls=CliCommand, examples=REVOKE_EXAMPLES)
@click.argument("arguments", nargs=-1, metavar="LEASE_ID")
@click.pass_context
def lease_revoke(ctx: click.Context, arguments: tuple[str, ...]) -> None:
    """End a lease now: its keys are deleted."""
    settings = settings_of(ctx)
    if len(arguments) != 1:
        raise bad_arguments("lease revoke command needs 1 argument")
    lease_id = _lease_id(arguments)

    from raftkv.cli.printers import LeaseRevoked, printer
    from raftkv.cli.rpc import Connection

    show = printer(settings, "lease_revoke")
    with Connection(settings) as connection, _said("failed to revoke lease"):
        show(LeaseRevoked(lease=lease_id, response=connection.lease_revoke(lease_id)))


@click.command("timetolive", cls=CliCommand, examples=TIME_EXAMPLES)
@click.argument("arguments", nargs=-1, metavar="LEASE_ID")
@flag("--keys", help="Show the keys that hang on it, too.")
@click.pass_context
def lease_timetolive(ctx: click.Context, arguments: tuple[str, ...], keys: bool) -> None:
    """Show how long a lease was granted for, and how long it has left."""
    settings = settings_of(ctx)
    if len(arguments) != 1:
        raise bad_arguments("lease timetolive command needs lease ID as argument")
    lease_id = _lease_id(arguments)

    from raftkv.cli.printers import LeaseTime, printer
    from raftkv.cli.rpc import Connection

    show = printer(settings, "lease_timetolive")
    with Connection(settings) as connection:
        show(LeaseTime(response=connection.lease_time_to_live(lease_id, keys=keys), with_keys=keys))


@click.command("keep-alive", cls=CliCommand, examples=KEEP_ALIVE_EXAMPLES)
@click.argument("arguments", nargs=-1, metavar="LEASE_ID")
@flag("--once", help="Renew it once, and end.")
@click.pass_context
def lease_keep_alive(ctx: click.Context, arguments: tuple[str, ...], once: bool) -> None:
    """Renew a lease three times in its TTL, until it is gone. Servers that fail meanwhile are asked again until the TTL has passed."""
    settings = settings_of(ctx)
    if len(arguments) != 1:
        raise bad_arguments("lease keep-alive command needs lease ID as argument")
    lease_id = _lease_id(arguments)

    from raftkv.cli.printers import printer
    from raftkv.cli.rpc import Connection

    show = printer(settings, "lease_keep_alive")
    expires_at = 0.0
    with Connection(settings) as connection:
        while (answer := renewed(connection, lease_id, expires_at)).TTL > 0:
            expires_at = time.monotonic() + answer.TTL
            show(answer)
            if once:
                return
            time.sleep(answer.TTL / RENEWALS_PER_TTL)
    if once:
        raise Failure(NOT_FOUND, Exit.USAGE)  # etcdctl's code for it, whatever it means there.
    if settings.write_out == "simple":
        click.echo(f"lease {lease_id:016x} expired or revoked.")


def renewed(connection: Connection, lease_id: int, expires_at: float) -> rpc_pb2.LeaseKeepAliveResponse:
    """The answer to one renewal, which is tried until the lease has surely expired (on `time.monotonic()`), and once at least.

    Raises:
        RequestError: it was refused, or nobody answered.
    """
    from raftkv.errors import DeadlineExceeded, Unavailable

    while True:
        try:
            return connection.lease_keep_alive(lease_id)
        except (Unavailable, DeadlineExceeded):
            if time.monotonic() >= expires_at:
                raise
        time.sleep(RETRY_S)


@click.command("list", cls=CliCommand, examples=LIST_EXAMPLES)
@click.argument("arguments", nargs=-1, metavar="")
@click.pass_context
def lease_list(ctx: click.Context, arguments: tuple[str, ...]) -> None:
    """List the IDs of all leases."""
    del arguments  # etcdctl passes over them too.
    settings = settings_of(ctx)

    from raftkv.cli.printers import printer
    from raftkv.cli.rpc import Connection

    show = printer(settings, "lease_list")
    with Connection(settings) as connection:
        show(connection.leases())


def _lease_id(arguments: Sequence[str]) -> int:
    try:
        return goformat.parse_int(arguments[0], 16)
    except ValueError as error:
        reason = _go_error(arguments[0], error)
        raise bad_arguments(f"bad lease ID arg ({reason}), expecting ID in Hex") from None


def _go_error(text: str, error: ValueError) -> str:
    return f'strconv.ParseInt: parsing "{text}": {error}'


@contextmanager
def _said(what: str) -> Iterator[None]:
    """The words of etcdctl around an error of the server."""
    from raftkv.errors import RequestError

    try:
        yield
    except RequestError as error:
        raise Failure(f"{what} ({error.message})") from None

"""`raftkv endpoint status|health|hashkv`: what each server says of itself.

Every endpoint is asked on its own; one that fails is told of on stderr, the others are printed, and the exit code is 1.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

import click

from raftkv.cli.exits import AlreadyReported, Failure, bad_arguments
from raftkv.cli.lazy import CliCommand, Lazy, LazyGroup
from raftkv.cli.options import Integer, Settings, given, settings_of, shared_flag
from raftkv.errors import PermissionDenied, RequestError

CLUSTER = (shared_flag("--cluster", help="Ask every member of the cluster (from its member list)."),)
PARALLEL_MAX = 16
Answer = TypeVar("Answer")

STATUS_EXAMPLES = """
raftkv endpoint status -w table
raftkv --endpoints 10.0.0.1:2379,10.0.0.2:2379 endpoint status
raftkv endpoint status --cluster -w json
"""
HEALTH_EXAMPLES = """
raftkv endpoint health
raftkv endpoint health --cluster -w table
raftkv endpoint health --command-timeout 1s || page-somebody
"""
HASHKV_EXAMPLES = """
raftkv endpoint hashkv --cluster                the same number everywhere
raftkv endpoint hashkv --cluster --rev 1234     at one revision, while writes go on
"""

endpoint = LazyGroup(
    "endpoint",
    lazy={
        "status": Lazy(module=__name__, name="status", help="Version, size, leader, term and indexes of each server."),
        "health": Lazy(module=__name__, name="health", help="Whether each server can complete a linearizable read."),
        "hashkv": Lazy(module=__name__, name="hashkv", help="Hash of each server's history."),
    },
    help="What each server says of itself.",
    examples="raftkv endpoint status --cluster -w table\nraftkv endpoint health",
    shared_options=CLUSTER,
)


@click.command("status", cls=CliCommand, examples=STATUS_EXAMPLES, shared_options=CLUSTER)
@click.argument("arguments", nargs=-1, metavar="")
@click.pass_context
def status(ctx: click.Context, arguments: tuple[str, ...]) -> None:
    """Show endpoint, ID, version, database size, leader?, learner?, Raft term, index, applied index and errors."""
    settings = _settings(ctx, arguments, "status")

    from raftkv.cli.printers import EndpointStatus, printer
    from raftkv.cli.rpc import Connection

    show = printer(settings, "endpoint_status")

    def ask(address: str) -> EndpointStatus:
        with Connection(settings, [address]) as connection:
            return EndpointStatus(endpoint=address, response=connection.status())

    found, errors = _ask_all(settings, ask, "status")
    show(found)
    if errors:
        raise AlreadyReported


@click.command("hashkv", cls=CliCommand, examples=HASHKV_EXAMPLES, shared_options=CLUSTER)
@click.argument("arguments", nargs=-1, metavar="")
@click.option("--rev", type=Integer(), default="0", help="Hash up to this revision; 0: everything.")
@click.pass_context
def hashkv(ctx: click.Context, arguments: tuple[str, ...], rev: int) -> None:
    """Show the hash of each server's history; equal hashes at one revision mean equal contents."""
    settings = _settings(ctx, arguments, "hashkv")

    from raftkv.cli.printers import EndpointHash, printer
    from raftkv.cli.rpc import Connection

    show = printer(settings, "endpoint_hashkv")

    def ask(address: str) -> EndpointHash:
        with Connection(settings, [address]) as connection:
            return EndpointHash(endpoint=address, response=connection.hash_kv(rev))

    found, errors = _ask_all(settings, ask, "hash")
    show(found)
    if errors:
        raise Failure(errors[-1].message)


@click.command("health", cls=CliCommand, examples=HEALTH_EXAMPLES, shared_options=CLUSTER)
@click.argument("arguments", nargs=-1, metavar="")
@click.pass_context
def health(ctx: click.Context, arguments: tuple[str, ...]) -> None:
    """Check that each server can complete a linearizable read; exit code 1 if any cannot."""
    settings = _settings(ctx, arguments, "health")

    from raftkv.cli.printers import EndpointHealth, printer
    from raftkv.cli.rpc import Connection
    from raftkv.pb.rpc_pb2 import RangeRequest

    show = printer(settings, "endpoint_health")

    def ask(address: str) -> EndpointHealth:
        started = time.monotonic()
        error = ""
        with Connection(settings, [address]) as connection:
            try:
                connection.range(RangeRequest(key=b"health"))
            except PermissionDenied:
                pass  # The refusal itself went through consensus.
            except RequestError as refusal:
                error = refusal.message
        return EndpointHealth(endpoint=address, took_s=time.monotonic() - started, error=error)

    with ThreadPoolExecutor(PARALLEL_MAX) as pool:
        found = list(pool.map(ask, settings.endpoints))
    show(found)
    sick = [one for one in found if one.error]
    if settings.write_out == "simple":
        for one in sick:
            click.echo(f"{one.endpoint} is unhealthy: failed to commit proposal: {one.error}", err=True)
    if sick:
        raise Failure("unhealthy cluster")


def _settings(ctx: click.Context, arguments: tuple[str, ...], command: str) -> Settings:
    """The global flags, with those endpoints that are to be asked."""
    settings = settings_of(ctx)
    if arguments:
        raise bad_arguments(f"endpoint {command} command does not accept argument")
    return endpoints_of(ctx, settings)


def endpoints_of(ctx: click.Context, settings: Settings) -> Settings:
    """With the members' addresses for endpoints, if --cluster was given."""
    if not given(ctx).get("cluster"):
        return settings

    from raftkv.cli.rpc import Connection

    with Connection(settings) as connection:
        try:
            members = connection.member_list().members
        except RequestError as error:
            raise Failure(f"failed to fetch endpoints from etcd cluster member list: {error.message}") from None
    addresses = tuple(url for member in members for url in member.clientURLs)
    if not addresses:
        raise Failure("no member of the cluster has a client address yet")
    return replace(settings, endpoints=addresses)


def _ask_all(settings: Settings, ask: Callable[[str], Answer], what: str) -> tuple[list[Answer], list[RequestError]]:
    """Ask the endpoints side by side; answers and errors in their order."""

    def attempt(address: str) -> Answer | RequestError:
        try:
            return ask(address)
        except RequestError as error:
            return error

    with ThreadPoolExecutor(PARALLEL_MAX) as pool:
        outcomes = list(pool.map(attempt, settings.endpoints))
    errors = []
    for address, outcome in zip(settings.endpoints, outcomes, strict=True):
        if isinstance(outcome, RequestError):
            errors.append(outcome)
            click.echo(f"Failed to get the {what} of endpoint {address} ({outcome.message})", err=True)
    return [outcome for outcome in outcomes if not isinstance(outcome, RequestError)], errors

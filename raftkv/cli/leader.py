"""`raftkv move-leader`: another member leads, without a failed request.

What may not live here: the transfer itself, which is the leader's business.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from raftkv.cli.exits import Failure, bad_arguments
from raftkv.cli.lazy import CliCommand
from raftkv.cli.member import parsed_hexadecimal
from raftkv.cli.options import Settings, settings_of
from raftkv.errors import RequestError
from raftkv.pb import rpc_pb2

if TYPE_CHECKING:
    from raftkv.cli.printers import EndpointStatus

EXAMPLES = """
raftkv move-leader                              to the most up-to-date healthy follower
raftkv move-leader --to n2
raftkv move-leader 8e9e05c52164694d             as etcdctl has it
"""
PARALLEL_MAX = 16
LOOK_S = 0.5
"""A member that cannot be reached within this is no candidate."""


@click.command("move-leader", cls=CliCommand, examples=EXAMPLES)
@click.argument("arguments", nargs=-1, metavar="[MEMBER_ID]")
@click.option("--to", "successor", default=None, metavar="NAME|ID", help="Who is to lead: a name, or an ID (hex).")
@click.pass_context
def move_leader(ctx: click.Context, arguments: tuple[str, ...], successor: str | None) -> None:
    """Transfer leadership to another member; requests that run meanwhile are held, not failed.

    Without --to the follower that is furthest along is chosen. The leader is found through the member list.
    """
    settings = settings_of(ctx)
    if len(arguments) > 1 or (arguments and successor):
        raise bad_arguments("move-leader command needs 1 argument")

    from raftkv.cli.printers import LeaderMoved, printer
    from raftkv.cli.rpc import Connection

    show = printer(settings, "move_leader")
    wanted = _parsed_id(arguments[0]) if arguments else None
    with Connection(settings) as connection:
        members = connection.member_list().members
    statuses = statuses_of(settings, members)
    leader = next((one for one in statuses if _leads(one)), None)
    if leader is None:
        raise Failure("no member leads now; try again in a moment")
    if wanted is None:
        wanted = _named(successor, members) if successor else most_up_to_date(statuses)
    with Connection(settings, [leader.endpoint]) as connection:
        response = connection.move_leader(wanted)
    show(LeaderMoved(leader=leader.response.header.member_id, successor=wanted, response=response))


def statuses_of(settings: Settings, members: Sequence[rpc_pb2.Member]) -> list[EndpointStatus]:
    """What those members say of themselves that answer; asked at the endpoints given and at the members' own."""
    from raftkv.cli.printers import EndpointStatus
    from raftkv.cli.rpc import Connection

    quick = replace(settings, dial_timeout=min(LOOK_S, settings.dial_timeout))

    def ask(address: str) -> EndpointStatus | None:
        try:
            with Connection(quick, [address]) as connection:
                return EndpointStatus(endpoint=address, response=connection.status())
        except RequestError:
            return None

    addresses = dict.fromkeys([*settings.endpoints, *(url for member in members for url in member.clientURLs)])
    with ThreadPoolExecutor(PARALLEL_MAX) as pool:
        found = list(pool.map(ask, addresses))
    by_member = {one.response.header.member_id: one for one in reversed(found) if one is not None}
    return list(by_member.values())


def most_up_to_date(statuses: Sequence[EndpointStatus]) -> int:
    """The member ID of the healthy follower that has applied most.

    Raises:
        Failure: there is none.
    """
    healthy = [one.response for one in statuses if not (_leads(one) or one.response.isLearner or one.response.errors)]
    if not healthy:
        raise Failure("there is no healthy follower to hand over to")
    best = max(healthy, key=lambda response: (response.raftIndex, response.raftAppliedIndex, response.header.member_id))
    return best.header.member_id


def _leads(status: EndpointStatus) -> bool:
    return bool(status.response.leader) and status.response.leader == status.response.header.member_id


def _parsed_id(text: str) -> int:
    try:
        return parsed_hexadecimal(text)
    except ValueError as error:
        raise bad_arguments(str(error)) from None


def _named(text: str, members: Sequence[rpc_pb2.Member]) -> int:
    for member in members:
        if text in (member.name, f"{member.ID:x}"):
            return member.ID
    names = ", ".join(member.name or f"{member.ID:x}" for member in members)
    raise bad_arguments(f"--to: {text!r} is no member; the members are {names}")

"""`raftkv member replace`: a dead member goes, a new one takes its place, in one step.

What may not live here: starting a process; the new node runs on a machine of its own.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import click

from raftkv.cli.exits import Failure, bad_arguments
from raftkv.cli.lazy import CliCommand
from raftkv.cli.member import checked_urls
from raftkv.cli.options import Duration, settings_of
from raftkv.cli.rpc import Connection
from raftkv.errors import (
    LEARNER_NOT_READY,
    NOT_A_LEARNER,
    DeadlineExceeded,
    FailedPrecondition,
    RequestError,
    Unavailable,
)
from raftkv.pb import rpc_pb2

EXAMPLES = """
raftkv member replace n3                        the same name and peer URLs, with an empty data directory
raftkv member replace n3 --name n4 --peer-urls=http://10.0.0.4:2380
raftkv member replace n3 --wait 5m              and stay until the new one votes
"""
LOOK_AGAIN_S = 0.2


@click.command("replace", cls=CliCommand, examples=EXAMPLES)
@click.argument("arguments", nargs=-1, metavar="NAME|MEMBER_ID")
@click.option("--name", default="", metavar="NAME", help="Of the new member.  [default: that of the old one]")
@click.option("--peer-urls", default="", metavar="URLS", help="Of the new member.  [default: those of the old one]")
@click.option("--wait", "wait_s", type=Duration(), default=None, help="Add it as a learner, wait for it, promote it.")
@click.pass_context
def member_replace(
    ctx: click.Context, arguments: tuple[str, ...], name: str, peer_urls: str, wait_s: float | None
) -> None:
    """Remove a member, add another one in its place, and print what to start that with.

    It is started with an empty data directory: what the old one had is of no use to it. With --wait it is added as a learner, and
    votes as soon as it was started and has caught up.
    """
    settings = settings_of(ctx)
    if len(arguments) != 1:
        raise bad_arguments("member name or ID is not provided")

    from raftkv.cli.printers import MemberAdded, MemberChanged, printer

    show_removed, show_added = printer(settings, "member_remove"), printer(settings, "member_add")
    with Connection(settings) as connection:
        old = found(arguments[0], connection.member_list().members)
        urls = checked_urls(peer_urls) if peer_urls else list(old.peerURLs)
        new_name = name or old.name or arguments[0]
        _refuse_if_taken(urls, old, connection.member_list().members)
        show_removed(MemberChanged(member=old.ID, response=connection.member_remove(old.ID)))
        try:
            added = connection.member_add(urls, learner=wait_s is not None)
        except RequestError as error:
            rest = f"raftkv member add {new_name} --peer-urls={','.join(urls)}"
            raise Failure(
                f"{old.name or f'{old.ID:x}'} is removed, the new one could not be added ({error}): {rest}"
            ) from None
        show_added(MemberAdded(name=new_name, response=added))
        if wait_s is not None:
            promote_when_ready(connection, added.member.ID, wait_s)
            show = printer(settings, "member_promote")
            show(MemberChanged(member=added.member.ID, response=rpc_pb2.MemberPromoteResponse(header=added.header)))


def found(text: str, members: Sequence[rpc_pb2.Member]) -> rpc_pb2.Member:
    """A member by its name, or by its ID in hexadecimal.

    Raises:
        Failure: there is none, or a name stands for several.
    """
    matching = [member for member in members if text in (member.name, f"{member.ID:x}")]
    if len(matching) == 1:
        return matching[0]
    names = ", ".join(f"{member.ID:x} ({member.name or 'unstarted'})" for member in members)
    raise bad_arguments(f"{text!r} is {'no member' if not matching else 'not one member'}; the members are {names}")


def _refuse_if_taken(urls: Sequence[str], old: rpc_pb2.Member, members: Sequence[rpc_pb2.Member]) -> None:
    """Before anything is removed: a URL of a member that stays would be refused afterwards."""
    for other in members:
        if other.ID != old.ID and set(urls) & set(other.peerURLs):
            raise bad_arguments(f"--peer-urls: {other.name or f'{other.ID:x}'} has one of these URLs")


def promote_when_ready(connection: Connection, node: int, wait_s: float) -> None:
    """Have a learner vote as soon as it can. Without a quorum for a while, or an answer, it is tried again.

    Raises:
        Failure: not within `wait_s`.
        RequestError: it cannot be promoted.
    """
    click.echo(f"waiting until member {node:x} has been started and has caught up", err=True)
    end = time.monotonic() + wait_s
    while True:
        try:
            connection.member_promote(node)
            return
        except FailedPrecondition as error:
            if error.message == NOT_A_LEARNER:  # It was one: so it votes, by a call of ours that had no answer.
                return
            if error.message != LEARNER_NOT_READY:
                raise
            why = ""
        except (Unavailable, DeadlineExceeded) as error:
            why = f" ({error})"
        if time.monotonic() > end:
            raise Failure(f"member {node:x} is not ready yet{why}; later: raftkv member promote {node:x}")
        time.sleep(LOOK_AGAIN_S)

"""`raftkv elect`: stand for election until a signal, or hear who leads.

What may not live here: how elections go (`raftkv.client.electing`).

Source: grammar, texts and exit codes are etcdctl 3.4's.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from raftkv.cli.exits import Failure, bad_arguments
from raftkv.cli.holding import DEFAULT_TTL_S, Interrupted, client_of, interruptible, key_as_it_is
from raftkv.cli.lazy import CliCommand
from raftkv.cli.options import Settings, flag, settings_of

if TYPE_CHECKING:
    from raftkv.client import Election

EXAMPLES = """
raftkv elect primary 10.0.0.7:5432              prints the key when it leads; until Ctrl-C
raftkv elect -l primary                         who leads, and whoever leads later
"""


@click.command("elect", cls=CliCommand, examples=EXAMPLES)
@click.argument("arguments", metavar="NAME [PROPOSAL]", nargs=-1)
@flag("-l", "--listen", help="Hear who leads, instead.")
@click.pass_context
def elect(ctx: click.Context, /, arguments: tuple[str, ...], listen: bool) -> None:
    """Stand for election with a proposal, and lead until a signal; or, with -l, show every leader and proposal."""
    settings = settings_of(ctx)
    if not 1 <= len(arguments) <= 2:
        raise bad_arguments("elect takes one election name argument and an optional proposal argument")
    if len(arguments) == 1 and not listen:
        raise bad_arguments("no proposal argument but -l not set")
    if len(arguments) == 2 and listen:
        raise bad_arguments("proposal given but -l is set")

    from raftkv.cli.printers import printer

    show = printer(settings, "get")
    with client_of(settings) as client:
        election = client.election(os.fsencode(arguments[0]), ttl=DEFAULT_TTL_S)
        if listen:
            _listen(settings, election, show)
        else:
            _lead(settings, election, os.fsencode(arguments[1]), show)


def _listen(settings: Settings, election: Election, show: Callable[[Any], None]) -> None:
    from raftkv.pb import mvcc_pb2, rpc_pb2

    last_key = b""
    try:
        with interruptible():
            for item in election.observe():
                answer = rpc_pb2.RangeResponse(header=key_as_it_is(settings, item.key).header)
                if item.key == last_key:  # News of the same leader come as events, of their own revision.
                    answer.header.revision = item.mod_revision
                last_key = item.key
                answer.kvs.append(
                    mvcc_pb2.KeyValue(
                        key=item.key,
                        value=item.value,
                        create_revision=item.create_revision,
                        mod_revision=item.mod_revision,
                        version=item.version,
                        lease=item.lease,
                    )
                )
                show(answer)
    except Interrupted:
        return


def _lead(settings: Settings, election: Election, proposal: bytes, show: Callable[[Any], None]) -> None:
    try:
        with interruptible():
            election.campaign(proposal)
            show(key_as_it_is(settings, election.key))
            election.lost.wait()
    except Interrupted:
        if not election.is_leader:
            raise Failure("context canceled") from None
        election.resign()
    else:
        raise Failure("elect: session expired")

"""`raftkv member list`."""

from __future__ import annotations

import click

from raftkv.cli.exits import bad_arguments
from raftkv.cli.lazy import CliCommand, Lazy, LazyGroup
from raftkv.cli.options import settings_of

EXAMPLES = """
raftkv member list
raftkv member list -w table
"""

member = LazyGroup(
    "member",
    lazy={"list": Lazy(module=__name__, name="member_list", help="All members: ID, status, name, addresses.")},
    help="Members of the cluster.",
    examples=EXAMPLES,
)


@click.command("list", cls=CliCommand, examples=EXAMPLES)
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

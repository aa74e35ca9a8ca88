"""`raftkv alarm list|disarm` and `raftkv defrag`.

Source: grammar, texts and exit codes are etcdctl 3.4's.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from raftkv.cli.endpoint import CLUSTER, endpoints_of
from raftkv.cli.exits import AlreadyReported, bad_arguments
from raftkv.cli.lazy import CliCommand, Lazy, LazyGroup
from raftkv.cli.options import settings_of
from raftkv.errors import RequestError
from raftkv.pb import rpc_pb2

LIST_EXAMPLES = "raftkv alarm list\n"
DISARM_EXAMPLES = "raftkv alarm disarm\n"
DEFRAG_EXAMPLES = """
raftkv defrag                                   the first server given
raftkv defrag --cluster                         every member, one after the other
raftkv defrag --cluster --command-timeout 1m    a large database takes its time
raftkv defrag --data-dir n1.raftkv              of a server that does not run
"""

alarm = LazyGroup(
    "alarm",
    lazy={
        "list": Lazy(module=__name__, name="alarm_list", help="All alarms that are on."),
        "disarm": Lazy(module=__name__, name="alarm_disarm", help="End all alarms."),
    },
    help="Alarms of the cluster's members.",
    examples=LIST_EXAMPLES + DISARM_EXAMPLES,
)


@click.command("list", cls=CliCommand, examples=LIST_EXAMPLES)
@click.argument("arguments", nargs=-1, metavar="")
@click.pass_context
def alarm_list(ctx: click.Context, arguments: tuple[str, ...]) -> None:
    """List the alarms that are on: which member, and what is wrong with it (NOSPACE, CORRUPT)."""
    settings = settings_of(ctx)
    if arguments:
        raise bad_arguments("alarm list command accepts no arguments")

    from raftkv.cli.printers import printer
    from raftkv.cli.rpc import Connection

    show = printer(settings, "alarm")
    with Connection(settings) as connection:
        show(connection.alarm(rpc_pb2.AlarmRequest()))


@click.command("disarm", cls=CliCommand, examples=DISARM_EXAMPLES)
@click.argument("arguments", nargs=-1, metavar="")
@click.pass_context
def alarm_disarm(ctx: click.Context, arguments: tuple[str, ...]) -> None:
    """End all alarms and list what they were. A node whose cause is not gone raises its own again."""
    settings = settings_of(ctx)
    if arguments:
        raise bad_arguments("alarm disarm command accepts no arguments")

    from raftkv.cli.printers import printer
    from raftkv.cli.rpc import Connection

    show = printer(settings, "alarm")
    ended = rpc_pb2.AlarmResponse()
    with Connection(settings) as connection:
        for one in connection.alarm(rpc_pb2.AlarmRequest()).alarms:
            request = rpc_pb2.AlarmRequest(
                action=rpc_pb2.AlarmRequest.DEACTIVATE, memberID=one.memberID, alarm=one.alarm
            )
            ended.alarms.extend(connection.alarm(request).alarms)
    show(ended)


@click.command("defrag", cls=CliCommand, examples=DEFRAG_EXAMPLES, shared_options=CLUSTER)
@click.argument("arguments", nargs=-1, metavar="")
@click.option("--data-dir", default="", metavar="DIR", help="This data directory, which no server uses, and no server.")
@click.pass_context
def defrag(ctx: click.Context, arguments: tuple[str, ...], data_dir: str) -> None:
    """Give the free pages of each server's database back to its file system, one server after the other.

    A server answers nothing else meanwhile; one that leads hands leadership over first.
    """
    del arguments  # etcdctl ignores them.
    if data_dir:
        from raftkv.server.restoring import defragment_data_dir

        defragment_data_dir(Path(data_dir))
        return
    settings = endpoints_of(ctx, settings_of(ctx))

    from raftkv.cli.rpc import Connection

    failures = 0
    for address in settings.endpoints:
        try:
            with Connection(replace(settings, endpoints=(address,))) as connection:
                connection.defragment()
        except RequestError as error:
            click.echo(f"Failed to defragment etcd member[{address}] ({error.message})", err=True)
            failures += 1
        else:
            click.echo(f"Finished defragmenting etcd member[{address}]")
    if failures:
        raise AlreadyReported

"""`raftkv put|get|del|compaction`.

What may not live here: how arguments become requests (requests.py) and answers become text (printers).
"""

from __future__ import annotations

import sys
from typing import Any

import click

from raftkv.cli import requests
from raftkv.cli.exits import bad_arguments
from raftkv.cli.lazy import CliCommand
from raftkv.cli.options import Integer, OneOf, flag, settings_of
from raftkv.pb import rpc_pb2

PUT_EXAMPLES = """
raftkv put greeting hello
raftkv put greeting -- -starts-with-a-dash
cat photo.jpg | raftkv put photo                value from stdin
raftkv put greeting hi --prev-kv                and show what was there
"""
GET_EXAMPLES = """
raftkv get greeting
raftkv get users/ --prefix --limit 10
raftkv get a m                                  keys from a, before m
raftkv get users/ --prefix --sort-by MODIFY --order DESCEND --keys-only
raftkv get greeting --rev 4                     as it was at revision 4
raftkv get users/ --prefix --count-only
raftkv get greeting --print-value-only
"""
DEL_EXAMPLES = """
raftkv del greeting
raftkv del users/ --prefix --prev-kv
raftkv del a m                                  keys from a, before m
"""
COMPACTION_EXAMPLES = """
raftkv compaction 1234
raftkv compaction 1234 --physical --command-timeout 1m
"""


@click.command("put", cls=CliCommand, examples=PUT_EXAMPLES)
@click.argument("arguments", metavar="KEY [VALUE]", nargs=-1)
@click.option("--lease", type=Integer(base=16, what="a lease ID in hexadecimal"), default="0", help="Lease ID (hex).")
@flag("--prev-kv", help="Show the key-value pair as it was before.")
@flag("--ignore-value", help="Keep the current value.")
@flag("--ignore-lease", help="Keep the current lease.")
@click.pass_context
def put(ctx: click.Context, /, arguments: tuple[str, ...], **options: Any) -> None:
    """Put a value under a key.

    Without VALUE it is read from stdin. A value that begins with '-' needs '--' before it.
    """
    settings = settings_of(ctx)
    from_stdin = len(arguments) == 1 and not options["ignore_value"]
    request = requests.put_request(arguments, stdin_value=sys.stdin.buffer.read() if from_stdin else b"", **options)

    from raftkv.cli.printers import printer
    from raftkv.cli.rpc import Connection

    show = printer(settings, "put")
    with Connection(settings) as connection:
        show(connection.put(request))


@click.command("get", cls=CliCommand, examples=GET_EXAMPLES)
@click.argument("arguments", metavar="KEY [RANGE_END]", nargs=-1)
@flag("--prefix", help="All keys that begin with KEY.")
@flag("--from-key", help="All keys from KEY on.")
@click.option("--limit", type=Integer(), default="0", help="At most so many results; 0: all.")
@click.option("--order", type=OneOf("ASCEND", "DESCEND", any_case=True), default="", help="ASCEND or DESCEND.")
@click.option(
    "--sort-by",
    type=OneOf("CREATE", "KEY", "MODIFY", "VALUE", "VERSION", any_case=True),
    default="",
    help="CREATE, KEY, MODIFY, VALUE or VERSION.",
)
@click.option("--rev", type=Integer(), default="0", help="As of this revision; 0: now.")
@click.option("--consistency", type=OneOf("l", "s"), default="l", help="l: linearizable, s: whatever the server has.")
@flag("--keys-only", help="Keys without values.")
@flag("--count-only", help="How many keys, nothing else.")
@flag("--print-value-only", help="Values without keys, in the simple format.")
@click.pass_context
def get(ctx: click.Context, /, arguments: tuple[str, ...], print_value_only: bool, **options: Any) -> None:
    """Get a key, or the keys from KEY up to RANGE_END (exclusive)."""
    settings = settings_of(ctx)
    request = requests.range_request(arguments, **options)
    if print_value_only and settings.write_out != "simple":
        raise bad_arguments("print-value-only is only for `--write-out=simple`")

    from raftkv.cli.printers import printer
    from raftkv.cli.rpc import Connection

    show = printer(settings, "get", value_only=print_value_only, count_only=options["count_only"])
    with Connection(settings) as connection:
        show(connection.range(request))


@click.command("del", cls=CliCommand, examples=DEL_EXAMPLES)
@click.argument("arguments", metavar="KEY [RANGE_END]", nargs=-1)
@flag("--prefix", help="All keys that begin with KEY.")
@flag("--from-key", help="All keys from KEY on.")
@flag("--prev-kv", help="Show what was deleted.")
@click.pass_context
def delete(ctx: click.Context, /, arguments: tuple[str, ...], **options: Any) -> None:
    """Delete a key, or the keys from KEY up to RANGE_END (exclusive); prints how many."""
    settings = settings_of(ctx)
    request = requests.delete_request(arguments, **options)

    from raftkv.cli.printers import printer
    from raftkv.cli.rpc import Connection

    show = printer(settings, "delete")
    with Connection(settings) as connection:
        show(connection.delete_range(request))


@click.command("compaction", cls=CliCommand, examples=COMPACTION_EXAMPLES)
@click.argument("arguments", metavar="REVISION", nargs=-1)
@flag("--physical", help="Wait until old revisions are removed from the disk.")
@click.pass_context
def compaction(ctx: click.Context, /, arguments: tuple[str, ...], physical: bool) -> None:
    """Forget the history before a revision: reads and watches at older revisions fail from then on."""
    settings = settings_of(ctx)
    if len(arguments) != 1:
        raise bad_arguments("compaction command needs 1 argument")
    revision = Integer(what="a revision").convert(arguments[0], ctx.command.params[0], ctx)

    from raftkv.cli.rpc import Connection

    with Connection(settings) as connection:
        connection.compact(rpc_pb2.CompactionRequest(revision=revision, physical=physical))
    click.echo(f"compacted revision {revision}")

"""`raftkv make-mirror`: copy the keys of one cluster to another, and go on with what changes.

The keys as they are are put one by one; from then on each revision of the source is one transaction at the destination, as far as
a transaction may have so many operations. What a server that fails leaves undone, another one goes on with: the watch resumes.

Not done: TLS and users at either end; leases are not mirrored (nor are they by etcdctl).

Source: grammar, texts and exit codes are etcdctl 3.4's.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from raftkv.cli.exits import bad_arguments
from raftkv.cli.lazy import CliCommand
from raftkv.cli.options import Flag, flag, settings_of

if TYPE_CHECKING:
    from raftkv.client import Client, TxnOperation, WatchEvent

EXAMPLES = """
raftkv --endpoints 10.0.0.1:2379 make-mirror 10.1.0.1:2379
raftkv make-mirror --prefix /app/ --dest-prefix /copy/app/ 10.1.0.1:2379
"""
REPORT_S = 30.0
OPERATIONS_MAX = 128
"""In a transaction, unless the destination was told otherwise."""


@click.command("make-mirror", cls=CliCommand, examples=EXAMPLES)
@click.argument("arguments", nargs=-1, metavar="DESTINATION")
@click.option("--prefix", default="", help="Mirror the keys with this prefix.  [default: all]")
@click.option("--dest-prefix", default="", help="What stands there for it.  [default: the same]")
@flag("--no-dest-prefix", help="Nothing stands there for it.")
@click.option("--dest-insecure-transport", cls=Flag, default=True, help="No TLS at the destination.  [default: true]")
@click.pass_context
def make_mirror(
    ctx: click.Context,
    arguments: tuple[str, ...],
    prefix: str,
    dest_prefix: str,
    no_dest_prefix: bool,
    dest_insecure_transport: bool,
) -> None:
    """Copy all keys to the cluster at DESTINATION, and then every change, until interrupted.

    Every 30 seconds the number of keys mirrored so far is shown.
    """
    settings = settings_of(ctx)
    if len(arguments) != 1:
        raise bad_arguments("make-mirror takes one destination argument")
    if no_dest_prefix and dest_prefix:
        raise bad_arguments("`--dest-prefix` and `--no-dest-prefix` cannot be set at the same time, choose one")
    if not dest_insecure_transport:
        raise bad_arguments("TLS is not supported yet")

    import raftkv

    stem = os.fsencode(prefix)
    there = b"" if no_dest_prefix else os.fsencode(dest_prefix) or stem
    with (
        raftkv.connect(settings.endpoints, timeout=settings.command_timeout) as source,
        raftkv.connect(arguments[0], timeout=settings.command_timeout) as destination,
    ):
        mirror = Mirror(source, destination, stem, there)
        reporter = threading.Timer(REPORT_S, lambda: report(mirror, reporter.finished))
        reporter.daemon = True
        reporter.start()
        try:
            mirror.follow(mirror.copy())
        finally:
            reporter.cancel()


def report(mirror: Mirror, over: threading.Event) -> None:
    """Show how many keys were mirrored so far, again and again."""
    click.echo(mirror.count)
    while not over.wait(REPORT_S):
        click.echo(mirror.count)


class Mirror:
    """What has one prefix here is put under another there."""

    def __init__(self, source: Client, destination: Client, stem: bytes, there: bytes) -> None:
        self._source = source
        self._destination = destination
        self._stem = stem
        self._there = there
        self.count = 0

    def copy(self) -> int:
        """Put every key as it is now; the revision that was copied."""
        items = self._source.range(prefix=self._stem)
        for item in items:
            self._destination.put(self._moved(item.key), item.value)
            self.count += 1
        return items.revision

    def follow(self, revision: int) -> None:
        """Everything that changes after a revision.

        Raises:
            Compacted: that can no longer be had.
            RequestError
        """
        with self._source.watch(prefix=self._stem, revision=revision + 1) as batches:
            for batch in batches:
                for operations in self._transactions(batch.events):
                    self._destination.txn().then(*operations).commit()
                    self.count += len(operations)

    def _transactions(self, events: Sequence[WatchEvent]) -> Iterator[list[TxnOperation]]:
        make = self._destination.op
        for start in range(0, len(events), OPERATIONS_MAX):
            yield [
                make.put(self._moved(event.key), event.value)
                if event.kind == "put"
                else make.delete(self._moved(event.key))
                for event in events[start : start + OPERATIONS_MAX]
            ]

    def _moved(self, key: bytes) -> bytes:
        return self._there + key[len(self._stem) :]

"""``raftkv drill``: a thin face of ``raftkv.lab.drill``: flags, where output goes, the exit code, Ctrl-C.

What may not live here: anything about faults or figures.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from raftkv.cli.exits import Exit, Failure
from raftkv.cli.lazy import CliCommand
from raftkv.cli.options import Duration, Settings, flag, settings_of
from raftkv.errors import RaftkvError
from raftkv.lab.drill.options import DEFAULT_PREFIX, FAULTS, HALF, IDLE, Options

if TYPE_CHECKING:
    from raftkv.lab.cluster import LocalCluster
    from raftkv.lab.drill.faults import Breaker
    from raftkv.lab.drill.run import Drill
    from raftkv.lab.drill.target import Target

DEFAULT_LOCAL = Path(".raftkv/local")
ALL = "all"

EXAMPLES = """
python cluster/local.py up && raftkv drill                        kill the leader of the local cluster
raftkv drill --fault crash --fault hang --rounds 3 --max-outage 1s
python cluster/local.py up -- --enable-drills
raftkv drill --fault all --load half --report drill.html          every fault, under load, with pictures
raftkv --endpoints 10.0.0.1:2379,10.0.0.2:2379 drill --fault transfer --json
    a cluster elsewhere: `transfer` always; crash, hang, partition, disk faults if its nodes run with --enable-drills

Faults: """ + "".join(f"\n  {name:<18}{what}" for name, what in FAULTS.items())


class Load(click.ParamType):  # type: ignore[type-arg]  # Not generic in older clicks.
    """idle, half, or a number of writes a second."""

    name = "load"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str | float:
        if value in (IDLE, HALF):
            return str(value)
        try:
            rate = float(value)
        except ValueError:
            rate = 0.0
        if not 0 < rate <= 1_000_000:
            self.fail(f'"{value}" is no load; allowed: {IDLE}, {HALF}, or writes a second up to 1000000', param, ctx)
        return rate


class Prefix(click.ParamType):  # type: ignore[type-arg]
    """A prefix that is not everything."""

    name = "prefix"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not value or len(value.encode()) > 256:
            self.fail("a prefix has 1 to 256 bytes: the drill deletes everything under it", param, ctx)
        return str(value)


@click.command("drill", cls=CliCommand, examples=EXAMPLES)
@click.option(
    "--fault", "faults", multiple=True, type=click.Choice([*FAULTS, ALL]), help="Repeatable.  [default: crash]"
)
@click.option("--rounds", type=click.IntRange(1, 1000), default=1, show_default=True, help="Of each fault.")
@click.option(
    "--max-outage", type=Duration(), default="2s", show_default=True, help="Longest time without a write or a read."
)
@click.option(
    "--load", type=Load(), default=IDLE, show_default=True, help="Beside the canary: idle, half, or writes/s."
)
@click.option("--prefix", type=Prefix(), default=DEFAULT_PREFIX, show_default=True, help="Of every key it writes.")
@click.option(
    "--local",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="RAFTKV_LOCAL_DIR",
    help=f"A cluster of cluster/local.py.  [default: {DEFAULT_LOCAL} if it is there and no --endpoints are given]",
)
@flag("--json", "as_json", help="Print the result as one JSON object.")
@click.option("--report", type=click.Path(dir_okay=False, writable=True, path_type=Path), help="Write an HTML page.")
@click.pass_context
def drill(
    ctx: click.Context,
    faults: tuple[str, ...],
    rounds: int,
    max_outage: float,
    load: str | float,
    prefix: str,
    directory: Path | None,
    as_json: bool,
    report: Path | None,
) -> None:
    """Break the leader on purpose, and prove what became of it.

    Clients read and write under a prefix of their own while the leader is broken and made good again, round by round. Shown are
    the outage as they saw it, acknowledged writes that were lost, whether their history is linearizable, and whether all nodes
    hold the same. Exit code 0 only if every round stayed within --max-outage and lost nothing.
    """
    if report is not None and not report.absolute().parent.is_dir():
        raise Failure(f"--report: there is no directory {report.absolute().parent}", Exit.USAGE)
    cluster = _local_cluster(ctx, directory)
    target, breaker = _target(ctx, cluster)
    options = Options(
        faults=_chosen(faults or ("crash",), breaker), rounds=rounds, max_outage_s=max_outage, load=load, prefix=prefix
    )
    status = _run(options, target, breaker, cluster, as_json=as_json, report=report)
    if status:
        ctx.exit(status)


def _local_cluster(ctx: click.Context, directory: Path | None) -> LocalCluster | None:
    """The local cluster that is meant: named, or in its usual place unless --endpoints speak of another.

    Raises:
        LabError: there is none in the directory that was named.
    """
    from raftkv.lab import state
    from raftkv.lab.cluster import LocalCluster
    from raftkv.lab.drill.target import address

    if directory is not None:
        return LocalCluster.load(directory)
    if not state.exists(DEFAULT_LOCAL):
        return None
    cluster = LocalCluster.load(DEFAULT_LOCAL)
    asked = settings_of(ctx).endpoints
    is_ours = asked == Settings().endpoints or set(map(address, asked)) <= set(cluster.endpoints.values())
    return cluster if is_ours else None


def _target(ctx: click.Context, cluster: LocalCluster | None) -> tuple[Target, Breaker]:
    from raftkv.lab.drill.faults import LocalBreaker, RemoteBreaker
    from raftkv.lab.drill.target import discover

    if cluster is not None:
        target = discover(list(cluster.endpoints.values()))
        return target, LocalBreaker(cluster, target)
    target = discover(settings_of(ctx).endpoints)
    return target, RemoteBreaker(target)


def _chosen(faults: Sequence[str], breaker: Breaker) -> tuple[str, ...]:
    """The faults that were named; for `all` those that can be made here, and a word on each of the others."""
    if ALL not in faults:
        return tuple(dict.fromkeys(faults))
    found = []
    for fault in FAULTS:
        obstacle = breaker.obstacle(fault)
        if obstacle is None:
            found.append(fault)
        else:
            click.echo(f"{fault} is left out: {obstacle}", err=True)
    return tuple(found)


def _run(
    options: Options,
    target: Target,
    breaker: Breaker,
    cluster: LocalCluster | None,
    *,
    as_json: bool,
    report: Path | None,
) -> int:
    """Drill, show the result, and say how it ended."""
    from rich.console import Console

    from raftkv.lab.drill import report as pages
    from raftkv.lab.drill.guard import Guard
    from raftkv.lab.drill.run import Drill
    from raftkv.lab.drill.verdict import is_passed
    from raftkv.lab.drill.view import progress, table

    guard = Guard.post(cluster.directory) if cluster is not None else None
    trouble: RaftkvError | None = None
    interrupted = False
    try:
        with progress(Console(stderr=True)) as observer:
            drill = Drill(options, target, breaker, observer)
            try:
                asyncio.run(_until_signalled(drill))
            except asyncio.CancelledError:
                interrupted = True
            except RaftkvError as error:
                trouble = error
    finally:
        if guard is not None:
            guard.dismiss()
    if as_json:
        click.echo(json.dumps(pages.as_json(options, target, drill.rounds, drill.planned), indent=1))
    elif drill.rounds:
        Console(width=None if sys.stdout.isatty() else 160).print(table(drill.rounds))
    if report is not None and drill.rounds:
        report.write_text(pages.as_html(options, target, drill.rounds, drill.planned), encoding="utf-8")
    for left in drill.left_behind:
        click.echo(left, err=True)
    if interrupted:
        click.echo("interrupted: everything that was broken is made good again", err=True)
        return Exit.INTERRUPTED
    if trouble is not None:
        raise trouble
    return Exit.OK if is_passed(drill.rounds, drill.planned) else Exit.FAILED


async def _until_signalled(drill: Drill) -> None:
    """Run the drill. Ctrl-C and SIGTERM end it in good order: once; more of them change nothing.

    Raises:
        asyncio.CancelledError: it was ended so.
    """
    work = asyncio.ensure_future(drill.run())
    loop = asyncio.get_running_loop()

    def end() -> None:
        if not work.cancelling():
            click.echo("making everything good, one moment", err=True)
            work.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end)
    await work

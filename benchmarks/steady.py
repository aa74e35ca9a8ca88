"""Long runs: zero elections at full load, bounded memory and log, a quick start with a million keys.

python -m benchmarks.steady full-load [--seconds 180]      leader changes during it: must be none
python -m benchmarks.steady memory [--puts 1000000]        a node idle, and after a million puts with compaction
python -m benchmarks.steady start-up [--keys 1000000]      from the start of the process to serving
python -m benchmarks.steady catch-up [--writes 200000]     a node that was down meanwhile, while writes go on
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import click
import uvloop

from benchmarks import measure
from benchmarks.load import Load, Run, run_load
from benchmarks.throughput import compare, line, note, summary
from raftkv import aio
from raftkv.lab import probe
from raftkv.lab.cluster import SERVE, LocalCluster
from raftkv.lab.traffic import Traffic

_FILL_BATCH = 1_000
_CAUGHT_UP_ENTRIES = 20
"""A follower is never further behind than this in ordinary operation."""


def new_cluster(command: str | None) -> LocalCluster:
    """Three fresh nodes on a real disk, not started."""
    words: Sequence[str] = command.split() if command else SERVE
    return LocalCluster.temporary(command=words, proxy=False, parent=measure.scratch_directory())


def show_nodes(title: str, cluster: LocalCluster) -> list[dict[str, Any]]:
    """Print and return the nodes' figures."""
    nodes = measure.figures(cluster)
    for node in nodes:
        print(
            f"{title} {node.name}: {node.rss_mib} MiB resident, {node.private_mib} private; "
            f"{node.disk_mib} MiB on disk, {node.log_mib} of it log; {node.cpu_s} s of CPU"
        )
    sys.stdout.flush()
    return [asdict(node) for node in nodes]


@click.group()
def main() -> None:
    """Long runs against three fresh nodes."""


@main.command("full-load")
@click.option("--seconds", type=click.FloatRange(1), default=180, show_default=True)
@click.option("--callers", type=click.IntRange(1), default=1000, show_default=True)
@click.option("--command", default=None, help="Another server, such as etcd.")
def full_load(seconds: float, callers: int, command: str | None) -> None:
    """Put at full load; exit with 1 if there was an election."""
    with new_cluster(command) as cluster:
        cluster.start()
        endpoints = measure.endpoints_leader_first(cluster)
        before = measure.leadership(cluster)
        note(f"{callers} callers for {seconds:g} s; {before.leader} leads in term {before.term}")
        seen = uvloop.run(run_load(endpoints, Load(callers=callers, seconds=seconds)))
        after = measure.leadership(cluster)
        run = summary(seen) | compare(before, after, seen)
        print(line(run))
        for text, count in run["errors"].items():
            print(f"  {count} x {text}")
        nodes = show_nodes("after", cluster)
        kept = measure.keep("full-load", {"machine": measure.machine(), "run": run, "nodes": nodes})
        note(f"kept in {kept}")
    raise SystemExit(1 if run["elections"] or run["errors"] or run["missing_revisions"] else 0)


@main.command()
@click.option("--puts", type=click.IntRange(1), default=1_000_000, show_default=True)
@click.option("--compact-every", type=click.FloatRange(0.1), default=5, show_default=True, help="Seconds.")
@click.option("--callers", type=click.IntRange(1), default=1000, show_default=True)
@click.option("--command", default=None, help="Another server, such as etcd.")
def memory(puts: int, compact_every: float, callers: int, command: str | None) -> None:
    """Memory of a node idle, and after many puts over 100,000 keys with a compaction every few seconds."""
    with new_cluster(command) as cluster:
        cluster.start()
        endpoints = measure.endpoints_leader_first(cluster)
        idle = show_nodes("idle", cluster)
        load = Load(callers=callers, seconds=0, puts_max=puts, warmup_s=0)
        seen = uvloop.run(_put_and_compact(endpoints, load, compact_every, cluster))
        run = summary(seen)
        after = show_nodes(f"after {puts:,} puts", cluster)
        kept = measure.keep("memory", {"machine": measure.machine(), "run": run, "idle": idle, "after": after})
        note(f"{run['puts_per_s']:,} puts/s, {run['errors'] or 'no errors'}; kept in {kept}")


async def _put_and_compact(endpoints: Sequence[str], load: Load, every_s: float, cluster: LocalCluster) -> Any:
    async with aio.connect(",".join(endpoints), timeout=10.0) as client:
        run = Run(client, load)
        compactor = asyncio.create_task(_compact(client, run, every_s, cluster))
        try:
            return await run.measure()
        finally:
            compactor.cancel()
            await asyncio.gather(compactor, return_exceptions=True)


async def _compact(client: Any, run: Run, every_s: float, cluster: LocalCluster) -> None:
    while True:
        await asyncio.sleep(every_s)
        revision = (await client.status()).revision
        await client.compact(revision)
        nodes = await asyncio.to_thread(measure.figures, cluster)
        sizes = "  ".join(f"{node.name} {node.rss_mib:.0f} MiB, log {node.log_mib:.0f} MiB" for node in nodes)
        note(f"{run.puts:>9,} puts, compacted up to {revision:,}   {sizes}")


@main.command("start-up")
@click.option("--keys", type=click.IntRange(1), default=1_000_000, show_default=True)
@click.option("--command", default=None, help="Another server, such as etcd.")
def start_up(keys: int, command: str | None) -> None:
    """Fill a cluster, then time the start of a follower, of the leader, and of one that was killed."""
    with new_cluster(command) as cluster:
        cluster.start()
        endpoints = measure.endpoints_leader_first(cluster)
        started = time.monotonic()
        uvloop.run(_fill(endpoints, keys))
        note(f"filled with {keys:,} keys in {time.monotonic() - started:.0f} s")
        leader = cluster.wait_for_leader()
        follower = next(name for name in cluster.names if name != leader)
        result = {
            "follower after SIGTERM": _time_start(cluster, follower, cluster.stop),
            "follower after SIGKILL": _time_start(cluster, follower, cluster.kill),
            "leader after SIGKILL": _time_start(cluster, cluster.wait_for_leader(), cluster.kill),
        }
        for what, seconds in result.items():
            print(f"{what}: {seconds:.2f} s from the start of the process to serving")
        nodes = show_nodes("after", cluster)
        kept = measure.keep("start-up", {"machine": measure.machine(), "seconds": result, "nodes": nodes})
        note(f"kept in {kept}")


@main.command("catch-up")
@click.option("--writes", type=click.IntRange(1), default=200_000, show_default=True)
@click.option("--writers", type=click.IntRange(1), default=200, show_default=True)
def catch_up(writes: int, writers: int) -> None:
    """Kill a follower, write on, start it again: how long until it has everything; exit with 1 if anything is lost."""
    with new_cluster(None) as cluster, _traffic_on(cluster, writers) as traffic:
        follower = next(name for name in cluster.names if name != cluster.wait_for_leader())
        cluster.kill(follower)
        goal = traffic.counts.acknowledged + writes
        while traffic.counts.acknowledged < goal:
            traffic.check()
            note(f"{follower} is down; {traffic.counts.acknowledged:>9,} acknowledged, {traffic.rate():,.0f} a second")
            time.sleep(1.0)
        began = time.monotonic()
        cluster.restart(follower)
        while _behind(cluster, follower) > _CAUGHT_UP_ENTRIES:
            traffic.check()
            time.sleep(0.02)
        seconds = time.monotonic() - began
        rate = traffic.acknowledged_since(began) / seconds
        traffic.stop()
        verdict = traffic.read_back(deadline_s=120.0)
    print(
        f"{follower} missed {writes:,} writes and had caught up {seconds:.2f} s after its start, at {rate:,.0f} puts/s"
    )
    print(f"{verdict.acknowledged:,} acknowledged, {len(verdict.lost)} lost")
    kept = measure.keep("catch-up", {"machine": measure.machine(), "writes": writes, "seconds": seconds, "rate": rate})
    note(f"kept in {kept}")
    raise SystemExit(0 if verdict.good else 1)


@contextmanager
def _traffic_on(cluster: LocalCluster, writers: int) -> Iterator[Traffic]:
    cluster.up()
    with Traffic(list(cluster.endpoints.values()), writers=writers, pause_s=0.0, timeout_s=10.0) as traffic:
        traffic.start()
        yield traffic


def _behind(cluster: LocalCluster, name: str) -> int:
    """How many entries a node has still to apply; very many while it does not answer."""
    answers = probe.statuses(cluster.endpoints)
    applied = {node: answer.applied_index for node, answer in answers.items() if isinstance(answer, probe.NodeAnswer)}
    return max(applied.values()) - applied[name] if name in applied else sys.maxsize


def _time_start(cluster: LocalCluster, name: str, end: Any) -> float:
    end(name)
    start = time.monotonic()
    cluster.start([name], deadline_s=120)
    return time.monotonic() - start


async def _fill(endpoints: Sequence[str], keys: int) -> None:
    value = os.urandom(256)
    async with aio.connect(",".join(endpoints), timeout=30.0) as client:
        for first in range(0, keys, _FILL_BATCH):
            async with asyncio.TaskGroup() as group:
                for number in range(first, min(first + _FILL_BATCH, keys)):
                    group.create_task(client.put(f"{number:016}", value))
            if first % 100_000 == 0:
                note(f"{first:>9,} keys")


if __name__ == "__main__":
    main()

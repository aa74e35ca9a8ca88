"""A node that was down while the others wrote on: how long until it has everything, while writes go on.

python -m benchmarks.catch_up [--writes 200000] [--writers 200] [--json]
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import click

from benchmarks import measure
from benchmarks.systems import described, json_option, note, preamble, running
from raftkv.lab import probe
from raftkv.lab.cluster import LocalCluster
from raftkv.lab.traffic import Traffic

CAUGHT_UP_ENTRIES = 20
"""A follower is never further behind than this in ordinary operation."""
READ_BACK_DEADLINE_S = 120.0


@contextmanager
def traffic_on(cluster: LocalCluster, writers: int) -> Iterator[Traffic]:
    """Writers that remember what was acknowledged, while this lasts."""
    with Traffic(list(cluster.endpoints.values()), writers=writers, pause_s=0.0, timeout_s=10.0) as traffic:
        traffic.start()
        yield traffic


def behind(cluster: LocalCluster, name: str) -> int:
    """How many entries a node has still to apply; very many while it does not answer."""
    answers = probe.statuses(cluster.endpoints)
    applied = {node: answer.applied_index for node, answer in answers.items() if isinstance(answer, probe.NodeAnswer)}
    return max(applied.values()) - applied[name] if name in applied else sys.maxsize


@click.command()
@click.option("--writes", type=click.IntRange(1), default=200_000, show_default=True, help="That it misses.")
@click.option("--writers", type=click.IntRange(1), default=200, show_default=True, help="Concurrent callers.")
@json_option
def main(writes: int, writers: int, as_json: bool) -> None:
    """Kill a follower, write on, start it again: how long until it has everything.

    The exit status is 1 if an acknowledged write is lost.

    \b
    python -m benchmarks.catch_up
    python -m benchmarks.catch_up --writes 1000000
    """  # noqa: D301 - click reads the \b
    result = preamble(["raftkv"]) | {"writes": writes}
    with running("raftkv") as cluster, traffic_on(cluster, writers) as traffic:
        follower = next(name for name in cluster.names if name != cluster.wait_for_leader())
        cluster.kill(follower)
        goal = traffic.counts.acknowledged + writes
        while traffic.counts.acknowledged < goal:
            traffic.check()
            note(f"{follower} is down; {traffic.counts.acknowledged:>9,} acknowledged, {traffic.rate():,.0f} a second")
            time.sleep(1.0)
        began = time.monotonic()
        cluster.restart(follower)
        while behind(cluster, follower) > CAUGHT_UP_ENTRIES:
            traffic.check()
            time.sleep(0.02)
        seconds = time.monotonic() - began
        rate = traffic.acknowledged_since(began) / seconds
        traffic.stop()
        verdict = traffic.read_back(deadline_s=READ_BACK_DEADLINE_S)
    result |= {"seconds": round(seconds, 2), "rate": round(rate), "acknowledged": verdict.acknowledged}
    result |= {"lost": len(verdict.lost)}
    path = measure.keep("catch-up", result)
    if as_json:
        print(json.dumps(result, indent=1))
    else:
        print(described(result))
        print(
            f"{follower} missed {writes:,} writes; {seconds:.2f} s after its start it had them, at {rate:,.0f} puts/s"
        )
        print(f"{verdict.acknowledged:,} acknowledged, {len(verdict.lost)} lost")
    note(f"kept in {path}")
    raise SystemExit(0 if verdict.good else 1)


if __name__ == "__main__":
    main()

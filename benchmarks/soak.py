"""A long run at a steady load: do memory, files and latency stay what they are?

    python -m benchmarks.soak [--minutes 30] [--load 0.7] [--callers 256] [--every 5] [--json]

First the full rate is measured; then callers put at a share of it, history is compacted every few seconds, as a user would, and
every few seconds a sample is taken. The verdict is on the second half: nothing may lean (``flatness.py``).
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import uvloop

from benchmarks import measure, sampling
from benchmarks.flatness import Verdict, judge
from benchmarks.load import KEYS, Load, Run, fill_cluster, run_load
from benchmarks.plots import SERIES, Line, lines, panels, save
from benchmarks.stores import FAILURES, OwnStore, failure_text
from benchmarks.systems import COMMANDS, described, json_option, note, preamble, running
from raftkv.lab.cluster import LocalCluster

RATE_SHARE_MIN = 0.9
"""Of the rate asked for: less, and the load was not what the verdict is about."""
LATENCY_FLOORS_MS = {"p50_ms": 1.0, "p99_ms": 10.0}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is done.

    Attributes:
        share: of the full rate; 1: as fast as it goes.
        calibrate_s: for how long the full rate is measured; while what was compacted is being removed, it is lower.
    """

    operation: str
    callers: int
    minutes: float
    share: float
    every_s: float
    compact_every_s: float
    calibrate_s: float


async def soak(cluster: LocalCluster, endpoints: list[str], plan: Plan) -> dict[str, Any]:
    """All of it on a running cluster."""
    await fill_cluster(endpoints, KEYS)
    store = OwnStore(endpoints)
    not_compacted: list[str] = []
    compactor = asyncio.create_task(_compact(store, plan.compact_every_s, not_compacted))
    try:
        rate = 0.0
        if plan.share < 1:
            full = await run_load(
                [store], Load(callers=plan.callers, operation=plan.operation, seconds=plan.calibrate_s)
            )
            rate = full.per_s * plan.share
            note(f"full rate {full.per_s:,.0f}/s; {rate:,.0f}/s from now on, for {plan.minutes:g} minutes")
        load = Load(callers=plan.callers, operation=plan.operation, rate=rate)
        before = await asyncio.to_thread(measure.leadership, cluster)
        async with Run([store], load) as run:
            samples = await _samples(cluster, run, plan, compactor)
        after = await asyncio.to_thread(measure.leadership, cluster)
        missing = measure.missing_revisions(before, after, acknowledged=run.writes, failed=run.failures)
    finally:
        compactor.cancel()
        await asyncio.gather(compactor, return_exceptions=True)
        await store.close()
    reached = sum(one["per_s"] for one in samples) / len(samples)
    return {
        "rate": round(rate),
        "reached": round(reached),
        "missing_revisions": missing,
        "not_compacted": not_compacted,
        "samples": samples,
    }


async def _samples(cluster: LocalCluster, run: Run, plan: Plan, compactor: asyncio.Task[None]) -> list[dict[str, Any]]:
    began, found = time.monotonic(), []
    while time.monotonic() - began < plan.minutes * 60:
        seen = await run.lap(plan.every_s)
        if compactor.done():
            compactor.result()
        state = await asyncio.to_thread(sampling.sample, cluster, time.monotonic() - began)
        found.append(
            state
            | {
                "per_s": round(seen.per_s),
                "p50_ms": seen.p50_ms,
                "p99_ms": seen.p99_ms,
                "max_ms": round(seen.max_ms, 1),
            }
            | {"errors": seen.errors, "longest_gap_ms": round(seen.longest_gap_ms, 1)}
        )
        note(_sample_line(found[-1]))
    return found


async def _compact(store: OwnStore, every_s: float, failed: list[str]) -> None:
    """A compaction that fails is no reason to end a long run, but it is held against it."""
    while True:
        await asyncio.sleep(every_s)
        try:
            await store.compact()
        except FAILURES as error:
            failed.append(failure_text(error))
            note(f"not compacted: {failed[-1]}")


def _sample_line(one: dict[str, Any]) -> str:
    nodes = "  ".join(
        f"{name} {node['private_mib']:.0f}+{node['mapped_mib']:.0f} MiB, disk {node['disk_mib']:.0f}"
        for name, node in one["nodes"].items()
    )
    return (
        f"{one['at_s'] / 60:>6.1f} min {one['per_s']:>8,}/s  p50 {one['p50_ms']:>6.2f}  p99 {one['p99_ms']:>7.2f} ms  "
        f"errors {sum(one['errors'].values())}  term {one['term']}  {nodes}"
    )


def judge_all(samples: Sequence[dict[str, Any]]) -> list[Verdict]:
    """Latency, and every figure of every node."""
    times = [one["at_s"] for one in samples]
    latency = [
        judge(name.removesuffix("_ms"), times, [one[name] for one in samples], unit="ms", floor=floor)
        for name, floor in LATENCY_FLOORS_MS.items()
    ]
    return [*latency, *sampling.judge_nodes(samples)]


def plot(samples: Sequence[dict[str, Any]], path: Path) -> Path:
    """Rate, latency, memory and files over time."""
    figure, (rate, latency, memory, files) = panels(4, height=2.1)
    minutes = [one["at_s"] / 60 for one in samples]

    def line(name: str, number: int) -> Line:
        return Line(name=name.removesuffix("_ms"), x=minutes, y=[one[name] for one in samples], colour=SERIES[number])

    lines(rate, "operations a second", [line("per_s", 0)], x="minutes", y="operations/s")
    lines(latency, "latency", [line("p50_ms", 0), line("p99_ms", 1)], x="minutes", y="ms")
    sampling.draw_nodes(memory, samples, "memory of each node", "private_mib", "mapped_mib")
    sampling.draw_nodes(files, samples, "files of each node", "disk_mib", "log_mib")
    return save(figure, path)


@click.command()
@click.option("--minutes", type=click.FloatRange(min=0.1), default=30, show_default=True, help="At the steady load.")
@click.option(
    "--load",
    "share",
    type=click.FloatRange(min=0, max=1, min_open=True),
    default=0.7,
    show_default=True,
    help="Share of the full rate, which is measured first; 1: as fast as it goes.",
)
@click.option("--callers", type=click.IntRange(1), default=1000, show_default=True, help="Concurrent callers.")
@click.option("--operation", type=click.Choice(["put", "mixed"]), default="put", show_default=True)
@click.option("--every", type=click.FloatRange(0.5), default=5, show_default=True, help="Seconds between samples.")
@click.option("--compact-every", type=click.FloatRange(0.5), default=10, show_default=True, help="Seconds.")
@click.option("--calibrate", type=click.FloatRange(1), default=60, show_default=True, help="Seconds at the full rate.")
@click.option(
    "--system", type=click.Choice(list(COMMANDS)), default="raftkv", show_default=True, help="Of which system."
)
@json_option
def main(
    minutes: float,
    share: float,
    callers: int,
    operation: str,
    every: float,
    compact_every: float,
    calibrate: float,
    system: str,
    as_json: bool,
) -> None:
    """Load three nodes for a long time and judge whether memory, files and latency stay flat.

    The exit status is 1 if one of them does not, or if there was an election, an error or a lost write.

    \b
    python -m benchmarks.soak
    python -m benchmarks.soak --minutes 3 --load 1         full load
    python -m benchmarks.soak --minutes 120 --operation mixed
    """  # noqa: D301 - click reads the \b
    sampling.check_enough(minutes, every)
    plan = Plan(
        operation=operation,
        callers=callers,
        minutes=minutes,
        share=share,
        every_s=every,
        compact_every_s=compact_every,
        calibrate_s=calibrate,
    )
    result = preamble([system]) | {"system": system, "plan": asdict(plan)}
    with running(system) as cluster:
        result |= uvloop.run(soak(cluster, measure.endpoints_leader_first(cluster), plan))
    verdicts = judge_all(result["samples"])
    elections = sampling.elections(result["samples"])
    errors = sum(sum(one["errors"].values()) for one in result["samples"]) + len(result["not_compacted"])
    kept_up = result["reached"] >= RATE_SHARE_MIN * result["rate"]
    good = (
        all(verdict.flat for verdict in verdicts)
        and kept_up
        and not (elections or errors or result["missing_revisions"])
    )
    result |= {"verdicts": [asdict(verdict) | {"flat": verdict.flat} for verdict in verdicts], "good": good}
    path = measure.keep("soak", result)
    plot(result["samples"], path.with_suffix(".svg"))
    if as_json:
        print(json.dumps(result, indent=1))
    else:
        print(described(result), *verdicts, sep="\n")
        short = "" if kept_up else f", NOT the {result['rate']:,}/s asked for"
        print(f"rate {result['reached']:,}/s{short}")
        print(f"elections {elections}   errors {errors}   missing revisions {result['missing_revisions']}")
        print("GOOD" if good else "NOT GOOD")
    note(f"kept in {path}, with a picture beside it")
    raise SystemExit(not good)


if __name__ == "__main__":
    main()

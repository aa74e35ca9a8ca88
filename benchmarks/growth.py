"""What a growing number of keys costs: latency, memory, disk, and the start of a node; raftkv beside etcd, in turns.

    python -m benchmarks.growth [--against etcd] [--keys 10000,100000,1000000] [--seconds 5] [--repeats 1]

Three fresh nodes are filled to each size in turn, with values of 256 bytes. At each size: puts and linearizable gets of a lone
caller and of 64 callers over all keys, then memory and disk of every node, then a follower is ended and started, once by SIGTERM
and once by SIGKILL, and timed until it serves. Both systems are loaded by a Python program: raftkv through its client, etcd
through a plain grpc.aio client. What matters is how each size compares with the smallest.
"""

from __future__ import annotations

import json
import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import uvloop

from benchmarks import measure
from benchmarks.load import Load, compact_cluster, fill_cluster, load_cluster
from benchmarks.plots import COLOURS, Line, lines, panels, save
from benchmarks.systems import (
    against_option,
    chosen,
    described,
    json_option,
    note,
    numbers,
    preamble,
    running,
    turns,
)
from raftkv.lab.cluster import LocalCluster

DISK_BYTES_A_KEY = 1_500
"""Of one node, with log and slack: for the question whether the disk has room."""
QUOTA_BYTES = 32 * 1024**3
"""etcd warns about more than 8 GiB, and takes it."""
CALLERS = (1, 64)
OPERATIONS = ("put", "get")
START_DEADLINE_S = 300.0


def one_size(cluster: LocalCluster, client: str, keys: int, seconds: float) -> dict[str, Any]:
    """Everything measured at one size."""
    endpoints = measure.endpoints_leader_first(cluster)
    before = measure.leadership(cluster)
    latency: dict[str, dict[str, float]] = {}
    errors = 0
    for operation in OPERATIONS:
        for callers in CALLERS:
            load = Load(operation=operation, callers=callers, seconds=seconds, keys=keys)
            seen = uvloop.run(load_cluster(client, endpoints, load))
            errors += sum(seen.errors.values())
            latency[f"{operation} {callers}"] = {
                "p50_ms": round(seen.p50_ms, 3),
                "p99_ms": round(seen.p99_ms, 3),
                "per_s": round(seen.per_s, 1),
            }
        if operation == "put":
            uvloop.run(compact_cluster(endpoints))
    nodes = measure.figures(cluster)
    return {
        "keys": keys,
        "latency": latency,
        "nodes": [asdict(node) for node in nodes],
        "start_s": start_times(cluster),
        "errors": errors,
        "elections": measure.leadership(cluster).term - before.term,
    }


def start_times(cluster: LocalCluster) -> dict[str, float]:
    """Seconds from the start of a follower's process to serving."""
    leader = cluster.wait_for_leader()
    follower = next(name for name in cluster.names if name != leader)
    return {
        "after SIGTERM": time_start(cluster, follower, cluster.stop),
        "after SIGKILL": time_start(cluster, follower, cluster.kill),
    }


def time_start(cluster: LocalCluster, name: str, end: Callable[[str], None]) -> float:
    """End a node, start it, and wait until it serves."""
    end(name)
    began = time.monotonic()
    cluster.start([name], deadline_s=START_DEADLINE_S)
    return round(time.monotonic() - began, 2)


def measure_system(system: str, sizes: Sequence[int], seconds: float) -> list[dict[str, Any]]:
    """Grow three fresh nodes from size to size."""
    found, there = [], 0
    with running(system, quota_bytes=QUOTA_BYTES) as cluster:
        for keys in sizes:
            began = time.monotonic()
            filling = fill_cluster(
                measure.endpoints_leader_first(cluster),
                keys,
                first=there,
                note=lambda n: note(f"{system}: {n:>10,} keys"),
            )
            uvloop.run(filling)
            note(f"{system}: {keys:,} keys, {keys - there:,} of them put in {time.monotonic() - began:.0f} s")
            found.append(one_size(cluster, "client" if system == "raftkv" else "grpc", keys, seconds))
            note(size_line(system, found[-1]))
            there = keys
    return found


def summary(system: str, runs: Sequence[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """One row for each size: medians of the runs; memory and disk of the largest node."""
    rows = []
    for same in zip(*runs, strict=True):
        first = same[0]
        rows.append(
            {
                "system": system,
                "keys": first["keys"],
                "latency": {
                    load: {name: statistics.median(one["latency"][load][name] for one in same) for name in figures}
                    for load, figures in first["latency"].items()
                },
                "nodes": [
                    {
                        "name": "largest",
                        **{
                            name: statistics.median(max(node[name] for node in one["nodes"]) for one in same)
                            for name in ("private_mib", "mapped_mib", "disk_mib", "log_mib")
                        },
                    }
                ],
                "start_s": {how: statistics.median(one["start_s"][how] for one in same) for how in first["start_s"]},
                "errors": sum(one["errors"] for one in same),
                "elections": sum(one["elections"] for one in same),
            }
        )
    return rows


def ratios(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Median latency at the largest size over that at the smallest."""
    found = {}
    for system in dict.fromkeys(row["system"] for row in rows):
        mine = [row for row in rows if row["system"] == system]
        small, large = mine[0], mine[-1]
        for load, figures in small["latency"].items():
            if large is not small and figures["p50_ms"]:
                ratio = large["latency"][load]["p50_ms"] / figures["p50_ms"]
                found[f"{system} {load}"] = round(ratio, 2)
    return found


def size_line(system: str, row: dict[str, Any]) -> str:
    """One size for people."""
    latency = "  ".join(
        f"{load} {figures['p50_ms']:.2f}/{figures['p99_ms']:.2f}" for load, figures in row["latency"].items()
    )
    most = {
        name: max(node[name] for node in row["nodes"]) for name in ("private_mib", "mapped_mib", "disk_mib", "log_mib")
    }
    starts = ", ".join(f"{seconds:.2f} {how}" for how, seconds in row["start_s"].items())
    return (
        f"{system:<7}{row['keys']:>11,} keys  p50/p99 ms: {latency}  private {most['private_mib']:.0f} MiB  "
        f"mapped {most['mapped_mib']:.0f}  disk {most['disk_mib']:.0f} ({most['log_mib']:.0f} log)  "
        f"start s: {starts}  errors {row['errors']}  elections {row['elections']}"
    )


def plot(rows: Sequence[dict[str, Any]], path: Path) -> Path:
    """Latency, memory, disk and start over the number of keys."""
    figure, axes = panels(5, height=2.2)
    series: list[list[Line]] = [[], [], [], [], []]
    for system in dict.fromkeys(row["system"] for row in rows):
        mine = [row for row in rows if row["system"] == system]
        keys, colour = [row["keys"] for row in mine], COLOURS[system]

        def line(name: str, y: list[float], *, dashed: bool = False, of: str = system) -> Line:
            return Line(name=f"{of}, {name}", x=keys, y=y, colour=colour, dashed=dashed)  # noqa: B023 - drawn at once

        for number, operation in enumerate(OPERATIONS):
            for callers in CALLERS:
                y = [row["latency"][f"{operation} {callers}"]["p50_ms"] for row in mine]
                series[number].append(line(f"callers: {callers}", y, dashed=callers > 1))
        for place, solid, dashed in ((2, "private_mib", "mapped_mib"), (3, "disk_mib", "log_mib")):
            for name in (solid, dashed):
                y = [row["nodes"][0][name] for row in mine]
                series[place].append(line(name.removesuffix("_mib"), y, dashed=name == dashed))
        for how in mine[0]["start_s"]:
            series[4].append(line(how, [row["start_s"][how] for row in mine], dashed=how.endswith("SIGKILL")))
    titles = (
        "put, median",
        "get, median",
        "memory of the largest node",
        "disk of the largest node",
        "start of a follower",
    )
    for axis, title, found, unit in zip(axes, titles, series, ("ms", "ms", "MiB", "MiB", "s"), strict=True):
        lines(axis, title, found, x="keys", y=unit, log_x=True)
    return save(figure, path)


def check_disk(keys: int) -> None:
    """Three nodes of so many keys need room.

    Raises:
        click.ClickException: there is not enough.
    """
    needed, free = 3 * keys * DISK_BYTES_A_KEY, shutil.disk_usage(measure.scratch_directory()).free
    if needed > free:
        raise click.ClickException(
            f"{keys:,} keys need {needed / 1e9:.0f} GB on three nodes, and {free / 1e9:.0f} are free"
        )


@click.command()
@against_option
@click.option(
    "--keys",
    "sizes",
    callback=numbers,
    default="10000,100000,1000000",
    show_default=True,
    help="Sizes, one after the other.",
)
@click.option("--seconds", type=click.FloatRange(1), default=5, show_default=True, help="Measured of each load.")
@click.option("--repeats", type=click.IntRange(1), default=1, show_default=True, help="Runs, systems in turns.")
@json_option
def main(against: str | None, sizes: list[int], seconds: float, repeats: int, as_json: bool) -> None:
    """Measure latency, memory, disk and start-up at growing numbers of keys of 256 bytes.

    The exit status is 1 if raftkv had an error or an election.

    \b
    python -m benchmarks.growth
    python -m benchmarks.growth --against etcd --repeats 3
    python -m benchmarks.growth --keys 10000,10000000        10 million keys: 45 GB of disk
    """  # noqa: D301 - click reads the \b
    systems = chosen(against)
    sizes = sorted(set(sizes))
    check_disk(sizes[-1])
    result = preamble(systems)
    runs: dict[str, list[list[dict[str, Any]]]] = {system: [] for system in systems}
    for _, system in turns(systems, repeats):
        runs[system].append(measure_system(system, sizes, seconds))
    rows = [row for system in systems for row in summary(system, runs[system])]
    result |= {"rows": rows, "ratios": ratios(rows), "runs": runs}
    path = measure.keep("growth", result)
    plot(rows, path.with_suffix(".svg"))
    if as_json:
        print(json.dumps(result, indent=1))
    else:
        print(described(result), "", *(size_line(row["system"], row) for row in rows), sep="\n")
        if result["ratios"]:
            print(f"\nmedian latency at {sizes[-1]:,} keys over that at {sizes[0]:,}:")
        for load, ratio in result["ratios"].items():
            print(f"  {load + ' callers':<28} {ratio:>5.2f}")
    note(f"kept in {path}, with a picture beside it")
    raise SystemExit(any(row["errors"] or row["elections"] for row in rows if row["system"] == "raftkv"))


if __name__ == "__main__":
    main()

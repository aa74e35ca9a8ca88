"""Operations a second and their latency on three nodes of this machine; raftkv beside etcd, in turns, in one run.

    python -m benchmarks.throughput [--against etcd] [--callers 1,16,64,256,1000] [--operation put …] [--generator h2load …]

Two kinds of load:

- ``client``: one Python program with many concurrent callers. On raftkv through its own client; on etcd through the same client,
  which makes unary calls there, and through a plain grpc.aio client. The ratio is to the faster of the two.
- ``h2load``: unary calls from a load generator in C, the same bytes to both systems.

Load and three nodes share this machine, so figures compare within one run only. Both systems run with their defaults: what is
acknowledged is fsynced by a majority.
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import uvloop

from benchmarks import h2load, measure
from benchmarks.load import KEYS, OPERATIONS, VALUE_BYTES, Load, Seen, compact_cluster, fill_cluster, load_cluster
from benchmarks.plots import SERIES, Bars, bars, panels, save
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

WRITES = ("put", "mixed", "txn")
CLIENT_NAMES = {"client": "raftkv's client", "grpc": "grpc.aio", "h2load": "h2load"}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One load. ``streams`` only matters to h2load, where ``callers`` are connections."""

    operation: str
    generator: str
    callers: int
    streams: int = 1

    @property
    def size(self) -> str:
        return f"{self.callers}x{self.streams}" if self.generator == "h2load" else str(self.callers)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What all runs have in common."""

    seconds: float
    warmup_s: float
    spread: bool


def cases_of(
    operations: Sequence[str],
    generators: Sequence[str],
    callers: Sequence[int],
    combinations: Sequence[tuple[int, int]],
) -> list[Case]:
    """Every combination that there is."""
    found = []
    for operation in operations:
        if "client" in generators:
            found += [Case(operation=operation, generator="client", callers=number) for number in callers]
        if "h2load" in generators and operation in h2load.OPERATIONS:
            found += [
                Case(operation=operation, generator="h2load", callers=connections, streams=streams)
                for connections, streams in combinations
            ]
    return found


def clients_of(system: str, case: Case) -> list[str]:
    """Through what a system is loaded."""
    if case.generator == "h2load":
        return ["h2load"]
    return ["client"] if system == "raftkv" else ["grpc", "client"]


def one_run(cluster: LocalCluster, case: Case, client: str, settings: Settings) -> dict[str, Any]:
    """One load on a running cluster, and what the cluster says itself."""
    endpoints = measure.endpoints_leader_first(cluster)
    before, nodes_before = measure.leadership(cluster), measure.figures(cluster)
    seen = _loaded(endpoints, case, client, settings)
    after, nodes = measure.leadership(cluster), measure.figures(cluster)
    if case.operation in WRITES:
        uvloop.run(compact_cluster(endpoints))
    missing = measure.missing_revisions(before, after, acknowledged=seen.writes_in_all, failed=seen.failed_in_all)
    cpu_s = sum(node.cpu_s for node in nodes) - sum(node.cpu_s for node in nodes_before)
    return {
        **{name: round(value, 2) if isinstance(value, float) else value for name, value in asdict(seen).items()},
        "per_s": round(seen.per_s, 1),
        "elections": after.term - before.term,
        "missing_revisions": missing,
        "nodes_cpu_s": round(cpu_s, 1),
        "nodes": [asdict(node) for node in nodes],
    }


def _loaded(endpoints: list[str], case: Case, client: str, settings: Settings) -> Seen:
    seconds, warmup_s = settings.seconds, settings.warmup_s
    if client == "h2load":
        generator = h2load.H2load(
            operation=case.operation, connections=case.callers, streams=case.streams, seconds=seconds, warmup_s=warmup_s
        )
        try:
            return generator.run(endpoints if settings.spread else endpoints[:1])
        except h2load.H2loadError as error:
            raise click.ClickException(str(error)) from None
    load = Load(operation=case.operation, callers=case.callers, seconds=seconds, warmup_s=warmup_s)
    return uvloop.run(load_cluster(client, endpoints, load, spread=settings.spread))


def measure_all(
    systems: Sequence[str], cases: Sequence[Case], repeats: int, settings: Settings
) -> dict[tuple[Case, str, str], list[dict[str, Any]]]:
    """Every case, so many times on each system, the systems in turns, each time on fresh nodes that hold all keys."""
    found: dict[tuple[Case, str, str], list[dict[str, Any]]] = {}
    for turn, system in turns(systems, repeats):
        with running(system) as cluster:
            uvloop.run(fill_cluster(measure.endpoints_leader_first(cluster), KEYS))
            for case in cases:
                for client in clients_of(system, case):
                    run = one_run(cluster, case, client, settings)
                    found.setdefault((case, system, client), []).append(run)
                    note(f"{turn + 1}/{repeats} {row_line(summary((case, system, client), [run]))}")
    return found


def summary(key: tuple[Case, str, str], runs: list[dict[str, Any]]) -> dict[str, Any]:
    """One row of the result: medians and spread of the runs."""
    case, system, client = key
    errors: dict[str, int] = {}
    for run in runs:
        for text, count in run["errors"].items():
            errors[text] = errors.get(text, 0) + count
    return {
        "operation": case.operation,
        "generator": case.generator,
        "size": case.size,
        "system": system,
        "client": client,
        **{name: _spread([run[name] for run in runs]) for name in ("per_s", "p50_ms", "p99_ms", "longest_gap_ms")},
        "errors": errors,
        "elections": sum(run["elections"] for run in runs),
        "missing_revisions": sum(run["missing_revisions"] for run in runs),
        "runs": runs,
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def ratios(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Raftkv's operations a second over the other system's faster client, medians, by operation and load."""
    found = {}
    for mine in rows:
        if mine["system"] != "raftkv":
            continue
        load = tuple(mine[name] for name in ("operation", "generator", "size"))
        others = [
            row["per_s"]["median"]
            for row in rows
            if row["system"] != "raftkv" and tuple(row[name] for name in ("operation", "generator", "size")) == load
        ]
        if others and max(others):
            found[" ".join(load)] = round(mine["per_s"]["median"] / max(others), 2)
    return found


def row_line(row: dict[str, Any]) -> str:
    """One row for people."""
    rate, spread = row["per_s"], f"({row['per_s']['min']:,.0f} to {row['per_s']['max']:,.0f})"
    return (
        f"{row['operation']:<16} {row['size']:>7}  {row['system']:<7} {CLIENT_NAMES[row['client']]:<16}"
        f"{rate['median']:>9,.0f}/s {spread:<20} p50 {row['p50_ms']['median']:>8.2f} ms  p99 {row['p99_ms']['median']:>8.2f} ms"
        f"  longest gap {row['longest_gap_ms']['max']:>6.0f} ms  errors {sum(row['errors'].values())}"
        f"  elections {row['elections']}  missing {row['missing_revisions']}"
    )


def report(result: dict[str, Any]) -> str:
    """The result for people."""
    lines = [described(result), f"load: {result['load']}", ""]
    for row in result["rows"]:
        lines.append(row_line(row))
        lines += [f"    {count} x {text}" for text, count in row["errors"].items()]
    if result["ratios"]:
        lines += ["", "raftkv / etcd, operations a second, medians (etcd by its faster client):"]
        lines += [f"  {load:<32} {ratio:>6.2f}" for load, ratio in result["ratios"].items()]
    lines += ["", "nodes after the last run:"]
    last = {row["system"]: row["runs"][-1]["nodes"] for row in result["rows"]}
    lines += [f"  {system} {measure.node_line(node)}" for system, nodes in last.items() for node in nodes]
    return "\n".join(lines)


def plot(result: dict[str, Any], path: Path) -> Path:
    """A panel for each operation and generator, a group of bars for each load."""
    rows = result["rows"]
    kinds = list(dict.fromkeys((row["operation"], row["generator"]) for row in rows))
    figure, axes = panels(len(kinds))
    for axis, (operation, generator) in zip(axes, kinds, strict=True):
        mine = [row for row in rows if (row["operation"], row["generator"]) == (operation, generator)]
        sizes = list(dict.fromkeys(row["size"] for row in mine))
        series = []
        for number, (system, client) in enumerate(dict.fromkeys((row["system"], row["client"]) for row in mine)):
            rates = {row["size"]: row["per_s"] for row in mine if (row["system"], row["client"]) == (system, client)}
            values = [(rates[s]["median"], rates[s]["min"], rates[s]["max"]) if s in rates else None for s in sizes]
            name = f"{system}, {CLIENT_NAMES[client]}"
            series.append(Bars(name=name, values=values, colour=SERIES[number]))
        what = "connections x streams of h2load" if generator == "h2load" else "callers of a Python program"
        bars(axis, f"{operation}, by {what}", sizes, series, unit="operations/s")
    return save(figure, path)


def combinations_of(_ctx: click.Context, _parameter: click.Parameter, value: str) -> list[tuple[int, int]]:
    """Read ``1x1,64x4``."""
    if re.fullmatch(r"[1-9]\d*x[1-9]\d*(,[1-9]\d*x[1-9]\d*)*", value) is None:
        raise click.BadParameter(f"{value!r} is not a list of connections and streams such as 1x1,64x4")
    pairs = (word.split("x") for word in value.split(","))
    return [(int(connections), int(streams)) for connections, streams in pairs]


@click.command()
@against_option
@click.option(
    "--operation",
    "operations",
    multiple=True,
    type=click.Choice(OPERATIONS),
    default=["put"],
    show_default=True,
    help="Repeatable. mixed: nine gets to one put; txn: compare-and-swap of one key.",
)
@click.option(
    "--generator",
    "generators",
    multiple=True,
    type=click.Choice(["client", "h2load"]),
    default=["client"],
    show_default=True,
    help="Repeatable. What puts the load on: a Python program, or h2load (put, get, get-serializable).",
)
@click.option(
    "--callers", callback=numbers, default="1000", show_default=True, help="Concurrent callers of the Python program."
)
@click.option(
    "--connections",
    callback=combinations_of,
    default=",".join(f"{c}x{s}" for c, s in h2load.COMBINATIONS),
    show_default=True,
    help="h2load's connections x streams.",
)
@click.option("--seconds", type=click.FloatRange(1), default=5, show_default=True, help="Measured in each run.")
@click.option("--warm-up", type=click.FloatRange(0), default=1, show_default=True, help="Seconds before that.")
@click.option("--repeats", type=click.IntRange(1), default=3, show_default=True, help="Runs of each, systems in turns.")
@click.option(
    "--target",
    type=click.Choice(["leader", "any"]),
    default="leader",
    show_default=True,
    help="Talk to the leader, or to all nodes alike.",
)
@json_option
def main(
    against: str | None,
    operations: Sequence[str],
    generators: Sequence[str],
    callers: list[int],
    connections: list[tuple[int, int]],
    seconds: float,
    warm_up: float,
    repeats: int,
    target: str,
    as_json: bool,
) -> None:
    """Measure operations a second and their latency on three nodes.

    The exit status is 1 if raftkv had an error, an election, or an acknowledged write without a revision.

    \b
    python -m benchmarks.throughput --against etcd --callers 1,16,64,256,1000
    python -m benchmarks.throughput --against etcd --generator h2load --operation put --operation get
    python -m benchmarks.throughput --operation mixed --operation txn --callers 64 --target any
    """  # noqa: D301 - click reads the \b
    systems = chosen(against)
    cases = cases_of(operations, generators, callers, connections)
    if not cases:
        raise click.ClickException(f"h2load does only {', '.join(h2load.OPERATIONS)}")
    settings = Settings(seconds=seconds, warmup_s=warm_up, spread=target == "any")
    result = preamble(systems)
    result["load"] = (
        f"16-byte keys, {VALUE_BYTES}-byte values, {KEYS:,} keys (h2load: one), 3 nodes, to {target}; "
        f"medians of {repeats} runs of {seconds:g} s"
    )
    found = measure_all(systems, cases, repeats, settings)
    result["rows"] = sorted(
        (summary(key, runs) for key, runs in found.items()),
        key=lambda row: [(c.operation, c.generator, c.size) for c in cases].index(
            (row["operation"], row["generator"], row["size"])
        ),
    )
    result["ratios"] = ratios(result["rows"])
    path = measure.keep("throughput", result)
    plot(result, path.with_suffix(".svg"))
    print(json.dumps(result, indent=1) if as_json else report(result))
    note(f"kept in {path}, with a picture beside it")
    mine = [row for row in result["rows"] if row["system"] == "raftkv"]
    raise SystemExit(any(row["errors"] or row["elections"] or row["missing_revisions"] for row in mine))


if __name__ == "__main__":
    main()

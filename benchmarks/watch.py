"""From a put to its event, and what a node needs for many watchers; raftkv beside etcd, in turns, in one run.

    python -m benchmarks.watch [--against etcd] [--watchers 1,1000] [--puts 500] [--repeats 3]
    python -m benchmarks.watch --rate 2000 --watchers 1000 --minutes 5

The first: one caller puts, one put after the other; the watchers have single keys of their own, and the put goes to each in turn.
Measured is from before the put to the arrival of its event, and the put's own answer for comparison. The second: puts at a steady
rate, each an event at one of the watchers, and the memory of the node over time.

All are at one node, the leader. Watchers, and the writer of the first, are a plain gRPC client, the same for both systems; the writer
of the second is raftkv's, which takes less of the machine. They share it with three nodes: compare within one run only.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import grpc

from benchmarks import measure, sampling
from benchmarks.load import latencies_ms
from benchmarks.plots import COLOURS, Bars, bars, panels, save
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
from benchmarks.watchers import WAIT_S, Watchers, put_method, put_request, puts_at_rate
from raftkv.lab.cluster import LocalCluster

WARM_UP_PUTS = 50
RATE_SHARE_MIN = 0.9
"""Of the rate asked for."""
FIGURES = ("event_p50_ms", "event_p99_ms", "put_p50_ms", "put_p99_ms")


def latencies(endpoint: str, watchers: int, puts: int) -> dict[str, Any]:
    """The latencies of puts, and of their events, at one node."""
    with grpc.insecure_channel(endpoint) as writing, grpc.insecure_channel(endpoint) as watching:
        put = put_method(writing)
        answered, arrived = [], []
        with Watchers(watching, watchers) as group:
            for number in range(WARM_UP_PUTS + puts):
                request = put_request(number % watchers)
                started = time.perf_counter()
                put(request, timeout=WAIT_S)
                answered.append(time.perf_counter() - started)
                at, key = group.arrivals.get(timeout=WAIT_S)
                assert key == request.key, f"{key!r} arrived instead of {request.key!r}"
                arrived.append(at - started)
    found: dict[str, Any] = {"watchers": watchers}
    for name, seconds in (("event", arrived), ("put", answered)):
        figures = latencies_ms(seconds[WARM_UP_PUTS:])
        found |= {f"{name}_{figure}": round(figures[figure], 2) for figure in ("p50_ms", "p99_ms")}
    return found


def measure_latency(systems: Sequence[str], counts: Sequence[int], puts: int, repeats: int) -> list[dict[str, Any]]:
    """Every number of watchers, so many times on each system, the systems in turns, each time on fresh nodes."""
    runs: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for turn, system in turns(systems, repeats):
        with running(system) as cluster:
            for watchers in counts:
                endpoint = measure.endpoints_leader_first(cluster)[0]
                before = measure.leadership(cluster)
                run = latencies(endpoint, watchers, puts)
                run["elections"] = measure.leadership(cluster).term - before.term
                runs.setdefault((watchers, system), []).append(run)
                note(f"{turn + 1}/{repeats} {system}: {run}")
    return [
        {
            "watchers": watchers,
            "system": system,
            **{name: statistics.median(run[name] for run in same) for name in FIGURES},
            "event_p50_ms_spread": [pick(run["event_p50_ms"] for run in same) for pick in (min, max)],
            "elections": sum(run["elections"] for run in same),
            "runs": same,
        }
        for (watchers, system), same in sorted(runs.items(), key=lambda item: (item[0][0], systems.index(item[0][1])))
    ]


def ratios(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Raftkv's median from put to event over the other's, by the number of watchers."""
    medians = {(row["system"], row["watchers"]): row["event_p50_ms"] for row in rows}
    return {
        str(watchers): round(ms / medians["etcd", watchers], 2)
        for (system, watchers), ms in medians.items()
        if system == "raftkv" and medians.get(("etcd", watchers))
    }


def latency_line(row: dict[str, Any]) -> str:
    """One row for people."""
    low, high = row["event_p50_ms_spread"]
    return (
        f"{row['watchers']:>6} watchers  {row['system']:<7} put to event p50 {row['event_p50_ms']:>7.2f} ms "
        f"({low:.2f} to {high:.2f})  p99 {row['event_p99_ms']:>7.2f} ms   put to answer p50 {row['put_p50_ms']:>7.2f} ms  "
        f"p99 {row['put_p99_ms']:>7.2f} ms   elections {row['elections']}"
    )


def plot_latency(rows: Sequence[dict[str, Any]], path: Path) -> Path:
    """Bars for each number of watchers."""
    figure, (axis,) = panels(1, height=3.0)
    counts = list(dict.fromkeys(row["watchers"] for row in rows))
    series = []
    for system in dict.fromkeys(row["system"] for row in rows):
        mine = {row["watchers"]: row for row in rows if row["system"] == system}
        values = [(mine[n]["event_p50_ms"], *mine[n]["event_p50_ms_spread"]) for n in counts]
        series.append(Bars(name=system, values=values, colour=COLOURS[system]))
    bars(axis, "from a put to its event, median", [f"{n:,} watchers" for n in counts], series, unit="ms")
    return save(figure, path)


def memory_over_time(
    cluster: LocalCluster, watchers: int, rate: float, minutes: float, every_s: float
) -> tuple[list[dict[str, Any]], int, int]:
    """Samples of the nodes; how many puts were acknowledged, and how many events arrived."""
    endpoint = measure.endpoints_leader_first(cluster)[0]
    began, samples = time.monotonic(), []
    with (
        grpc.insecure_channel(endpoint) as watching,
        Watchers(watching, watchers, count_only=True) as group,
        puts_at_rate(endpoint, watchers, rate) as writing,
    ):
        while time.monotonic() - began < minutes * 60:
            time.sleep(max(0.0, began + (len(samples) + 1) * every_s - time.monotonic()))
            state = sampling.sample(cluster, time.monotonic() - began)
            samples.append(state | {"puts": writing.acknowledged, "events": group.count})
            note(_memory_line(samples[-1]))
        acknowledged = writing.stop()
        group.wait_for(acknowledged)
        return samples, acknowledged, group.count


def _memory_line(one: dict[str, Any]) -> str:
    nodes = "  ".join(f"{n} {node['private_mib']}+{node['mapped_mib']} MiB" for n, node in one["nodes"].items())
    return f"{one['at_s']:>7.1f} s  {one['puts']:>9,} puts  {one['events']:>9,} events  term {one['term']}  {nodes}"


def run_memory(system: str, watchers: int, rate: float, minutes: float, every_s: float) -> dict[str, Any]:
    """One system's part of the result."""
    with running(system) as cluster:
        samples, puts, events = memory_over_time(cluster, watchers, rate, minutes, every_s)
    verdicts = sampling.judge_nodes(samples, ["private_mib"])
    elections = sampling.elections(samples)
    reached = puts / samples[-1]["at_s"]
    good = all(verdict.flat for verdict in verdicts) and puts == events and not elections
    return {
        "rate": round(reached),
        "puts": puts,
        "events": events,
        "elections": elections,
        "good": good and reached >= RATE_SHARE_MIN * rate,
        "verdicts": [asdict(verdict) | {"flat": verdict.flat, "text": str(verdict)} for verdict in verdicts],
        "samples": samples,
    }


def memory_report(system: str, watchers: int, asked: float, found: dict[str, Any]) -> str:
    """One system's part for people."""
    short = "" if found["rate"] >= RATE_SHARE_MIN * asked else f" (NOT the {asked:,.0f} asked for)"
    head = (
        f"{system}: {watchers:,} watchers, {found['rate']:,} puts/s{short}; {found['puts']:,} acknowledged, "
        f"{found['events']:,} events, elections {found['elections']}"
    )
    verdicts = (verdict["text"] for verdict in found["verdicts"])
    return "\n".join([head, *verdicts, "GOOD" if found["good"] else "NOT GOOD"])


def plot_memory(result: dict[str, Any], systems: Sequence[str], path: Path) -> Path:
    """A panel for each system."""
    figure, axes = panels(len(systems))
    for axis, system in zip(axes, systems, strict=True):
        title = f"{system}: memory of each node under watchers"
        sampling.draw_nodes(axis, result[system]["samples"], title, "private_mib", "mapped_mib")
    return save(figure, path)


@click.command()
@against_option
@click.option("--watchers", callback=numbers, default="1,1000", show_default=True, help="Numbers of watchers.")
@click.option("--puts", type=click.IntRange(1), default=500, show_default=True, help="Measured in each run.")
@click.option("--repeats", type=click.IntRange(1), default=3, show_default=True, help="Runs of each, systems in turns.")
@click.option("--rate", type=click.FloatRange(min=1), default=None, help="Memory over time instead: puts a second.")
@click.option(
    "--minutes", type=click.FloatRange(min=0.1), default=5, show_default=True, help="For how long, with --rate."
)
@click.option("--every", type=click.FloatRange(0.5), default=5, show_default=True, help="Seconds between samples.")
@json_option
def main(
    against: str | None,
    watchers: list[int],
    puts: int,
    repeats: int,
    rate: float | None,
    minutes: float,
    every: float,
    as_json: bool,
) -> None:
    """Measure from a put to its event; with --rate, the memory of nodes over time.

    The exit status is 1 if raftkv had an election; with --rate also if memory grows, an event is missing or the rate is not reached.

    \b
    python -m benchmarks.watch --against etcd
    python -m benchmarks.watch --rate 2000 --watchers 1000 --minutes 10
    """  # noqa: D301 - click reads the \b
    systems = chosen(against)
    if rate is None:
        result = preamble(systems)
        rows = measure_latency(systems, watchers, puts, repeats)
        result |= {"rows": rows, "ratios": ratios(rows)}
        path = measure.keep("watch", result)
        plot_latency(rows, path.with_suffix(".svg"))
        if as_json:
            print(json.dumps(result, indent=1))
        else:
            print(described(result), "", *map(latency_line, rows), sep="\n")
            for count, ratio in result["ratios"].items():
                print(f"{count} watchers: raftkv / etcd from put to event, medians: {ratio:.2f}")
        good = not any(row["elections"] for row in rows if row["system"] == "raftkv")
    else:
        sampling.check_enough(minutes, every)
        result = preamble(systems) | {"rate": rate, "watchers": watchers[-1]}
        for system in systems:
            result[system] = run_memory(system, watchers[-1], rate, minutes, every)
        path = measure.keep("watch-memory", result)
        plot_memory(result, systems, path.with_suffix(".svg"))
        if as_json:
            print(json.dumps(result, indent=1))
        else:
            print(
                described(result),
                *(memory_report(system, watchers[-1], rate, result[system]) for system in systems),
                sep="\n",
            )
        good = result["raftkv"]["good"]
    note(f"kept in {path}, with a picture beside it")
    raise SystemExit(not good)


if __name__ == "__main__":
    main()

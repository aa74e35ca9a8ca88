"""Acknowledged puts a second and their latency on three nodes of this machine, beside etcd's in the same run.

    python -m benchmarks.throughput [--callers 1,16,64,256,1000] [--seconds 20] [--skip-etcd] [--json]

Load generator, three nodes and the disk share this machine, so the figures compare within one run only. Both systems get the
same load from the same Python client: raftkv through its batches, etcd through the same client's unary calls. So the ratio is
what a *Python* user sees; etcd's own Go tool gets more out of etcd.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import click
import uvloop

from benchmarks import measure
from benchmarks.load import Load, Seen, run_load
from raftkv.lab.cluster import SERVE, LocalCluster


def note(text: str) -> None:
    """Progress goes to standard error."""
    print(text, file=sys.stderr, flush=True)


def measure_system(name: str, command: Sequence[str], loads: Sequence[Load]) -> dict[str, Any]:
    """Start a fresh cluster and put the loads on it, one after the other."""
    runs = []
    with LocalCluster.temporary(command=command, proxy=False, parent=measure.scratch_directory()) as cluster:
        note(f"{name}: starting 3 nodes in {cluster.directory}")
        cluster.start()
        for load in loads:
            endpoints = measure.endpoints_leader_first(cluster)
            before, cpu_before = measure.leadership(cluster), measure.figures(cluster)
            note(f"{name}: {load.callers} callers, {load.warmup_s:g} s to warm up, {load.seconds:g} s measured")
            seen = uvloop.run(run_load(endpoints, load))
            after, nodes = measure.leadership(cluster), measure.figures(cluster)
            nodes_cpu = sum(node.cpu_s for node in nodes) - sum(node.cpu_s for node in cpu_before)
            runs.append(summary(seen) | compare(before, after, seen) | {"nodes_cpu_s": round(nodes_cpu, 1)})
            note(f"{name}: {line(runs[-1])}")
        return {"runs": runs, "nodes": [asdict(node) for node in nodes]}


def compare(before: measure.Leadership, after: measure.Leadership, seen: Seen) -> dict[str, int]:
    """What the cluster says itself: elections during a run, and acknowledged puts without a revision."""
    missing = measure.missing_revisions(before, after, acknowledged=seen.acknowledged_in_all, failed=seen.failed_in_all)
    return {"elections": after.term - before.term, "missing_revisions": missing}


def summary(seen: Seen) -> dict[str, Any]:
    """The figures of one run, rounded."""
    return {
        "callers": seen.callers,
        "puts_per_s": round(seen.puts_per_s),
        "p50_ms": round(seen.p50_ms, 2),
        "p99_ms": round(seen.p99_ms, 2),
        "max_ms": round(seen.max_ms, 1),
        "longest_gap_ms": round(seen.longest_gap_ms, 1),
        "puts": seen.puts,
        "seconds": round(seen.seconds, 2),
        "errors": seen.errors,
        "client_cpu_s": round(seen.client_cpu_s, 1),
    }


def line(run: dict[str, Any]) -> str:
    """One run in one line."""
    return (
        f"{run['callers']:>5} callers {run['puts_per_s']:>8,} puts/s   p50 {run['p50_ms']:>7.2f} ms   "
        f"p99 {run['p99_ms']:>7.2f} ms   longest gap {run['longest_gap_ms']:>6.0f} ms   "
        f"errors {sum(run['errors'].values())}   elections {run['elections']}   "
        f"missing revisions {run['missing_revisions']}"
    )


def report(result: dict[str, Any]) -> str:
    """The result for people."""
    described = "  ".join(f"{key} {value}" for key, value in result["machine"].items())
    lines = [f"machine: {described}", "load: 16-byte keys, 256-byte values, 100,000 keys, 3 nodes, one Python client"]
    for system in ("raftkv", "etcd"):
        if system not in result:
            continue
        lines.append(f"\n{system}")
        lines += [f"  {line(run)}" for run in result[system]["runs"]]
        for run in result[system]["runs"]:
            lines += [f"  {run['callers']} callers: {count} x {text}" for text, count in run["errors"].items()]
        for node in result[system]["nodes"]:
            lines.append(
                f"  {node['name']}: {node['rss_mib']} MiB resident ({node['private_mib']} private), "
                f"{node['disk_mib']} MiB on disk ({node['log_mib']} of log)"
            )
    lines.append("")
    for callers, ratio in result.get("ratio", {}).items():
        lines.append(f"raftkv / etcd at {callers} callers: {ratio:.2f}")
    return "\n".join(lines)


def ratios(result: dict[str, Any]) -> dict[str, float]:
    """Raftkv's puts a second over etcd's, by the number of callers."""
    mine = {run["callers"]: run["puts_per_s"] for run in result["raftkv"]["runs"]}
    theirs = {run["callers"]: run["puts_per_s"] for run in result["etcd"]["runs"]}
    return {str(callers): round(mine[callers] / theirs[callers], 2) for callers in mine if theirs.get(callers)}


def numbers(_ctx: click.Context, _parameter: click.Parameter, value: str) -> list[int]:
    """Read ``1,16,64``."""
    try:
        found = [int(word) for word in value.split(",")]
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a list of numbers such as 1,16,64") from None
    if min(found) < 1:
        raise click.BadParameter("a load has at least one caller")
    return found


@click.command()
@click.option(
    "--callers", callback=numbers, default="1000", show_default=True, help="Concurrent callers, one run each."
)
@click.option("--seconds", type=click.FloatRange(1), default=20, show_default=True, help="Measured in each run.")
@click.option("--warm-up", type=click.FloatRange(0), default=3, show_default=True, help="Seconds before that.")
@click.option("--skip-etcd", is_flag=True, help="Do not measure etcd, even if it is there.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def main(callers: list[int], seconds: float, warm_up: float, skip_etcd: bool, as_json: bool) -> None:
    """Measure acknowledged puts a second on three nodes."""
    loads = [Load(callers=number, seconds=seconds, warmup_s=warm_up) for number in callers]
    measure.scratch_directory()
    result: dict[str, Any] = {"machine": measure.machine()}
    result["raftkv"] = measure_system("raftkv", SERVE, loads)
    if not skip_etcd and shutil.which("etcd"):
        result["etcd"] = measure_system("etcd", ["etcd"], loads)
        result["ratio"] = ratios(result)
    path = measure.keep("throughput", result)
    print(json.dumps(result, indent=1) if as_json else report(result))
    note(f"kept in {path}")


if __name__ == "__main__":
    main()

"""Samples of three nodes over time: memory, files, terms; drawn, and judged for flatness. Of use to every long run.

What may not live here: load.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import click
from matplotlib.axes import Axes

from benchmarks import measure
from benchmarks.flatness import SAMPLES_MIN, Verdict, judge
from benchmarks.plots import SERIES, Line, lines
from raftkv.lab.cluster import LocalCluster

MEMORY_FLOOR_MIB = 8.0
FILES_FLOOR_MIB = 64.0
"""A log segment: a file grows by that, and goes by that."""

NODE_FIGURES = {
    "private_mib": ("private memory", MEMORY_FLOOR_MIB),
    "mapped_mib": ("mapped files in memory", FILES_FLOOR_MIB),
    "disk_mib": ("files", FILES_FLOOR_MIB),
    "log_mib": ("log", FILES_FLOOR_MIB),
}


def sample(cluster: LocalCluster, at_s: float) -> dict[str, Any]:
    """All nodes now."""
    found = measure.leadership(cluster)
    return {
        "at_s": round(at_s, 1),
        "term": found.term,
        "leader": found.leader,
        "revision": found.revision,
        "nodes": {node.name: asdict(node) for node in measure.figures(cluster)},
    }


def judge_nodes(samples: Sequence[dict[str, Any]], figures: Sequence[str] = tuple(NODE_FIGURES)) -> list[Verdict]:
    """Each figure of each node."""
    times = [one["at_s"] for one in samples]
    return [
        judge(
            f"{node}, {NODE_FIGURES[figure][0]}",
            times,
            [one["nodes"][node][figure] for one in samples],
            unit="MiB",
            floor=NODE_FIGURES[figure][1],
        )
        for node in samples[0]["nodes"]
        for figure in figures
    ]


def draw_nodes(axis: Axes, samples: Sequence[dict[str, Any]], title: str, solid: str, dashed: str) -> None:
    """Two figures of each node over time, one of them dashed."""
    minutes = [one["at_s"] / 60 for one in samples]
    series = [
        Line(
            name=f"{node}, {NODE_FIGURES[figure][0]}",
            x=minutes,
            y=[one["nodes"][node][figure] for one in samples],
            colour=SERIES[number],
            dashed=figure == dashed,
        )
        for number, node in enumerate(samples[0]["nodes"])
        for figure in (solid, dashed)
    ]
    lines(axis, title, series, x="minutes", y="MiB")


def check_enough(minutes: float, every_s: float) -> None:
    """Whether a run will have samples enough for a verdict, also if some come late.

    Raises:
        click.UsageError: it will not.
    """
    needed = 3 * SAMPLES_MIN
    if minutes * 60 / every_s < needed:
        raise click.UsageError(f"a verdict needs {needed} samples: take them more often (--every), or for longer")


def elections(samples: Sequence[dict[str, Any]]) -> int:
    """By how much the term grew."""
    return int(samples[-1]["term"] - samples[0]["term"])

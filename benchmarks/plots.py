"""Pictures of results, as SVG, with matplotlib: bars with their spread, and lines over time or size.

What may not live here: measuring, and what a picture shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = {"raftkv": "#0f766e", "etcd": "#b45309"}
SERIES = ("#0f766e", "#b45309", "#4338ca", "#9d174d", "#4d7c0f", "#475569")
# Text stays text, and the same result makes the same file.
matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "raftkv", "font.size": 9, "axes.titlesize": 10})


@dataclass(frozen=True, kw_only=True)
class Bars:
    """One colour of bars: heights with lowest and highest value; None where there is none."""

    name: str
    values: Sequence[tuple[float, float, float] | None]
    colour: str


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    colour: str
    dashed: bool = False


def panels(count: int, *, width: float = 9.0, height: float = 2.6) -> tuple[Figure, list[Axes]]:
    """A figure with panels one below the other."""
    figure = Figure(figsize=(width, height * count), layout="constrained")
    found = [row[0] for row in figure.subplots(count, 1, squeeze=False)]
    for axis in found:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(color="#e5e5e5", linewidth=0.6)
        axis.set_axisbelow(True)
    return figure, found


def bars(axis: Axes, title: str, labels: Sequence[str], series: Sequence[Bars], *, unit: str) -> None:
    """Groups of bars with whiskers."""
    width = 0.8 / max(1, len(series))
    for number, one in enumerate(series):
        for place, value in enumerate(one.values):
            if value is None:
                continue
            middle, low, high = value
            x = place + (number - (len(series) - 1) / 2) * width
            whisker = [[middle - low], [high - middle]]
            name = one.name if place == _first(one.values) else None
            axis.bar(x, middle, width * 0.9, color=one.colour, label=name, yerr=whisker, capsize=2, ecolor="#444")
            axis.annotate(f"{middle:,.0f}", (x, high), ha="center", va="bottom", fontsize=7)
    axis.set_xticks(range(len(labels)), labels)
    axis.set_title(title, loc="left")
    axis.set_ylabel(unit)
    axis.margins(y=0.15)
    _legend(axis)


def lines(axis: Axes, title: str, series: Sequence[Line], *, x: str, y: str, log_x: bool = False) -> None:
    """Lines, from zero upwards."""
    for one in series:
        style: dict[str, Any] = {"linestyle": "--" if one.dashed else "-", "linewidth": 1.3}
        axis.plot(one.x, one.y, label=one.name, color=one.colour, marker="o" if log_x else None, markersize=3, **style)
    if log_x:
        axis.set_xscale("log")
    axis.set_ylim(bottom=0)
    axis.set_title(title, loc="left")
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    _legend(axis)


def save(figure: Figure, path: Path) -> Path:
    """Write an SVG."""
    figure.savefig(path, format="svg", metadata={"Date": None})
    return path


def _legend(axis: Axes) -> None:
    """Beside the panel, where it hides nothing."""
    axis.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _first(values: Sequence[object]) -> int:
    return next((place for place, value in enumerate(values) if value is not None), 0)

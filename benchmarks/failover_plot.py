"""The outages of a run: a dot for each round, a bar at the median, a row for each fault and system.

What may not live here: measuring.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.plots import COLOURS, panels, save

LOW_MS, HIGH_MS = 1.0, 20_000.0
ROW, GAP = 1.0, 0.8
INCHES_A_ROW = 0.17


def plot(rounds: Sequence[Mapping[str, Any]], titles: Mapping[str, str], path: Path) -> Path:
    """An SVG of these rounds (each with system, load, fault, outage_ms)."""
    groups = list(dict.fromkeys((r["load"], r["fault"]) for r in rounds))
    systems = list(dict.fromkeys(r["system"] for r in rounds))
    height = len(groups) * (len(systems) * ROW + GAP)
    figure, (axis,) = panels(1, height=1.0 + height * INCHES_A_ROW)
    y, ticks = 0.0, []
    for load, fault in groups:
        ticks.append((y + (len(systems) - 1) / 2 * ROW, f"{titles[fault]} ({load})"))
        for system in systems:
            found = [r["outage_ms"] for r in rounds if (r["system"], r["load"], r["fault"]) == (system, load, fault)]
            shown = [min(HIGH_MS, max(LOW_MS, ms)) for ms in found]
            colour, label = COLOURS[system], system if y < len(systems) * ROW else None
            axis.scatter(shown, [y] * len(shown), s=16, color=colour, alpha=0.45, linewidths=0, label=label)
            if shown:
                axis.vlines(statistics.median(shown), y - 0.4, y + 0.4, color=colour, linewidth=2.5)
            y += ROW
        y += GAP
    axis.set_xscale("log")
    axis.set_xlim(LOW_MS, HIGH_MS)
    axis.set_xticks([1, 10, 100, 1_000, 10_000], ["1 ms", "10 ms", "100 ms", "1 s", "10 s"])
    axis.set_yticks([place for place, _ in ticks], [text for _, text in ticks])
    axis.margins(y=0.01)
    axis.invert_yaxis()
    axis.set_title("Longest time without an acknowledged write, by fault on the leader", loc="left")
    axis.legend(frameon=False, loc="lower right")
    return save(figure, path)

"""The outages of a run as one SVG: a dot for each round, a bar at the median, a row for each fault and system.

What may not live here: measuring.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

COLOURS = {"raftkv": "#0f766e", "etcd": "#b45309"}
LEFT, RIGHT, TOP, ROW, GAP = 330, 940, 46, 15, 12
LOW_MS, HIGH_MS = 1.0, 20_000.0
STYLE = "text{font:12px system-ui,sans-serif;fill:#333}.tick{font-size:11px;fill:#777}.grid{stroke:#e5e5e5}"


def plot(rounds: Sequence[Mapping[str, Any]], titles: Mapping[str, str]) -> str:
    """An SVG of these rounds (each with system, load, fault, outage_ms)."""
    groups = list(dict.fromkeys((r["load"], r["fault"]) for r in rounds))
    systems = list(dict.fromkeys(r["system"] for r in rounds))
    height = TOP + len(groups) * (len(systems) * ROW + GAP) + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 960 {height}" width="960" height="{height}">',
        f'<style>{STYLE}</style><rect width="960" height="{height}" fill="white"/>',
        '<text x="16" y="20" font-weight="bold">Longest time without an acknowledged write, by fault on the leader</text>',
    ]
    for ms in (1, 10, 100, 1_000, 10_000):
        label = f"{ms} ms" if ms < 1000 else f"{ms // 1000} s"
        parts.append(f'<line class="grid" x1="{_x(ms):.1f}" x2="{_x(ms):.1f}" y1="{TOP - 4}" y2="{height - 8}"/>')
        parts.append(f'<text class="tick" x="{_x(ms):.1f}" y="{TOP - 8}" text-anchor="middle">{label}</text>')
    y = TOP + ROW / 2
    for load, fault in groups:
        parts.append(f'<text x="{LEFT - 70}" y="{y + 9:.1f}" text-anchor="end">{escape(titles[fault])} ({load})</text>')
        for system in systems:
            found = [r["outage_ms"] for r in rounds if (r["system"], r["load"], r["fault"]) == (system, load, fault)]
            parts += _row(system, found, y)
            y += ROW
        y += GAP
    return "\n".join([*parts, "</svg>", ""])


def _row(system: str, found: Sequence[float], y: float) -> list[str]:
    colour = COLOURS.get(system, "#333")
    parts = [f'<text x="{LEFT - 10}" y="{y + 4:.1f}" text-anchor="end" fill="{colour}">{system}</text>']
    parts += [
        f'<circle cx="{_x(ms):.1f}" cy="{y:.1f}" r="3.2" fill="{colour}" fill-opacity=".45"><title>{ms:.0f} ms</title></circle>'
        for ms in found
    ]
    if found:
        x = _x(statistics.median(found))
        parts.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y - 6:.1f}" y2="{y + 6:.1f}" stroke="{colour}" stroke-width="3"/>'
        )
    return parts


def _x(ms: float) -> float:
    share = math.log(min(HIGH_MS, max(LOW_MS, ms)) / LOW_MS) / math.log(HIGH_MS / LOW_MS)
    return LEFT + (RIGHT - LEFT) * share

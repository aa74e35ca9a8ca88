"""One round as an inline SVG: throughput above, latency below, with the fault, the healing and every new leader marked.

What may not live here: HTML around it (``report.py``), and figures that are not in the round.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape

from raftkv.lab.drill.measuring import BIN_S, Bin
from raftkv.lab.drill.verdict import Mark, Round

WIDTH, HEIGHT = 960, 330
LEFT, RIGHT = 64, 948
TOP, RATE_BOTTOM = 34, 150
LATENCY_TOP, BOTTOM = 176, 296
LATENCY_MIN_MS, LATENCY_MAX_MS = 1.0, 10_000.0
COLOURS = {"writes": "#c2410c", "reads": "#1d4ed8", "fault": "#b91c1c", "healed": "#15803d", "leader": "#6d28d9"}
LABEL_WIDTH = 150


def picture(found: Round) -> str:
    """The SVG of a round; empty where nothing was recorded."""
    if not found.bins:
        return ""
    start, end = found.bins[0].at_s, found.bins[-1].at_s + BIN_S
    axis = _Axis(start, end)
    title = escape(f"{found.fault}, round {found.number}: operations a second and slowest operation, over time")
    return "\n".join(
        [
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" xmlns="http://www.w3.org/2000/svg"><title>{title}</title>',
            _gap(axis, found.write_gap),
            *_time_axis(axis),
            *_rates(axis, found.bins),
            *_latencies(axis, found.bins),
            *_marks(axis, found.marks),
            "</svg>",
        ]
    )


class _Axis:
    """Seconds from the fault to a place across the picture."""

    def __init__(self, start: float, end: float) -> None:
        self.start = start
        self.end = end

    def x(self, at_s: float) -> float:
        share = (at_s - self.start) / (self.end - self.start)
        return LEFT + (RIGHT - LEFT) * min(1.0, max(0.0, share))


def _gap(axis: _Axis, gap: tuple[float, float]) -> str:
    left, right = axis.x(gap[0]), axis.x(gap[1])
    return (
        f'<rect class="gap" x="{left:.1f}" y="{TOP}" width="{max(0.5, right - left):.1f}" height="{BOTTOM - TOP}">'
        f"<title>no write succeeded for {(gap[1] - gap[0]) * 1000:.0f} ms</title></rect>"
    )


def _time_axis(axis: _Axis) -> Iterable[str]:
    step = next(step for step in (0.5, 1, 2, 5, 10, 20, 60) if (axis.end - axis.start) / step <= 16)
    tick = math.ceil(axis.start / step) * step
    while tick <= axis.end:
        x = axis.x(tick)
        yield f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{BOTTOM}"/>'
        yield f'<text class="tick" x="{x:.1f}" y="{BOTTOM + 16}" text-anchor="middle">{tick:g} s</text>'
        tick = round(tick + step, 6)


def _rates(axis: _Axis, found: Sequence[Bin]) -> Iterable[str]:
    """Steps: what returned within each span, as a rate."""
    highest = max(1.0, *(max(b.reads, b.writes) / BIN_S for b in found))
    for share in (0.0, 0.5, 1.0):
        y = RATE_BOTTOM - (RATE_BOTTOM - TOP) * share
        yield f'<line class="grid" x1="{LEFT}" x2="{RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text class="tick" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{highest * share:,.0f}/s</text>'
    for name in ("reads", "writes"):
        points = []
        for b in found:
            y = RATE_BOTTOM - (RATE_BOTTOM - TOP) * getattr(b, name) / BIN_S / highest
            points += [f"{axis.x(b.at_s):.1f},{y:.1f}", f"{axis.x(b.at_s + BIN_S):.1f},{y:.1f}"]
        yield f'<polyline fill="none" stroke="{COLOURS[name]}" points="{" ".join(points)}"/>'


def _latencies(axis: _Axis, found: Sequence[Bin]) -> Iterable[str]:
    """A dot for the slowest read and write of each span, on a logarithmic scale."""
    for ms, label in ((1, "1 ms"), (10, "10 ms"), (100, "100 ms"), (1000, "1 s"), (10_000, "10 s")):
        y = _latency_y(ms)
        yield f'<line class="grid" x1="{LEFT}" x2="{RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text class="tick" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{label}</text>'
    for name, field in (("reads", "read_max_ms"), ("writes", "write_max_ms")):
        for b in found:
            ms = getattr(b, field)
            if ms is not None:
                x, y = axis.x(b.at_s + BIN_S / 2), _latency_y(ms)
                yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="1.8" fill="{COLOURS[name]}"/>'


def _latency_y(ms: float) -> float:
    bounded = min(LATENCY_MAX_MS, max(LATENCY_MIN_MS, ms))
    share = math.log10(bounded / LATENCY_MIN_MS) / math.log10(LATENCY_MAX_MS / LATENCY_MIN_MS)
    return BOTTOM - (BOTTOM - LATENCY_TOP) * share


def _marks(axis: _Axis, marks: Sequence[Mark]) -> Iterable[str]:
    """A line each; labels that would overlap go one row down."""
    ends = [-math.inf, -math.inf, -math.inf]
    for mark in sorted(marks, key=lambda mark: mark.at_s):
        x = axis.x(mark.at_s)
        row = next((row for row, end in enumerate(ends) if end <= x), 2)
        ends[row] = x + LABEL_WIDTH
        colour = COLOURS[mark.kind]
        anchor = "end" if x > RIGHT - LABEL_WIDTH else "start"
        text = escape(f"{mark.text} ({mark.at_s * 1000:+.0f} ms)" if mark.kind != "fault" else mark.text)
        yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{BOTTOM}" stroke="{colour}" stroke-dasharray="4 2"/>'
        yield f'<text class="mark" x="{x + (3 if anchor == "start" else -3):.1f}" y="{10 + 11 * row}" fill="{colour}" text-anchor="{anchor}">{text}</text>'

"""How long something takes, counted in the buckets that etcd's histograms have.

What may not live here: clocks, and how the counts are shown (`raftkv.metrics`).
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

BOUNDS_S: Final = tuple(0.001 * 2**power for power in range(14))
"""Upper bounds in seconds, 1 ms to 8.192 s; there is one more bucket, for what takes longer."""


class Durations:
    """Written by one thread, read by any: a reader may see the last one counted in one place and not yet in the other."""

    __slots__ = ("counts", "total_s")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_S) + 1)
        self.total_s = 0.0

    def add(self, seconds: float) -> None:
        """It took so long once more."""
        self.counts[bisect_left(BOUNDS_S, seconds)] += 1
        self.total_s += seconds

"""Whether a figure stays as it is over a long run: how far the second half of its samples leans.

The first half is for caches, logs and the database file to reach their size. Through the second half goes a straight line by least
squares; what it rises by, from the middle of the run to its end, must be little beside the figure itself. A figure that goes down
is flat.

What may not live here: measuring.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

SHARE_MAX = 0.10
"""Of the mean of the second half."""
SAMPLES_MIN = 6


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One figure, judged.

    Attributes:
        rise: by how much the line through the second half rises.
        allowed: how much it may.
    """

    name: str
    unit: str
    mean: float
    rise: float
    allowed: float

    @property
    def flat(self) -> bool:
        return self.rise <= self.allowed

    def __str__(self) -> str:
        return (
            f"{'flat' if self.flat else 'NOT FLAT':<8}  {self.name}: {self.mean:,.1f} {self.unit} in the second half, "
            f"{self.rise:+,.1f} along it (allowed {self.allowed:,.1f})"
        )


def judge(
    name: str, times: Sequence[float], values: Sequence[float], *, unit: str, floor: float, share: float = SHARE_MAX
) -> Verdict:
    """Judge one figure. A rise of ``floor`` is nothing, however small the figure is.

    Raises:
        ValueError: there are too few samples for a verdict.
    """
    assert len(times) == len(values), f"{len(times)} times for {len(values)} values"
    half = list(zip(times, values, strict=True))[len(times) // 2 :]
    if len(half) < SAMPLES_MIN:
        raise ValueError(f"{len(half)} samples in the second half are too few for a verdict: {SAMPLES_MIN} are needed")
    later, found = [at for at, _ in half], [value for _, value in half]
    slope, _ = statistics.linear_regression(later, found)
    mean = statistics.fmean(found)
    return Verdict(
        name=name,
        unit=unit,
        mean=mean,
        rise=slope * (later[-1] - later[0]),
        allowed=max(floor, share * mean),
    )

"""When to ask the leader again for what it has not done: longer each time, until something moves.

What was asked for may be lost on the way, so it must be asked for again; but a slow quorum that gets everything twice only
becomes slower.

What may not live here: what is asked for.
"""

from __future__ import annotations

REFUSED_TICKS = 2
"""After the first refusal; each further one doubles it."""
DOUBLINGS_MAX = 3
"""Silence is waited out for at most 2**this times the usual."""


class Patience:
    """Counts ticks until it is time to ask again.

    Args:
        usual_ticks: how long an answer may take before the question counts as lost.
    """

    def __init__(self, usual_ticks: int) -> None:
        self._usual_ticks = usual_ticks
        self.moved()

    def moved(self) -> None:
        """There is a new leader, or it did something for us: start counting anew, with the usual patience."""
        self._elapsed_ticks = 0
        self._wait_ticks = self._usual_ticks
        self._refused_ticks = REFUSED_TICKS

    def refused(self) -> None:
        """The leader, or the core, would not take it now: ask again soon, but later each time."""
        self._elapsed_ticks = 0
        self._wait_ticks = min(self._refused_ticks, self._usual_ticks)
        self._refused_ticks = min(2 * self._refused_ticks, self._usual_ticks)

    def tick(self) -> bool:
        """A tick has passed. True: ask again now; the next time will take longer."""
        self._elapsed_ticks += 1
        if self._elapsed_ticks < self._wait_ticks:
            return False
        self._elapsed_ticks = 0
        self._wait_ticks = min(2 * max(self._wait_ticks, self._usual_ticks // 2), self._usual_ticks << DOUBLINGS_MAX)
        return True

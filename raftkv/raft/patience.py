"""How long silence may last before it means something: the election timeout, as this node's own experience stretches it.

A short timeout finds a silent leader soon; too short a one takes a busy machine for a dead one. So the configured timeout is
the least, and the longest silence that turned out to be nothing - a leader, or a quorum of followers, that was heard again -
stretches it, up to a ceiling. What was seen long ago is forgotten.

Silences are counted in ticks, and a loop that was held up counts few of the ticks that it missed: our own slowness does not
look like the others'.

What may not live here: what follows from a timeout; messages.
"""

from __future__ import annotations

GAPS_IN_TIMEOUT = 2
"""A silence this many times longer than any seen lately is news. Measured: a busy machine leaves gaps of 100 to 130 ms between
heartbeats that are 50 ms apart; those alone should not stretch a timeout of 300 ms."""
STRETCH_MAX = 2
"""The ceiling, in configured timeouts: however the machine behaves, an outage stays bounded."""
WINDOW_TIMEOUTS = 50
"""Every so many configured timeouts the older half of what is remembered goes."""


class Patience:
    """Invariant: configured timeout <= timeout_ticks <= STRETCH_MAX times it."""

    __slots__ = ("_age_ticks", "_longest_before", "_longest_now", "_timeout_ticks_min", "timeout_ticks")

    def __init__(self, timeout_ticks_min: int) -> None:
        self._timeout_ticks_min = timeout_ticks_min
        self._age_ticks = 0
        self._longest_now = 0
        self._longest_before = 0
        self.timeout_ticks = timeout_ticks_min

    def tick(self) -> None:
        self._age_ticks += 1
        if self._age_ticks >= WINDOW_TIMEOUTS * self._timeout_ticks_min:
            self._age_ticks = 0
            self._longest_before, self._longest_now = self._longest_now, 0
            self._stretch()

    def heard_after(self, gap_ticks: int) -> None:
        """Somebody whose silence would have meant something was heard again. Longer than the ceiling: that *was* a fault."""
        if self._longest_now < gap_ticks <= STRETCH_MAX * self._timeout_ticks_min:
            self._longest_now = gap_ticks
            self._stretch()

    def _stretch(self) -> None:
        wanted = GAPS_IN_TIMEOUT * max(self._longest_now, self._longest_before)
        low = self._timeout_ticks_min
        self.timeout_ticks = min(max(wanted, low), STRETCH_MAX * low)

"""How a leader lets time pass: when to have the replicated clock advanced, and to what.

               began to lead
                    │ now = the log's clock there          an advance is in the log
    log's clock  ───┴───────────────────────┬──────────────────────┬────────────►
    leader's     ───/───────/───────/───────/───────/  at most LEAD_MAX_MS ahead

While it leads, a node adds up the ticks of its own monotonic clock, from the log's clock on that it found when it had applied
everything of former terms. Nothing that a former leader counted is counted twice, and what passed between the two is not
counted at all: leases then live longer by as much, never shorter. It runs ahead of the log's clock by a bound only. When the
log stalls, so does time: nobody could renew meanwhile.

What may not live here: Raft, the log, any clock of the machine.
"""

from __future__ import annotations

from dataclasses import dataclass

ADVANCE_EVERY_MS = 250
"""How often the log is told of the time while there is a lease: what a change of leaders may cost in time not counted."""
COARSE_EVERY_MS = 60_000
"""The same while there is no lease, but clients' sessions, which live for minutes."""
LEAD_MAX_MS = 500
"""How far a leader's clock may be ahead of the log's. A deadline has as much added to it. Changing it changes the meaning of
the log: all nodes must agree."""


@dataclass(frozen=True, slots=True)
class ClockView:
    """What a state machine says of time, at the last entry it has applied."""

    index: int
    term: int
    """Of that entry."""
    clock_ms: int
    next_deadline_ms: int | None
    """None: there is no lease."""
    has_sessions: bool = False
    """Without any and without leases there is nothing to count for."""


@dataclass(frozen=True, slots=True)
class Advance:
    """What the log's clock should be advanced to; `coarse`: only if there is no lease when it is applied."""

    now_ms: int
    coarse: bool = False


class LeaderClock:
    """The clock of a node, for as long as it leads."""

    def __init__(self) -> None:
        self._term = 0
        self._now_ms = 0.0
        self._coarse_ms = 0.0
        self._coarse_since_ms = 0

    def passed(self, milliseconds: float, view: ClockView, *, term: int) -> Advance | None:
        """So much time has passed for this node, which leads in `term`. What the log's clock should now be advanced to.

        None: to nothing yet. That it was advanced shows in the next view.
        """
        if view.term != term:
            return None  # Entries of former terms may still be on their way, and the clock in them.
        if self._term != term or view.next_deadline_ms is None:
            self._now_ms = view.clock_ms
            return self._passed_without_leases(milliseconds, view, term)
        self._now_ms = max(view.clock_ms, min(self._now_ms + milliseconds, view.clock_ms + LEAD_MAX_MS))
        is_due = view.next_deadline_ms <= self._now_ms or self._now_ms - view.clock_ms >= ADVANCE_EVERY_MS
        return Advance(int(self._now_ms)) if is_due else None

    def _passed_without_leases(self, milliseconds: float, view: ClockView, term: int) -> Advance | None:
        if self._term != term or view.clock_ms != self._coarse_since_ms:
            self._term, self._coarse_ms, self._coarse_since_ms = term, 0, view.clock_ms
        if not view.has_sessions or view.next_deadline_ms is not None:
            return None
        self._coarse_ms += milliseconds
        is_due = self._coarse_ms >= COARSE_EVERY_MS
        return Advance(view.clock_ms + int(self._coarse_ms), coarse=True) if is_due else None

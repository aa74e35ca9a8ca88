"""The leader's duty towards leases: to say in the log how much time has passed, while there is a lease.

An advance of the clock is said once, in the leader's own log, and is nobody's proposal: no one waits for it, nobody repeats
it. If leadership is lost before it is committed, the next leader counts for itself.

What may not live here: what time it is (`raftkv.lease.clock`), and what becomes of leases (`raftkv.lease.commands`).
"""

from __future__ import annotations

from raftkv.lease.clock import ClockView, LeaderClock
from raftkv.pb import store_pb2
from raftkv.raft import ProposalDropped, Raft, RoleName
from raftkv.raft.types import Proposal


class LeaseDuty:
    """Counts ticks while this node leads. One advance is on its way at a time."""

    def __init__(self, raft: Raft, *, tick_ms: float) -> None:
        self._raft = raft
        self._tick_ms = tick_ms
        self._clock = LeaderClock()
        self._view = ClockView(0, 0, 0, None)
        self._advance_index = 0
        self._advance_term = 0

    def applied(self, view: ClockView) -> None:
        """The state machine has come so far."""
        self._view = view

    def tick(self, ticks: int) -> None:
        """Missed ticks count too: the time has passed, whoever slept."""
        raft, view = self._raft, self._view
        if raft.role is not RoleName.LEADER:
            return
        advance = self._clock.passed(ticks * self._tick_ms, view, term=raft.term)
        if advance is None or (self._advance_term == raft.term and self._advance_index > view.index):
            return
        index = raft.last_index + 1
        command = store_pb2.Command(
            clock_advance=store_pb2.ClockAdvance(term=raft.term, now_ms=advance.now_ms, coarse=advance.coarse)
        )
        try:
            raft.propose([Proposal(store_pb2.CommandBatch(commands=(command,)).SerializeToString())])
        except ProposalDropped:
            return  # Too much is waiting, or another is to lead. Until the log moves, so does no time.
        self._advance_index, self._advance_term = index, raft.term

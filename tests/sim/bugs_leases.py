"""Bugs of leases, as one writes them at first: number 0, for they are on no list of bugs of Raft. See `known_bugs`."""

from __future__ import annotations

from raftkv.lease import commands
from raftkv.lease.clock import LEAD_MAX_MS, Advance, ClockView, LeaderClock
from raftkv.mvcc.leases import Leases
from tests.sim.planting import Planter, bug


@bug(0, tier=2, seed=2)
def deadline_does_not_allow_for_the_leaders_lead(plant: Planter) -> None:
    plant(commands, "_deadline_ms", lambda clock_ms, ttl_s: clock_ms + ttl_s * 1000)


@bug(0, tier=2)
def new_leader_counts_the_time_before_it_led(plant: Planter) -> None:
    """What it knows of it, it has from its own clock; the former leader has put the same time into the log."""
    original = LeaderClock.passed

    def passed(self: LeaderClock, milliseconds: float, view: ClockView, *, term: int) -> Advance | None:
        has_begun = self._term == term
        advance = original(self, milliseconds, view, term=term)
        if not has_begun and self._term == term:
            self._now_ms = view.clock_ms + 2 * LEAD_MAX_MS
            return Advance(int(self._now_ms)) if view.next_deadline_ms is not None else None
        return advance

    plant(LeaderClock, "passed", passed)


@bug(0, tier=2, seed=3)
def time_stands_still_after_a_change_of_leaders(plant: Planter) -> None:
    original = LeaderClock.passed

    def passed(self: LeaderClock, milliseconds: float, view: ClockView, *, term: int) -> Advance | None:
        return original(self, milliseconds, view, term=term) if self._term in (0, term) else None

    plant(LeaderClock, "passed", passed)


@bug(0, tier=2, seed=29)
def renewal_is_answered_and_forgotten(plant: Planter) -> None:
    def put(self: Leases, lease: object) -> None:
        if self.get(lease.id) is None:  # type: ignore[attr-defined]
            original(self, lease)  # type: ignore[arg-type]

    original = Leases.put
    plant(Leases, "put", put)

"""A node knows when it is cut off, and when it is not any more."""

from __future__ import annotations

from raftkv.raft.reach import Reach
from raftkv.raft.types import Membership

THREE = Membership(voters=frozenset({1, 2, 3}))
TIMEOUT_TICKS = 10


def test_whoever_leads_forgets_that_the_last_leader_did_not_hear_it() -> None:
    reach = Reach(TIMEOUT_TICKS)
    reach.tick(1, 2, THREE, TIMEOUT_TICKS)
    reach.leader_says(unheard=True)
    for _ in range(TIMEOUT_TICKS):
        reach.tick(1, 2, THREE, TIMEOUT_TICKS)
    assert reach.is_cut_off

    reach.tick(1, 1, THREE, TIMEOUT_TICKS)

    assert not reach.is_cut_off


def test_a_new_leader_that_hears_us_ends_it() -> None:
    reach = Reach(TIMEOUT_TICKS)
    reach.leader_says(unheard=True)
    for _ in range(TIMEOUT_TICKS):
        reach.tick(1, 2, THREE, TIMEOUT_TICKS)

    reach.leader_says(unheard=False)
    reach.tick(1, 3, THREE, TIMEOUT_TICKS)

    assert not reach.is_cut_off

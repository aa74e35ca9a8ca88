"""How long silence lasts before somebody campaigns, and who does."""

from __future__ import annotations

import itertools

import pytest

from raftkv.raft import Resigned, RoleName
from raftkv.raft.patience import GAPS_IN_TIMEOUT, STRETCH_MAX, WINDOW_TIMEOUTS, Patience
from tests.raft.cluster import Group, cluster

TIMEOUT_TICKS = 30
LIMITS = {"election_timeout_ticks": TIMEOUT_TICKS, "heartbeat_interval_ticks": 5}


def ticks_to_a_leader(group: Group, *, other_than: int, ticks_max: int) -> int:
    for tick in range(1, ticks_max + 1):
        group.tick(nodes=[node for node in group.up if node != other_than])
        for node in group.up:
            if node != other_than and group[node].role is RoleName.LEADER:
                return tick
    raise AssertionError(f"nobody leads after {ticks_max} ticks")


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("count", [3, 5])
def test_a_silent_leader_is_succeeded_soon_after_one_timeout_in_one_term(count: int, seed: int) -> None:
    group = cluster(count, seed=seed, **LIMITS).elect(1).tick(10)
    term = group[1].term
    group.isolate(1)

    ticks = ticks_to_a_leader(group, other_than=1, ticks_max=2 * TIMEOUT_TICKS)

    assert TIMEOUT_TICKS - 5 <= ticks <= TIMEOUT_TICKS + 6
    assert group.leader.term == term + 1


@pytest.mark.parametrize("seed", range(10))
def test_if_the_first_in_line_is_gone_too_the_next_one_takes_its_turn(seed: int) -> None:
    group = cluster(5, seed=seed, **LIMITS).elect(1).tick(10)
    group.isolate(1).isolate(2)

    ticks = ticks_to_a_leader(group, other_than=1, ticks_max=2 * TIMEOUT_TICKS)

    assert ticks <= TIMEOUT_TICKS + 12
    assert group[3].role is RoleName.LEADER


def test_followers_take_turns_wide_enough_for_an_election() -> None:
    """Candidates that all took the first turn would split the votes again and again."""
    group = cluster(5, **LIMITS).elect(1).tick(1).isolate(1, 2, 3, 4, 5)
    campaigns = {}
    for node in (2, 3, 4, 5):
        group.isolate(node)
    for tick in range(3 * TIMEOUT_TICKS):
        group.tick()
        for node in (2, 3, 4, 5):
            if group[node].role is RoleName.PRE_CANDIDATE:
                campaigns.setdefault(node, tick)

    assert list(campaigns) == [2, 3, 4, 5]
    turns = list(campaigns.values())
    assert all(later - earlier >= 3 for earlier, later in itertools.pairwise(turns))


def test_a_leader_that_resigns_is_succeeded_at_once() -> None:
    """It hears nobody and is heard: CheckQuorum deposes it, and it says so."""
    group = cluster(3, **LIMITS).elect(1).tick(10)
    group.cut((2, 1), (3, 1))
    group.tick(TIMEOUT_TICKS + 1)

    assert group[1].role is not RoleName.LEADER
    assert group[2].role is RoleName.LEADER
    assert group[2].term == 2
    assert group[3].leader == 2


def test_the_resignation_of_somebody_who_does_not_lead_is_void() -> None:
    group = cluster(3, **LIMITS).elect(1).tick(10)
    group[2].step(Resigned(sender=3, receiver=2, term=1))
    group[2].step(Resigned(sender=1, receiver=2, term=0))
    group.tick(10)

    assert (group[1].role, group[1].term) == (RoleName.LEADER, 1)


def test_a_bridge_changes_no_leader_and_no_term() -> None:
    """1 leads, 2 does not hear it, 3 hears both: 3 keeps to its leader, however often 2 asks."""
    group = cluster(3, **LIMITS).elect(1).tick(10)
    group.cut((1, 2), (2, 1)).tick(20 * TIMEOUT_TICKS)
    assert group[2].is_cut_off
    assert not group[1].is_cut_off

    group.heal().tick(20 * TIMEOUT_TICKS)

    assert (group[1].role, group[1].term) == (RoleName.LEADER, 1)
    assert not group[2].is_cut_off


def test_whoever_is_cut_off_in_any_way_leaves_the_term_alone_and_returns_in_peace() -> None:
    for cut in ([(1, 2), (1, 3)], [(2, 1), (3, 1)], [(1, 2), (1, 3), (2, 1), (3, 1)]):
        group = cluster(3, **LIMITS).elect(1).tick(10)
        group.cut(*cut).tick(10 * TIMEOUT_TICKS)
        leader = group.leader
        assert leader.term == 2

        group.heal().tick(10 * TIMEOUT_TICKS)

        assert (leader.role, leader.term) == (RoleName.LEADER, 2)
        assert group[1].leader == leader.node_id


def test_two_heartbeats_missed_stretch_nothing() -> None:
    patience = Patience(TIMEOUT_TICKS)
    patience.heard_after(15)

    assert patience.timeout_ticks == TIMEOUT_TICKS


def test_a_silence_that_was_nothing_stretches_the_timeout() -> None:
    patience = Patience(TIMEOUT_TICKS)
    patience.heard_after(22)

    assert patience.timeout_ticks == 22 * GAPS_IN_TIMEOUT


def test_patience_has_an_end() -> None:
    patience = Patience(TIMEOUT_TICKS)
    patience.heard_after(STRETCH_MAX * TIMEOUT_TICKS)

    assert patience.timeout_ticks == STRETCH_MAX * TIMEOUT_TICKS


def test_a_silence_beyond_the_ceiling_was_a_fault_and_teaches_nothing() -> None:
    patience = Patience(TIMEOUT_TICKS)
    patience.heard_after(STRETCH_MAX * TIMEOUT_TICKS + 1)

    assert patience.timeout_ticks == TIMEOUT_TICKS


def test_what_was_seen_long_ago_is_forgotten() -> None:
    patience = Patience(TIMEOUT_TICKS)
    patience.heard_after(25)
    for _ in range(2 * WINDOW_TIMEOUTS * TIMEOUT_TICKS - 1):
        patience.tick()
    assert patience.timeout_ticks == 50

    patience.tick()

    assert patience.timeout_ticks == TIMEOUT_TICKS


def test_late_heartbeats_stretch_a_followers_timeout_and_its_lease() -> None:
    group = cluster(3, **LIMITS).elect(1).tick(10)
    group.cut((1, 2)).tick(25, nodes=[1, 2])  # Node 2 hears its leader again before it has lost patience.
    group.heal().tick(5)
    group.isolate(1)

    ticks = ticks_to_a_leader(group, other_than=1, ticks_max=4 * TIMEOUT_TICKS)

    assert ticks > TIMEOUT_TICKS + 6
    assert group.leader.term == 2


def test_a_leader_whose_loop_was_held_up_sends_its_heartbeat_at_once() -> None:
    group = cluster(3, **LIMITS).elect(1).tick(5)
    group.sent.clear()

    group[1].ticks_missed(4)
    group.tick(nodes=[1])

    assert [type(message).__name__ for message in group.sent if message.sender == 1].count("HeartbeatRequest") == 2

"""A node knows when it is cut off, and when it is not any more."""

from __future__ import annotations

from raftkv.raft.reach import Reach
from raftkv.raft.types import Membership

THREE = Membership(voters=frozenset({1, 2, 3}))
TIMEOUT_TICKS = 10


def heard_by_nobody(reach: Reach, leader: int, ticks: int) -> None:
    """The leader says so, every few ticks."""
    for tick in range(ticks):
        reach.tick(1, leader, THREE, TIMEOUT_TICKS)
        if tick % 2 == 0:
            reach.leader_says(leader, unheard=True, timeout_ticks=TIMEOUT_TICKS)


def test_a_node_that_its_leader_does_not_hear_is_cut_off() -> None:
    reach = Reach(TIMEOUT_TICKS)
    heard_by_nobody(reach, 2, TIMEOUT_TICKS)

    assert reach.is_cut_off


def test_what_a_leader_said_once_is_no_news_later() -> None:
    """It had just been elected, and then fell silent: the silence is what counts."""
    reach = Reach(TIMEOUT_TICKS)
    reach.tick(1, 2, THREE, TIMEOUT_TICKS)
    reach.leader_says(2, unheard=True, timeout_ticks=TIMEOUT_TICKS)
    for _ in range(3 * TIMEOUT_TICKS):
        reach.tick(1, 2, THREE, TIMEOUT_TICKS)

    assert not reach.is_cut_off


def test_whoever_leads_forgets_that_the_last_leader_did_not_hear_it() -> None:
    reach = Reach(TIMEOUT_TICKS)
    heard_by_nobody(reach, 2, TIMEOUT_TICKS)
    assert reach.is_cut_off

    reach.tick(1, 1, THREE, TIMEOUT_TICKS)

    assert not reach.is_cut_off


def test_a_new_leader_that_hears_us_ends_it() -> None:
    reach = Reach(TIMEOUT_TICKS)
    heard_by_nobody(reach, 2, TIMEOUT_TICKS)

    reach.leader_says(3, unheard=False, timeout_ticks=TIMEOUT_TICKS)
    reach.tick(1, 3, THREE, TIMEOUT_TICKS)

    assert not reach.is_cut_off


def test_the_first_word_of_a_new_leader_is_not_added_to_the_last_ones() -> None:
    reach = Reach(TIMEOUT_TICKS)
    heard_by_nobody(reach, 2, TIMEOUT_TICKS // 2)

    reach.leader_says(3, unheard=True, timeout_ticks=TIMEOUT_TICKS)
    reach.tick(1, 3, THREE, TIMEOUT_TICKS)

    assert not reach.is_cut_off


def leaderless(reach: Reach, ticks: int) -> None:
    for _ in range(ticks):
        reach.tick(1, 0, THREE, TIMEOUT_TICKS)


def led_once() -> Reach:
    reach = Reach(TIMEOUT_TICKS)
    reach.tick(1, 2, THREE, TIMEOUT_TICKS)
    return reach


def test_who_hears_nobody_is_cut_off_half_a_timeout_after_it_lost_its_leader() -> None:
    reach = led_once()
    leaderless(reach, TIMEOUT_TICKS // 2 - 1)
    assert not reach.is_cut_off

    leaderless(reach, 1)

    assert reach.is_cut_off


def test_who_reaches_a_quorum_waits_for_the_election() -> None:
    reach = led_once()
    for _ in range(5):
        leaderless(reach, 1)
        reach.heard(3)
        leaderless(reach, TIMEOUT_TICKS)
        assert not reach.is_cut_off


def test_who_is_told_of_a_leader_that_it_does_not_hear_is_cut_off() -> None:
    """A bridge: the voter between the two hears both."""
    reach = led_once()
    leaderless(reach, 1)
    reach.heard(3, elsewhere=True)
    leaderless(reach, TIMEOUT_TICKS // 2)
    assert reach.is_cut_off

    reach.heard(3)  # It asks for our vote: its leader is gone, too.
    leaderless(reach, 1)

    assert not reach.is_cut_off


def test_a_node_that_has_just_started_waits_for_its_peers_to_start() -> None:
    reach = Reach(TIMEOUT_TICKS)
    leaderless(reach, 3 * TIMEOUT_TICKS)
    assert not reach.is_cut_off

    leaderless(reach, 2 * TIMEOUT_TICKS)

    assert reach.is_cut_off


def test_a_lone_voter_is_never_cut_off() -> None:
    reach = Reach(TIMEOUT_TICKS)
    for _ in range(10 * TIMEOUT_TICKS):
        reach.tick(1, 0, Membership(voters=frozenset({1})), TIMEOUT_TICKS)

    assert not reach.is_cut_off

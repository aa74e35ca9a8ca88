"""The right to lead is earned: who is unfit hands over to who is fitter, and nobody moves where all are alike."""

from __future__ import annotations

import pytest

from raftkv.raft import RoleName, TimeoutNow
from tests.raft.cluster import Group, cluster

LIMITS = {"election_timeout_ticks": 30, "heartbeat_interval_ticks": 5}


def led_by_one(count: int = 3) -> Group:
    group = cluster(count, **LIMITS).elect(1).tick(10)
    return group.propose(1, "a").settle()


def test_an_unfit_leader_hands_over() -> None:
    group = led_by_one()
    group[1].set_severity(2)
    group.tick(15)

    assert group[1].role is RoleName.FOLLOWER
    assert (group.leader.node_id, group.leader.term) == (2, 2)


def test_it_hands_over_to_the_fittest() -> None:
    group = led_by_one(5)
    for node, severity in {1: 3, 2: 2, 3: 1, 4: 0, 5: 2}.items():
        group[node].set_severity(severity)
    group.tick(15)

    assert group.leader.node_id == 4


def test_not_at_once_everybody_says_first_how_it_is() -> None:
    """A disk that all share hangs: the leader notices first."""
    group = led_by_one()
    group[1].set_severity(2)
    group.tick(8)
    for node in (2, 3):
        group[node].set_severity(2)
    group.tick(200)

    assert (group.leader.node_id, group.leader.term) == (1, 1)


@pytest.mark.parametrize("severities", [{1: 2, 2: 2, 3: 2}, {1: 1, 2: 3, 3: 3}])
def test_where_nobody_is_fitter_nobody_moves(severities: dict[int, int]) -> None:
    group = led_by_one()
    for node, severity in severities.items():
        group[node].set_severity(severity)
    group.tick(200)

    assert (group.leader.node_id, group.leader.term) == (1, 1)
    group.propose(1, "b").settle()
    assert group.nodes[2].commands() == ["a", "b"]


def test_a_fitter_follower_that_is_cut_off_is_no_successor() -> None:
    group = led_by_one()
    group[1].set_severity(2)
    group[2].set_severity(2)
    group.isolate(3).tick(200)

    assert group[1].role is RoleName.LEADER


def test_it_resigns_if_the_hand_over_does_not_come_about() -> None:
    """The order to campaign is lost again and again: then anybody may succeed it."""
    group = led_by_one()
    group[1].set_severity(2)
    for _ in range(100):
        group.take(TimeoutNow)
        for node in group.up:
            group[node].tick()
        group.take(TimeoutNow)
        for message in group.network:
            group.deliver(message)
        group.network.clear()
        if group[1].role is not RoleName.LEADER:
            break
    group.settle().tick(10)

    assert group[1].role is not RoleName.LEADER
    assert group.leader.node_id in (2, 3)


def test_writes_go_on_while_an_unfit_leader_finds_nobody_fitter() -> None:
    group = led_by_one()
    for node in (1, 2, 3):
        group[node].set_severity(1)
    group.tick(50)
    group.propose(1, "b").settle()

    assert group.nodes[1].commands() == ["a", "b"]


def test_an_unfit_follower_lets_the_others_campaign_first() -> None:
    group = led_by_one()
    group[2].set_severity(2)
    group.tick(5)
    group.isolate(1).tick(60)

    assert group.leader.node_id == 3


def test_when_all_are_unfit_somebody_leads_all_the_same() -> None:
    group = led_by_one()
    for node in (2, 3):
        group[node].set_severity(3)
    group.isolate(1).tick(150)

    assert group.leader.node_id in (2, 3)
    assert group.leader.term == 2


def test_a_node_that_is_fit_again_keeps_its_place() -> None:
    """Leadership does not go back by itself."""
    group = led_by_one()
    group[1].set_severity(2)
    group.tick(15)
    group[1].set_severity(0)
    group.tick(200)

    assert (group.leader.node_id, group.leader.term) == (2, 2)


def test_a_wish_for_another_leader_goes_to_the_fittest() -> None:
    group = led_by_one()
    group[2].set_severity(1)
    group.tick(10)
    group[1].transfer_leadership()
    group.settle()

    assert group.leader.node_id == 3

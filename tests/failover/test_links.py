"""Links that are cut, and processes that hang: no stale answer, no acknowledged write lost."""

from __future__ import annotations

import pytest

import raftkv
from raftkv.errors import RequestError
from raftkv.lab.cluster import LocalCluster
from tests.failover.conftest import PATIENT, Start
from tests.failover.load import answer_of, load, term_of, wait_until, write


def test_a_leader_cut_from_its_followers_is_replaced_and_answers_no_linearizable_read(start_cluster: Start) -> None:
    cluster = start_cluster(proxy=True)
    with load(cluster) as traffic:
        leader = cluster.wait_for_leader()
        others = [name for name in cluster.names if name != leader]
        cluster.partition([[leader], others])
        new_leader = cluster.wait_for_leader(other_than=leader)
        assert new_leader in others
        write(traffic, 200)
        refuses_to_answer(cluster, leader)
        cluster.heal()


def test_a_leader_that_hung_for_ten_election_timeouts_answers_nothing_stale(start_cluster: Start) -> None:
    cluster = start_cluster()
    with raftkv.connect(",".join(cluster.endpoints.values())) as kv, load(cluster) as traffic:
        kv.put("claim", "old")
        leader = cluster.wait_for_leader()
        cluster.pause(leader)
        cluster.wait_for_leader(other_than=leader)
        write(traffic, 1_000)
        others = ",".join(endpoint for name, endpoint in cluster.endpoints.items() if name != leader)
        with raftkv.connect(others) as rest:
            rest.put("claim", "new")
        cluster.resume(leader)
        with raftkv.connect(cluster.endpoint(leader)) as woken:
            item = woken.get("claim", timeout=10)
            assert item is not None
            assert item.text == "new"


def test_a_cut_node_does_not_drive_the_term_up_nor_disturb_when_it_returns(start_cluster: Start) -> None:
    """PreVote (dissertation §9.6): whoever hears nobody asks first, and changes no term."""
    cluster = start_cluster(*PATIENT, proxy=True)
    with load(cluster) as traffic:
        leader = cluster.wait_for_leader()
        follower = next(name for name in cluster.names if name != leader)
        term = term_of(cluster, leader)
        cluster.partition([[follower], [name for name in cluster.names if name != follower]])
        wait_until(lambda: leaderless(cluster, follower), f"{follower} misses its leader")
        write(traffic, 500)
        cluster.heal()
        wait_until(lambda: not leaderless(cluster, follower), f"{follower} finds the leader")
        write(traffic, 500)
        assert cluster.leader() == leader
        assert term_of(cluster, leader) == term


@pytest.mark.parametrize("hears", [True, False])
def test_a_leader_cut_in_one_direction_is_replaced_once_and_returns_in_peace(start_cluster: Start, hears: bool) -> None:
    """Whoever leads reaches a quorum in both directions."""
    cluster = start_cluster(*PATIENT, proxy=True)
    with load(cluster) as traffic:
        leader = cluster.wait_for_leader()
        others = [name for name in cluster.names if name != leader]
        if hears:
            cluster.cut_one_way([leader], others)
        else:
            cluster.cut_one_way(others, [leader])
        wait_for_leader_among(cluster, others)
        write(traffic, 300)
        refuses_to_answer(cluster, leader)
        new_leader = wait_for_leader_among(cluster, others)
        term = term_of(cluster, new_leader)
        cluster.heal()
        wait_until(lambda: not leaderless(cluster, leader), f"{leader} follows")
        write(traffic, 300)
        assert wait_for_leader_among(cluster, cluster.names) == new_leader
        assert term_of(cluster, new_leader) == term


def test_a_leader_cut_from_one_of_two_followers_goes_on_leading(start_cluster: Start) -> None:
    """A bridge: the other follower hears both, and keeps to its leader."""
    cluster = start_cluster(*PATIENT, proxy=True)
    with load(cluster) as traffic:
        leader = cluster.wait_for_leader()
        term = term_of(cluster, leader)
        follower = next(name for name in cluster.names if name != leader)
        cluster.cut_one_way([leader], [follower])
        wait_until(lambda: leaderless(cluster, follower), f"{follower} misses its leader")
        write(traffic, 500)
        refuses_to_answer(cluster, follower)
        cluster.heal()
        wait_until(lambda: not leaderless(cluster, follower), f"{follower} finds the leader")
        write(traffic, 300)
        assert term_of(cluster, leader) == term


def wait_for_leader_among(cluster: LocalCluster, names: list[str]) -> str:
    wait_until(lambda: cluster.leader() in names, f"one of {names} leads")
    leader = cluster.leader()
    assert leader is not None
    return leader


def refuses_to_answer(cluster: LocalCluster, name: str) -> None:
    with raftkv.connect(cluster.endpoint(name)) as kv, pytest.raises(RequestError):
        kv.get("demo/000000001", timeout=0.7)


def leaderless(cluster: LocalCluster, name: str) -> bool:
    return getattr(answer_of(cluster, name), "leader_id", None) == 0

"""Members that come and go under load: no request fails, nothing acknowledged is lost, and who was removed stops by itself."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

import raftkv
from raftkv.client import Member
from raftkv.errors import FailedPrecondition, RequestError, Unavailable
from raftkv.lab.cluster import LocalCluster
from raftkv.lab.traffic import Traffic
from tests.failover.conftest import Start
from tests.failover.load import load, wait_until, write


def connect(cluster: LocalCluster) -> raftkv.Client:
    return raftkv.connect(",".join(cluster.endpoints.values()))


def members(cluster: LocalCluster) -> dict[str, Member]:
    """Who sits in which slot of the laboratory, by its peer URL."""
    with connect(cluster) as kv:
        found = {url: member for member in kv.members(timeout=10) for url in member.peer_urls}
    slots = cluster.state.nodes
    return {name: found[slot.peer_url] for name, slot in slots.items() if slot.peer_url in found}


def remove(cluster: LocalCluster, name: str) -> None:
    node = members(cluster)[name].id
    with connect(cluster) as kv:
        kv.remove_member(node, timeout=10)


def add(cluster: LocalCluster, name: str, *, learner: bool = False) -> None:
    """In the slot of a member that was removed, with an empty data directory."""
    cluster.make_empty(name)
    with connect(cluster) as kv:
        kv.add_member(cluster.state.nodes[name].peer_url, learner=learner, timeout=10)
    cluster.start([name])
    wait_until(lambda: members(cluster)[name].name == name, f"{name} has said its name")


def replace(cluster: LocalCluster, name: str, *, learner: bool = False) -> None:
    remove(cluster, name)
    wait_until(lambda: has_ended(cluster, name), f"{name} stops by itself")
    add(cluster, name, learner=learner)


def has_ended(cluster: LocalCluster, name: str) -> bool:
    return cluster.process_state(name) == "crashed"


def follower_of(cluster: LocalCluster) -> str:
    leader = cluster.wait_for_leader()
    return next(name for name in cluster.names if name != leader)


def nobody_was_failed(traffic: Traffic) -> None:
    assert (traffic.counts.refused, traffic.counts.unknown) == (0, 0), traffic.counts


def test_each_member_in_turn_is_replaced_by_a_new_one_and_no_request_fails(start_cluster: Start) -> None:
    """The last turn is the leader's, whoever that is by then."""
    cluster = start_cluster()
    before = members(cluster)
    with load(cluster) as traffic:
        for turn in range(3):
            leader = cluster.wait_for_leader()
            old = {name for name in cluster.names if members(cluster)[name].id == before[name].id}
            name = leader if turn == 2 and leader in old else min(old - {leader}, default=leader)
            remove(cluster, name)
            wait_until(lambda name=name: has_ended(cluster, name), f"{name} stops by itself")  # type: ignore[misc]
            said = cluster.log_tail(name, lines=1)[0]
            assert "this member was removed from the cluster" in said
            write(traffic, 100)
            add(cluster, name)
            write(traffic, 100)
        nobody_was_failed(traffic)
    after = members(cluster)
    assert {member.id for member in after.values()}.isdisjoint(member.id for member in before.values())


def test_the_leader_is_removed_and_hands_over_first(start_cluster: Start) -> None:
    cluster = start_cluster()
    with load(cluster) as traffic:
        leader = cluster.wait_for_leader()
        remove(cluster, leader)
        wait_until(lambda: has_ended(cluster, leader), f"{leader} stops by itself")
        write(traffic, 100)
        nobody_was_failed(traffic)
        add(cluster, leader)


def test_a_learner_is_promoted_once_it_has_caught_up_by_a_snapshot(start_cluster: Start) -> None:
    cluster = start_cluster("--snapshot-count", "50")
    with load(cluster, writers=16) as traffic:
        write(traffic, 10_000)
        name = follower_of(cluster)
        remove(cluster, name)
        wait_until(lambda: has_ended(cluster, name), f"{name} stops by itself")
        add(cluster, name, learner=True)
        learner = members(cluster)[name]
        assert learner.is_learner

        def is_promoted() -> bool:
            with connect(cluster) as kv, suppress(FailedPrecondition):
                kv.promote_member(learner.id, timeout=10)
            return not members(cluster)[name].is_learner

        wait_until(is_promoted, "the learner is promoted")
        nobody_was_failed(traffic)
    assert any("installing a snapshot" in line for line in cluster.log_tail(name, lines=50))


def test_a_member_that_was_down_when_it_was_removed_is_told_when_it_comes_back(start_cluster: Start) -> None:
    cluster = start_cluster()
    with load(cluster) as traffic:
        for name in [follower_of(cluster), max(cluster.names, key=lambda name: members(cluster)[name].id)]:
            cluster.kill(name)
            cluster.wait_for_leader()
            write(traffic, 50)
            remove(cluster, name)
            cluster.start([name], wait=False)
            wait_until(lambda name=name: has_ended(cluster, name), f"{name} stops by itself")  # type: ignore[misc]
            assert "this member was removed from the cluster" in cluster.log_tail(name, lines=1)[0]
            add(cluster, name)


def test_a_learner_that_was_away_while_all_others_were_replaced_finds_the_new_ones(tmp_path: Path) -> None:
    """It knows none of those who are members now: each learns of the other when they miss each other."""
    with LocalCluster.create(tmp_path / "cluster", nodes=4, proxy=False, leashed=True) as cluster:
        cluster.up()
        *voters, learner = cluster.names
        with load(cluster) as traffic:
            replace(cluster, learner, learner=True)
            cluster.kill(learner)
            for name in voters:
                replace(cluster, name)
                write(traffic, 50)
            cluster.restart(learner)


def test_what_would_cost_the_quorum_is_refused(start_cluster: Start) -> None:
    cluster = start_cluster()
    _, two, three = cluster.names
    ids = {name: member.id for name, member in members(cluster).items()}
    cluster.kill(three)
    cluster.wait_for_leader(other_than=three)
    with connect(cluster) as kv:
        wait_until(lambda: is_unhealthy(kv), f"the death of {three} is noticed")
        with pytest.raises(Unavailable, match="etcdserver: unhealthy cluster"):
            kv.add_member("http://127.0.0.1:9", timeout=5)
        with pytest.raises(Unavailable, match="etcdserver: unhealthy cluster"):
            kv.remove_member(ids[two], timeout=5)
        kv.remove_member(ids[three], timeout=5)  # Who is down is no part of any quorum.


def is_unhealthy(kv: raftkv.Client) -> bool:
    """Whether the leader knows that somebody is missing. A learner is no part of a quorum: adding one is a harmless question."""
    try:
        learner = kv.add_member("http://127.0.0.1:9", learner=True, timeout=10)
    except Unavailable as error:
        return error.message == "etcdserver: unhealthy cluster"
    kv.remove_member(learner.id, timeout=10)
    return False


def test_a_node_that_nobody_added_is_told_to_be_added(start_cluster: Start) -> None:
    cluster = start_cluster()
    name = follower_of(cluster)
    remove(cluster, name)
    wait_until(lambda: has_ended(cluster, name), f"{name} stops by itself")
    cluster.make_empty(name)

    cluster.start([name], wait=False)

    wait_until(lambda: has_ended(cluster, name), f"{name} gives up")
    said = cluster.log_tail(name, lines=1)[0]
    assert "the cluster has no member with the peer URLs" in said
    assert f"raftkv member add {name}" in said


def test_a_request_that_fails_says_so(start_cluster: Start) -> None:
    """Unknown members, taken URLs, voters that are promoted: etcd's texts, and nothing is changed."""
    cluster = start_cluster()
    before = members(cluster)
    with connect(cluster) as kv:
        for attempt, text in (
            (lambda: kv.remove_member(12345), "member not found"),
            (lambda: kv.promote_member(12345), "member not found"),
            (lambda: kv.update_member(12345, "http://127.0.0.1:9"), "member not found"),
            (lambda: kv.promote_member(before["n1"].id), "can only promote a learner member"),
            (lambda: kv.add_member(*before["n1"].peer_urls), "Peer URLs already exists"),
            (lambda: kv.update_member(before["n1"].id, *before["n2"].peer_urls), "Peer URLs already exists"),
            (lambda: kv.add_member("nonsense"), "given member URLs are invalid"),
            (lambda: kv.add_member(), "given member URLs are invalid"),
        ):
            with pytest.raises(RequestError, match=text):
                attempt()
    assert members(cluster) == before

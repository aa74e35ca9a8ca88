"""Processes that die, under load: every acknowledged write is there afterwards, on every node, and the hashes agree."""

from __future__ import annotations

from raftkv.lab import probe
from tests.failover.conftest import Start
from tests.failover.load import load, wait_until, write


def test_the_leader_is_killed_three_times(start_cluster: Start) -> None:
    cluster = start_cluster()
    with load(cluster) as traffic:
        for _ in range(3):
            leader = cluster.wait_for_leader()
            cluster.kill(leader)
            cluster.wait_for_leader(other_than=leader)
            write(traffic, 100)
            cluster.restart(leader)


def test_a_follower_is_killed_and_the_cluster_goes_on_without_a_pause(start_cluster: Start) -> None:
    cluster = start_cluster()
    with load(cluster) as traffic:
        leader = cluster.wait_for_leader()
        follower = next(name for name in cluster.names if name != leader)
        cluster.kill(follower)
        write(traffic, 300)
        assert cluster.wait_for_leader() == leader
        cluster.restart(follower)


def test_all_three_are_killed_at_once_twice(start_cluster: Start) -> None:
    cluster = start_cluster()
    with load(cluster) as traffic:
        for _ in range(2):
            cluster.kill(*cluster.names)
            cluster.restart(*cluster.names)
            cluster.wait_for_leader()
            write(traffic, 100)


def test_two_of_three_are_killed_and_nothing_is_acknowledged_until_one_returns(start_cluster: Start) -> None:
    cluster = start_cluster()
    with load(cluster):
        first, second, last = cluster.names
        cluster.kill(first, second)
        wait_until(lambda: cluster.leader() is None, f"{last} without a quorum stops leading")
        cluster.restart(first)
        cluster.wait_for_leader()
        cluster.restart(second)


def test_a_node_that_was_down_catches_up_by_a_snapshot_while_writes_go_on(start_cluster: Start) -> None:
    """With 50 entries kept in the log, a node that missed many is behind it.

    16 writers make an entry of 16 writes; the log is compacted in steps of 256 entries, behind what is committed once a second.
    """
    cluster = start_cluster("--snapshot-count", "50")
    with load(cluster, writers=16) as traffic:
        leader = cluster.wait_for_leader()
        follower = next(name for name in cluster.names if name != leader)
        cluster.kill(follower)
        write(traffic, 20_000)
        cluster.restart(follower)
        write(traffic, 500)
        wait_until(lambda: has_caught_up(cluster.endpoints, follower), f"{follower} catches up")
    assert any("installing a snapshot" in line for line in cluster.log_tail(follower, lines=50))


def test_a_stopping_leader_hands_over_and_no_write_fails(start_cluster: Start) -> None:
    cluster = start_cluster()
    with load(cluster) as traffic:
        leader = cluster.wait_for_leader()
        cluster.stop(leader)
        cluster.wait_for_leader(other_than=leader)
        write(traffic, 200)
        assert traffic.counts.refused == 0
        cluster.restart(leader)
    assert any("handing leadership over" in line for line in cluster.log_tail(leader, lines=50))


def has_caught_up(endpoints: dict[str, str], name: str) -> bool:
    answers = probe.statuses(endpoints)
    applied = {node: answer.applied_index for node, answer in answers.items() if isinstance(answer, probe.NodeAnswer)}
    return name in applied and applied[name] >= max(applied.values()) - 50

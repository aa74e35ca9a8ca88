"""ReadIndex (dissertation §6.4)."""

from __future__ import annotations

import pytest

from raftkv.raft import (
    HeartbeatRequest,
    HeartbeatResponse,
    PreVoteRequest,
    ReadIndexRequest,
    ReadIndexResponse,
    ReadState,
    RoleName,
    VoteRequest,
)
from tests.raft.cluster import change, cluster


def test_reads_of_one_moment_share_one_round() -> None:
    group = cluster(3).elect(1)
    for context in (1, 2, 3):
        group[1].read_index(context)
    beats = [m for m in group[1].ready().messages if isinstance(m, HeartbeatRequest)]
    assert [(m.receiver, m.read_round) for m in beats] == [(2, 1), (3, 1)]

    group[1].step(HeartbeatResponse(sender=2, receiver=1, term=1, read_round=1))

    assert group[1].ready().read_states == (ReadState(1, 1), ReadState(2, 1), ReadState(3, 1))


def test_an_answer_to_an_older_heartbeat_confirms_nothing() -> None:
    """Bug 27 of the known-bugs list: ReadIndex confirmed by replies to older heartbeats."""
    group = cluster(3).elect(1)
    group[1].read_index(1)
    group[1].ready()
    group[1].read_index(2)
    group[1].ready()

    group[1].step(HeartbeatResponse(sender=2, receiver=1, term=1, read_round=1))
    assert group[1].ready().read_states == (ReadState(1, 1),)
    group[1].step(HeartbeatResponse(sender=3, receiver=1, term=1, read_round=0))
    group[1].step(HeartbeatResponse(sender=3, receiver=1, term=0, read_round=2))
    assert group[1].ready().read_states == ()
    group[1].step(HeartbeatResponse(sender=3, receiver=1, term=1, read_round=2))
    assert group[1].ready().read_states == (ReadState(2, 1),)


def test_reads_wait_for_a_commit_in_the_leaders_own_term() -> None:
    """Bug 26 of the known-bugs list: ReadIndex before the first commit of the term."""
    group = cluster(3, logs={1: "1@1 2@1", 2: "1@1 2@1"})
    group[1].campaign()
    for kind in (PreVoteRequest, VoteRequest):
        for request in group.take(kind):
            group.deliver(request)
        group.run_node(2)
        messages, group.network = group.network, []
        for message in messages:
            group.deliver(message)
    assert (group[1].role, group[1].commit_index) == (RoleName.LEADER, 0)
    group[1].read_index(7)
    group.run_node(1)
    for _ in range(5):
        group[1].tick()
        group[1].step(HeartbeatResponse(sender=2, receiver=1, term=2, read_round=0))
    group.run_node(1)
    assert group.nodes[1].reads == {}

    group.settle()

    assert group.nodes[1].reads == {7: 3}


def test_a_follower_reads_through_its_leader() -> None:
    group = cluster(3).elect(1)
    group.propose(1, "a").settle()
    group[2].read_index(5)
    group.settle()

    assert group.nodes[2].reads == {5: 2}


def test_a_deposed_leader_confirms_no_read() -> None:
    """Bug 29 of the known-bugs list: stale read from a deposed leader or a node replaying."""
    group = cluster(3, election_timeout_ticks=10, heartbeat_interval_ticks=2).elect(1).isolate(1)
    group.tick(60, nodes=[2, 3])
    group.propose(group.leader.node_id, "new").settle()
    assert group[1].role is RoleName.LEADER  # It has slept all the while.
    group[1].read_index(1)
    group.settle()
    assert group.nodes[1].reads == {}

    group.heal().tick(3)

    assert group.nodes[1].reads == {1: None}


def test_reads_without_a_leader_are_answered_at_once() -> None:
    group = cluster(3)
    group[1].read_index(1)
    assert group[1].ready().read_states == (ReadState(1, None),)
    group[1].campaign()
    group[1].read_index(2)

    assert group[1].ready().read_states == (ReadState(2, None),)


def test_a_read_whose_request_was_lost_is_given_up_after_an_election_timeout() -> None:
    group = cluster(3, election_timeout_ticks=10, heartbeat_interval_ticks=2).elect(1).cut((2, 1))
    group[2].read_index(1)
    group.tick(9, nodes=[2])
    assert group.nodes[2].reads == {}

    group.tick(1, nodes=[2])

    assert group.nodes[2].reads == {1: None}


def test_a_read_asked_of_a_leader_that_is_gone_is_given_up_when_that_is_known() -> None:
    group = cluster(3).elect(1).cut((2, 1))
    group[2].read_index(1)
    group.settle()
    group.heal()
    group[1].transfer_leadership(3)
    group.settle()

    assert group.nodes[2].reads == {1: None}


def test_who_does_not_lead_says_so() -> None:
    group = cluster(3).elect(1)
    group[2].step(ReadIndexRequest(sender=3, receiver=2, term=1, context=9))

    assert group[2].ready().messages == (ReadIndexResponse(sender=2, receiver=3, term=1, context=9, rejected=True),)


def test_doubled_answers_are_reported_once() -> None:
    group = cluster(3).elect(1)
    group[2].read_index(5)
    answer = ReadIndexResponse(sender=1, receiver=2, term=1, context=5, index=1)
    for _ in range(3):
        group[2].step(answer)
    group[2].step(ReadIndexResponse(sender=1, receiver=2, term=1, context=6, index=1))

    assert group[2].ready().read_states == (ReadState(5, 1),)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_reads_work_in_clusters_of_every_size(count: int) -> None:
    group = cluster(count).elect(1)
    group[1].read_index(3)
    group.settle()

    assert group.nodes[1].reads == {3: 1}


def test_confirming_a_read_appends_nothing() -> None:
    group = cluster(3).elect(1)
    group[1].read_index(3)
    group.settle()

    assert group[1].last_index == 1


def test_a_read_that_waits_for_a_voter_that_leaves_is_confirmed_without_it() -> None:
    """As bug 38 of the known-bugs list has it for commits: a quorum that shrinks may already have answered."""
    group = cluster(2).elect(1).cut((1, 2))
    group[1].read_index(5)
    group.settle()
    assert group.nodes[1].reads == {}

    group[1].propose_membership(change(1), b"")
    group.settle()

    assert group.nodes[1].reads == {5: 1}

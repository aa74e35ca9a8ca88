"""Campaigns: pre-votes, votes, leases, and who may campaign at all."""

from __future__ import annotations

import pytest

from raftkv.raft import (
    AppendResponse,
    Entry,
    EntryKind,
    HardState,
    HeartbeatRequest,
    PreVoteRequest,
    PreVoteResponse,
    RoleName,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)
from tests.raft.cluster import change, cluster, voters


def pre_vote(term: int, *, sender: int = 3, last: tuple[int, int] = (0, 0)) -> PreVoteRequest:
    return PreVoteRequest(sender=sender, receiver=1, term=term, last_index=last[0], last_term=last[1])


def test_stale_votes_are_not_counted() -> None:
    """Bug 17 of the known-bugs list: stale votes counted."""
    group = cluster(5)
    group[1].campaign()
    for request in group.take(PreVoteRequest):
        group.deliver(request)
    for node in (2, 3):
        group.run_node(node)
    for message in group.network:
        group.deliver(message)
    assert (group[1].role, group[1].term) == (RoleName.CANDIDATE, 1)
    group.run_node(1)

    for _ in range(3):
        group[1].step(VoteResponse(sender=2, receiver=1, term=0, granted=True))
        group[1].step(VoteResponse(sender=3, receiver=1, term=0, granted=True))
        group[1].step(VoteResponse(sender=4, receiver=1, term=1, granted=True))  # One vote, thrice delivered.
    assert group[1].role is RoleName.CANDIDATE

    group[1].step(VoteResponse(sender=2, receiver=1, term=1, granted=True))
    assert group[1].role is RoleName.LEADER


def test_a_pre_vote_changes_nothing() -> None:
    group = cluster(3, term=4)
    group[1].step(pre_vote(9))
    ready = group[1].ready()

    assert ready.messages == (PreVoteResponse(sender=1, receiver=3, term=9, granted=True),)
    assert ready.save is None
    assert (group[1].term, group[1].vote) == (4, 0)


def test_a_pre_vote_of_the_same_term_is_refused_with_our_term() -> None:
    """Bug 21 of the known-bugs list: PreVote deadlock; whoever is behind in terms must learn it."""
    group = cluster(3, term=4)
    group[1].step(pre_vote(3))

    assert group[1].ready().messages == (PreVoteResponse(sender=1, receiver=3, term=4, granted=False),)


def test_nodes_of_different_terms_elect_a_leader() -> None:
    """Bug 21 of the known-bugs list: a node with the higher term but the shorter log must not block the other."""
    group = cluster(3, logs={1: "1@1", 2: "1@1"}, election_timeout_ticks=10, heartbeat_interval_ticks=2)
    group.nodes[3].disk.hard_state = HardState(7, 3, 0)
    group.crash(3).restart(3).crash(2)

    group.tick(100)

    assert group.leader.node_id == 1
    assert group.leader.term > 7


def test_a_node_that_returns_with_a_higher_term_is_heard_again() -> None:
    """Bug 22 of the known-bugs list: stuck candidate with a higher term never rejoins."""
    group = cluster(3, election_timeout_ticks=10, heartbeat_interval_ticks=2).elect(1)
    group.crash(3)
    group.nodes[3].disk.hard_state = HardState(9, 3, 0)
    group.restart(3)

    group.tick(60)
    group.propose(group.leader.node_id, "a").settle()

    assert group.leader.term > 9
    assert group.nodes[3].commands() == ["a"]


def test_only_word_from_a_leader_or_a_vote_granted_resets_the_election_timer() -> None:
    """Bug 16 of the known-bugs list: election timer reset by any RPC."""
    group = cluster(3, logs={1: "1@1"}, election_timeout_ticks=10, heartbeat_interval_ticks=2)
    ticks = 0
    while True:
        group[1].tick()
        ticks += 1
        if group[1].role is not RoleName.FOLLOWER:
            break
        group[1].step(pre_vote(group[1].term + 1))
        group[1].step(VoteRequest(sender=2, receiver=1, term=group[1].term + 1, last_index=0, last_term=0))
        group[1].step(AppendResponse(sender=2, receiver=1, term=group[1].term, prev_index=0, accepted=True))

    assert 10 <= ticks < 20


def test_a_voter_in_its_lease_ignores_candidates() -> None:
    """Bug 24 of the known-bugs list: removed or rejoining server disrupts (dissertation §4.2.3)."""
    group = cluster(3).elect(2)
    group[1].step(VoteRequest(sender=3, receiver=1, term=9, last_index=9, last_term=9))
    group[1].step(pre_vote(9, last=(9, 9)))
    ready = group[1].ready()

    assert group[1].term == 1
    assert not ready.messages_after_save
    assert ready.messages == (PreVoteResponse(sender=1, receiver=3, term=1, granted=False, hears_leader=True),)


def test_the_lease_ends_with_silence() -> None:
    group = cluster(3, election_timeout_ticks=10, heartbeat_interval_ticks=2).elect(2)
    for _ in range(9):
        group[1].tick()
    group[1].step(pre_vote(9, last=(9, 9)))
    group[1].tick()
    group[1].step(pre_vote(9, last=(9, 9)))

    answers = [m.granted for m in group[1].ready().messages if isinstance(m, PreVoteResponse) and m.receiver == 3]
    assert answers == [False, True]


def test_a_leader_heard_again_renews_its_lease() -> None:
    group = cluster(3).elect(2)
    group[1].leader_gone()
    group[1].step(HeartbeatRequest(sender=2, receiver=1, term=1, commit_index=0))
    group[1].step(pre_vote(9, last=(9, 9)))

    (answer,) = (m for m in group[1].ready().messages if isinstance(m, PreVoteResponse))
    assert not answer.granted


def test_a_learner_never_campaigns_but_votes() -> None:
    """Bug 25 of the known-bugs list: learner campaigns (but a learner *must* vote when asked)."""
    group = cluster(3, membership=voters(2, 3, learners=[1]), election_timeout_ticks=10, heartbeat_interval_ticks=2)
    for _ in range(100):
        group[1].tick()
    group[1].campaign()
    group[1].step(TimeoutNow(sender=2, receiver=1, term=0))
    assert group[1].role is RoleName.FOLLOWER

    group[1].step(VoteRequest(sender=3, receiver=1, term=5, last_index=0, last_term=0))

    assert group[1].vote == 3


def test_a_removed_node_does_not_campaign() -> None:
    """Bug 24 of the known-bugs list."""
    group = cluster(3).elect(1)
    group[1].propose_membership(change(1, 2), b"")
    group.settle()
    group.tick(200)

    assert group[1].role is RoleName.LEADER
    assert group[1].term == 1


def test_a_node_that_a_pending_change_removes_may_campaign() -> None:
    """It alone may hold the entry that removes it, while those who are to carry on lack it (dissertation §4.2.2)."""
    group = cluster(2)
    disk = group.nodes[2].disk
    disk.hard_state = HardState(1, 2, 0)
    disk.entries = [Entry(1, 1, EntryKind.MEMBERSHIP, b"", voters(1))]
    group.crash(2).restart(2)
    assert group[2].membership == voters(1)
    assert group[1].membership == voters(1, 2)

    group.tick(200)

    assert group.leader.node_id == 1
    assert group[1].membership == voters(1)
    assert group[2].role is RoleName.FOLLOWER


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_clusters_of_every_size_elect_a_leader_by_themselves(count: int) -> None:
    """Bug 20 of the known-bugs list: single node cannot elect itself."""
    group = cluster(count).tick(150)

    assert all(group[n].leader == group.leader.node_id for n in group.nodes)
    assert all(group[n].commit_index >= 1 for n in group.nodes)


def test_two_nodes_need_both() -> None:
    """Bug 11 of the known-bugs list: quorum off by one for even sizes."""
    group = cluster(2).crash(2).tick(300)

    assert group[1].role is RoleName.PRE_CANDIDATE
    assert group[1].term == 0


def test_a_bridge_partition_makes_progress_without_leadership_ping_pong() -> None:
    """1-2 are cut, both see 3."""
    group = cluster(3, election_timeout_ticks=10, heartbeat_interval_ticks=2).elect(1)
    group.cut((1, 2), (2, 1)).tick(300)
    term = group.leader.term

    group.tick(300)
    group.propose(group.leader.node_id, "a").settle()

    assert group.leader.term == term <= 2
    assert group.nodes[3].commands() == ["a"]

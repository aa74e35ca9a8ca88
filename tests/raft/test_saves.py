"""What is promised only after a save, and what a save proves once it is durable."""

from __future__ import annotations

import random

from raftkv.raft import (
    AppendRequest,
    AppendResponse,
    HardState,
    HeartbeatRequest,
    Membership,
    PreVoteResponse,
    Raft,
    RaftConfig,
    Ready,
    RoleName,
    SnapshotMeta,
    VoteRequest,
    VoteResponse,
)
from tests.raft.cluster import cluster, parse_log


def append(sender: int, term: int, prev: tuple[int, int], entries: str, commit: int = 0) -> AppendRequest:
    return AppendRequest(
        sender=sender,
        receiver=1,
        term=term,
        prev_index=prev[0],
        prev_term=prev[1],
        commit_index=commit,
        entries=tuple(parse_log(entries)),
    )


def acknowledged(ready: Ready) -> list[int]:
    return [m.match_index for m in ready.messages if isinstance(m, AppendResponse)]


def test_votes_and_acknowledgements_wait_for_the_disk() -> None:
    """Bug 13 of the known-bugs list: vote or term not on disk before the reply."""
    raft = cluster(3)[1]
    raft.step(VoteRequest(sender=2, receiver=1, term=1, last_index=0, last_term=0))
    raft.step(append(2, 1, (0, 0), "1@1"))
    ready = raft.ready()

    assert not ready.messages
    assert [type(m) for m in ready.messages_after_save] == [VoteResponse, AppendResponse]
    assert ready.save is not None
    assert ready.save.must_sync
    assert ready.save.hard_state == HardState(1, 2, 0)
    assert ready.save.entries == tuple(parse_log("1@1"))


def test_requests_for_votes_wait_for_the_disk() -> None:
    """A candidate that crashed with an unsaved log could come back with a shorter one and campaign in the same term."""
    group = cluster(3)
    group[1].step(append(2, 1, (0, 0), "1@1"))
    group[1].leader_gone()
    group[1].campaign()
    group[1].ready()
    group[1].step(PreVoteResponse(sender=3, receiver=1, term=2, granted=True))
    ready = group[1].ready()

    assert group[1].role is RoleName.CANDIDATE
    assert not [m for m in ready.messages if isinstance(m, VoteRequest)]
    assert [m.receiver for m in ready.messages_after_save] == [2, 3]


def test_a_save_that_was_overtaken_proves_nothing() -> None:
    """Bug 10 of the known-bugs list (A-B-A): 2@2 is replaced by 2@3 and comes back while the first save is in flight.

    The first save's index and term fit the log, but 2@3 is still to be written over it.
    """
    raft = cluster(3, logs={1: "1@1"})[1]
    raft.step(append(2, 2, (1, 1), "2@2"))
    first = raft.ready()
    raft.step(append(3, 3, (1, 1), "2@3"))
    second = raft.ready()
    raft.step(append(2, 4, (1, 1), "2@2"))
    third = raft.ready()
    assert first.save is not None
    assert second.save is not None
    assert third.save is not None
    assert third.save.entries == first.save.entries

    raft.saved(first.save.mark)
    assert raft.status().saved_index == 1
    raft.saved(second.save.mark)
    assert raft.status().saved_index == 1
    raft.saved(third.save.mark)
    assert raft.status().saved_index == 2


def test_a_leader_does_not_count_itself_for_a_save_of_an_earlier_life_of_its_log() -> None:
    """Bug 10 of the known-bugs list: leader acknowledges itself after its term changed."""
    group = cluster(3, logs={1: "1@1", 2: "1@1", 3: "1@1"})
    group[1].step(append(2, 2, (1, 1), "2@2 3@2"))
    early = group[1].ready()
    group[1].step(append(3, 3, (1, 1), "2@3"))
    group[1].ready()
    assert early.save is not None

    group[1].saved(early.save.mark)

    assert group[1].last_index == 2
    assert group[1].status().saved_index == 1


def test_a_candidate_counts_its_own_vote_only_when_that_is_saved() -> None:
    """Bug 13 of the known-bugs list: an earlier save that comes back proves nothing about the vote."""
    raft = cluster(3)[1]
    raft.step(append(2, 1, (0, 0), "1@1"))
    entry_save = raft.ready().save
    raft.campaign()
    raft.step(PreVoteResponse(sender=3, receiver=1, term=2, granted=True))
    vote_save = raft.ready().save
    raft.step(VoteResponse(sender=3, receiver=1, term=2, granted=True))
    assert entry_save is not None
    assert vote_save is not None

    raft.saved(entry_save.mark)
    assert raft.role is RoleName.CANDIDATE
    raft.saved(vote_save.mark)
    assert raft.role is RoleName.LEADER


def test_saving_several_at_once_is_acknowledged_by_the_last() -> None:
    raft = cluster(3)[1]
    raft.step(append(2, 1, (0, 0), "1@1"))
    raft.ready()
    raft.step(append(2, 1, (1, 1), "2@1"))
    second = raft.ready()
    assert second.save is not None
    assert raft.status().saves_in_flight == 2

    raft.saved(second.save.mark)

    assert raft.status().saved_index == 2
    assert raft.status().saves_in_flight == 0


def test_what_is_on_disk_already_is_acknowledged_at_once() -> None:
    group = cluster(3)
    group[1].step(append(2, 1, (0, 0), "1@1"))
    group.run_node(1)
    group[1].step(append(2, 1, (0, 0), "1@1"))
    ready = group[1].ready()

    assert acknowledged(ready) == [1]
    assert ready.save is None


def test_acknowledgements_of_one_ready_are_merged_into_the_highest() -> None:
    raft = cluster(3)[1]
    raft.step(append(2, 1, (0, 0), "1@1"))
    raft.step(append(2, 1, (1, 1), "2@1"))
    ready = raft.ready()

    (ack,) = ready.messages_after_save
    assert isinstance(ack, AppendResponse)
    assert ack.match_index == 2


def test_a_commit_index_alone_is_saved_at_a_tick_and_needs_no_sync() -> None:
    group = cluster(3)
    group[1].step(append(2, 1, (0, 0), "1@1 2@1"))
    group.run_node(1)
    group[1].step(HeartbeatRequest(sender=2, receiver=1, term=1, commit_index=2))
    assert group[1].ready().save is None

    group[1].tick()
    ready = group[1].ready()

    assert ready.save is not None
    assert ready.save.hard_state == HardState(1, 0, 2)
    assert not ready.save.must_sync


def test_entries_are_applied_before_our_own_disk_has_them() -> None:
    group = cluster(3)
    group.nodes[1].hold_saves = True
    group[1].step(append(2, 1, (0, 0), "1@1", commit=1))
    group.run_node(1)

    assert group.nodes[1].commands() == ["1@1"]
    assert group[1].status().saved_index == 0


def test_a_node_that_died_between_an_entry_and_its_term_starts_in_the_entrys_term() -> None:
    raft = Raft(
        RaftConfig(node_id=1),
        hard_state=HardState(2, 3, 0),
        snapshot=SnapshotMeta(4, 5, Membership(frozenset({1, 2, 3}))),
        entries=(),
        applied_index=4,
        rng=random.Random(1),
    )

    assert (raft.term, raft.vote) == (5, 0)

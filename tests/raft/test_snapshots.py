"""Compaction and snapshots, on both sides."""

from __future__ import annotations

import pytest

from raftkv.raft import (
    AppendRequest,
    AppendResponse,
    Entry,
    EntryKind,
    HeartbeatResponse,
    InstallSnapshot,
    ProgressState,
    SnapshotMeta,
)
from tests.raft.cluster import Group, change, cluster, parse_log, voters


def install(index: int, term: int, *, at_term: int = 3) -> InstallSnapshot:
    meta = SnapshotMeta(index, term, voters(1, 2, 3))
    return InstallSnapshot(sender=2, receiver=1, term=at_term, snapshot=meta)


def test_a_snapshot_replaces_a_log_that_conflicts_or_ends_before_it() -> None:
    """Bug 44 of the known-bugs list: install keeps a conflicting suffix."""
    for log in ("1@1 2@1", "1@1 2@1 3@1 4@1 5@1"):
        raft = cluster(3, logs={1: log})[1]
        raft.step(install(4, 2))
        ready = raft.ready()

        assert ready.install == SnapshotMeta(4, 2, voters(1, 2, 3))
        assert ready.save is not None
        assert ready.save.reset_to == ready.install
        assert ready.save.must_sync
        assert (raft.first_index, raft.last_index, raft.commit_index) == (5, 4, 4)
        (ack,) = ready.messages_after_save
        assert isinstance(ack, AppendResponse)
        assert ack.match_index == 4


def test_a_snapshot_that_matches_our_log_keeps_the_newer_suffix() -> None:
    """Bug 44 of the known-bugs list: install throws away a matching newer suffix."""
    raft = cluster(3, logs={1: "1@1 2@1 3@2 4@2 5@2"})[1]
    raft.step(install(3, 2))
    ready = raft.ready()

    assert ready.install is None
    assert [entry.index for entry in ready.committed] == [1, 2, 3]
    assert raft.last_index == 5


def test_an_old_snapshot_changes_nothing() -> None:
    group = cluster(3)
    request = AppendRequest(
        sender=2,
        receiver=1,
        term=3,
        prev_index=0,
        prev_term=0,
        commit_index=4,
        entries=tuple(parse_log("1@1 2@1 3@2 4@2")),
    )
    group[1].step(request)
    group.run_node(1)
    group[1].step(install(3, 2))
    ready = group[1].ready()

    assert ready.install is None
    assert group[1].commit_index == 4
    assert ready.messages[0] == AppendResponse(sender=1, receiver=2, term=3, prev_index=3, accepted=True, match_index=4)


def test_entries_behind_a_snapshot_come_with_it_and_after_it() -> None:
    """Bug 43 of the known-bugs list: install races apply. Nothing committed precedes an install in its Ready."""
    raft = cluster(3, logs={1: "1@1 2@1"})[1]
    raft.step(install(4, 2))
    raft.step(
        AppendRequest(sender=2, receiver=1, term=3, prev_index=4, prev_term=2, commit_index=5, entries=(Entry(5, 3),))
    )
    ready = raft.ready()

    assert ready.install is not None
    assert ready.committed == (Entry(5, 3),)
    assert ready.save is not None
    assert (ready.save.reset_to, ready.save.entries) == (ready.install, (Entry(5, 3),))
    raft.applied(2)  # Of the state before: it is late, and changes nothing.
    assert raft.applied_index == 4


def test_a_previous_entry_that_is_compacted_is_no_conflict() -> None:
    """Bug 7 of the known-bugs list: previous entry already compacted taken for a conflict."""
    group = cluster(3).elect(2)
    group.propose(2, "a", "b", "c").settle()
    group[1].compact(4)
    late = AppendRequest(
        sender=2,
        receiver=1,
        term=1,
        prev_index=1,
        prev_term=1,
        commit_index=4,
        entries=(Entry(2, 1, EntryKind.COMMANDS, b"a"),),
    )
    group[1].step(late)
    (answer,) = group[1].ready().messages

    assert isinstance(answer, AppendResponse)
    assert (answer.accepted, answer.match_index) == (True, 4)
    assert group[1].last_index == 4


def test_a_snapshot_names_the_membership_at_its_index() -> None:
    """Bug 39 of the known-bugs list: configuration missing from the snapshot."""
    group = cluster(3, spare=[4]).elect(1)
    group[1].propose_membership(change(1, 2, 3, learners=[4]), b"")
    group.isolate(4).settle()
    group.propose(1, "a").settle()
    group[1].compact(3)

    assert group[1].membership == group[1].membership_at(3) == voters(1, 2, 3, learners=[4])
    group.heal().tick(12)
    assert group[4].membership == voters(1, 2, 3, learners=[4])
    assert group.nodes[4].commands() == ["a"]


def behind() -> Group:
    """Node 3 needs entries that are gone; nobody streams snapshots by itself."""
    group = cluster(3).elect(1).isolate(3)
    group.propose(1, "a", "b", "c").settle()
    group[1].compact(4)
    group[1].peer_unreachable(3)
    return group


def test_a_follower_that_needs_compacted_entries_is_named_once() -> None:
    group = behind()
    assert group[1].ready().snapshots_wanted == (3,)
    group.propose(1, "d")
    ready = group[1].ready()

    assert ready.snapshots_wanted == ()
    assert not [m for m in ready.messages if m.receiver == 3]
    assert group[1].status().followers[3].state is ProgressState.SNAPSHOT


def test_after_a_snapshot_was_sent_the_log_goes_on_behind_it() -> None:
    """Bug 47 of the known-bugs list: slow follower gets snapshots for ever."""
    group = behind()
    group[1].ready()
    group.propose(1, "d")
    group[1].ready()

    group[1].snapshot_sent(3, 4)
    assert group[1].ready().messages == ()
    group[1].step(AppendResponse(sender=3, receiver=1, term=1, prev_index=4, accepted=True, match_index=4))

    (append,) = (m for m in group[1].ready().messages if m.receiver == 3)
    assert isinstance(append, AppendRequest)
    assert [entry.data for entry in append.entries] == [b"d"]
    assert group[1].status().followers[3].state is ProgressState.REPLICATE


def test_a_failed_snapshot_is_asked_for_again_only_when_the_follower_answers() -> None:
    group = behind()
    group[1].ready()
    group[1].snapshot_failed(3)
    group.propose(1, "d")
    assert group[1].ready().snapshots_wanted == ()

    group[1].step(HeartbeatResponse(sender=3, receiver=1, term=1))

    assert group[1].ready().snapshots_wanted == (3,)


def test_a_follower_that_caught_up_by_itself_leaves_the_snapshot_state() -> None:
    group = behind()
    group[1].ready()
    group[1].step(AppendResponse(sender=3, receiver=1, term=1, prev_index=3, accepted=True, match_index=4))

    assert group[1].status().followers[3].state is ProgressState.REPLICATE


def test_nothing_follows_a_snapshot_until_its_receiver_answers() -> None:
    group = behind()
    group[1].ready()
    group[1].snapshot_sent(3, 4)
    group.propose(1, "d")
    first = [m for m in group[1].ready().messages if m.receiver == 3]
    group[1].step(HeartbeatResponse(sender=3, receiver=1, term=1))
    second = [m for m in group[1].ready().messages if m.receiver == 3]

    assert first == []
    assert [type(m) for m in second] == [AppendRequest]


def test_only_applied_entries_are_compacted() -> None:
    """Bug 45 of the known-bugs list: snapshot of unapplied state."""
    group = cluster(1).elect(1)
    group.nodes[1].hold_apply = True
    group.propose(1, "a").settle()

    with pytest.raises(AssertionError, match="beyond applied"):
        group[1].compact(2)


def test_log_bytes_shrink_with_compaction() -> None:
    group = cluster(1).elect(1)
    group.propose(1, *["x" * 1000] * 10).settle()
    before = group[1].log_bytes
    group[1].compact(10)

    assert before > 10_000
    assert group[1].log_bytes == 1032


def test_a_node_restarts_behind_its_snapshot() -> None:
    """Bug 42 of the known-bugs list; bug 12: nothing is applied twice."""
    group = cluster(3).elect(1).isolate(3)
    group.propose(1, "a", "b").settle()
    group[1].compact(3)
    group.heal().tick(12)
    group.crash(3).restart(3)
    group.propose(1, "c").settle()
    group.tick(6)

    assert group.nodes[3].commands() == ["a", "b", "c"]


def test_a_state_machine_ahead_of_the_log_starts_the_log_anew() -> None:
    """Applying does not wait for our own disk: after a crash the log may be the shorter one."""
    group = cluster(3).elect(1)
    group.nodes[3].hold_saves = True
    group.propose(1, "a", "b").settle()
    group.commit_machine(3)
    group.crash(3)
    assert len(group.nodes[3].disk.entries) == 1
    group.nodes[3].hold_saves = False

    group.restart(3)
    group.propose(1, "c").settle()
    group.tick(6)

    assert group.nodes[3].commands() == ["a", "b", "c"]

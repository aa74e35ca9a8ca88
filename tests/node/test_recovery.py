"""recovery: what a crash may leave in log and state machine, and what is made of it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from raftkv.errors import CorruptionError
from raftkv.node import recover_raft
from raftkv.raft import Entry, EntryKind, HardState, Membership, Raft, RaftConfig, Save, SavedMark, SnapshotMeta
from raftkv.statemachine import StateMachine
from raftkv.storage import Recovered, Wal
from tests.node.support import noop
from tests.statemachine.support import BOOTSTRAP, batch, everything, open_machine, put

INITIAL = SnapshotMeta(0, 0, BOOTSTRAP.membership)


class Crashed:
    """A data directory as some crash left it."""

    def __init__(self, path: Path) -> None:
        self._wal_path = path / "wal"
        self._state_path = path / "state"
        self._close: list[Callable[[], None]] = []

    def log(self, *entries: Entry, base: SnapshotMeta = INITIAL, hard_state: HardState | None = None) -> None:
        """Write a log that holds these entries behind `base`."""
        hard_state = hard_state or HardState(term=entries[-1].term if entries else base.term)
        last = (entries[-1].index, entries[-1].term) if entries else (base.index, base.term)
        wal, _ = Wal.open(self._wal_path)
        wal.append([Save(SavedMark(1, *last, hard_state), tuple(entries), hard_state, base)])
        wal.close()

    def state(self, *entries: Entry) -> None:
        """Leave a state machine that has applied, durably, these entries."""
        machine = open_machine(self._state_path)
        machine.apply(entries)
        machine.close()

    def recover(self) -> tuple[Raft, StateMachine]:
        wal, recovered = Wal.open(self._wal_path)
        self._close.append(wal.close)
        machine = open_machine(self._state_path)
        self._close.append(machine.close)
        raft = recover_raft(RaftConfig(node_id=1), wal, recovered, machine, random.Random(1))
        raft.check()
        return raft, machine

    def close(self) -> None:
        while self._close:
            self._close.pop()()

    def on_disk(self) -> Recovered:
        """What a further start would find in the log."""
        self.close()
        wal, recovered = Wal.open(self._wal_path)
        wal.close()
        return recovered


@pytest.fixture
def crashed(tmp_path: Path) -> Iterator[Crashed]:
    made = Crashed(tmp_path)
    yield made
    made.close()


def log_of(raft: Raft) -> str:
    return " ".join(str(raft.entry(index)) for index in range(raft.first_index, raft.last_index + 1))


def applied(raft: Raft, machine: StateMachine) -> Sequence[Entry]:
    """Let the core deliver what is committed, and apply it."""
    delivered: list[Entry] = []
    while raft.has_ready():
        delivered.extend(raft.ready().committed)
    machine.apply(delivered)
    return delivered


def test_a_fresh_start_has_the_initial_membership_and_has_it_on_disk(crashed: Crashed) -> None:
    raft, _ = crashed.recover()

    assert raft.membership == BOOTSTRAP.membership
    assert (raft.last_index, raft.term, raft.vote) == (0, 0, 0)
    found = crashed.on_disk()
    assert found.base == INITIAL
    assert found.entries == []


def test_a_second_start_before_anything_happened_is_like_the_first(crashed: Crashed) -> None:
    crashed.recover()
    crashed.close()

    raft, _ = crashed.recover()

    assert raft.membership == BOOTSTRAP.membership
    assert crashed.on_disk().base == INITIAL


def test_what_the_state_machine_has_not_is_applied_again(crashed: Crashed) -> None:
    entries = [noop(1), batch(2, put(b"a")), batch(3, put(b"b"))]
    crashed.log(*entries, hard_state=HardState(term=1, vote=1, commit_index=3))
    crashed.state(*entries[:2])

    raft, machine = crashed.recover()

    assert (raft.term, raft.vote) == (1, 1)
    assert (raft.applied_index, raft.commit_index) == (2, 3)
    assert [entry.index for entry in applied(raft, machine)] == [3]
    assert list(everything(machine)) == [b"a", b"b"]


def test_entries_that_were_not_committed_stay_in_the_log_and_wait(crashed: Crashed) -> None:
    entries = [noop(1), batch(2, put(b"a"))]
    crashed.log(*entries, hard_state=HardState(term=1, commit_index=1))

    raft, machine = crashed.recover()

    assert log_of(raft) == "1@1 2@1"
    assert [entry.index for entry in applied(raft, machine)] == [1]


def test_a_state_exactly_at_the_end_of_the_log_keeps_the_log(crashed: Crashed) -> None:
    entries = [noop(1), batch(2, put(b"a"))]
    crashed.log(*entries)
    crashed.state(*entries)

    raft, _ = crashed.recover()

    assert log_of(raft) == "1@1 2@1"
    assert raft.applied_index == raft.commit_index == 2
    assert crashed.on_disk().entries == entries


def test_a_state_at_the_base_of_the_log_keeps_the_log(crashed: Crashed) -> None:
    entries = [noop(1), batch(2, put(b"a")), noop(3)]
    crashed.log(entries[2], base=SnapshotMeta(2, 1, BOOTSTRAP.membership))
    crashed.state(*entries[:2])

    raft, _ = crashed.recover()

    assert log_of(raft) == "3@1"
    assert raft.applied_index == 2


def test_a_state_ahead_of_the_log_lets_the_log_start_anew_behind_it(crashed: Crashed) -> None:
    entries = [noop(1), batch(2, put(b"a")), batch(3, put(b"b")), noop(4)]
    crashed.log(*entries[:2], hard_state=HardState(term=1, vote=3, commit_index=2))
    crashed.state(*entries)

    raft, machine = crashed.recover()

    assert (raft.first_index, raft.last_index, raft.applied_index, raft.commit_index) == (5, 4, 4, 4)
    assert (raft.term, raft.vote) == (1, 3)
    assert list(everything(machine)) == [b"a", b"b"]
    found = crashed.on_disk()
    assert found.base == SnapshotMeta(4, 1, BOOTSTRAP.membership)
    assert found.entries == []
    assert (found.hard_state.term, found.hard_state.vote) == (1, 3)


def test_a_state_ahead_in_a_later_term_raises_the_term_and_has_not_voted_in_it(crashed: Crashed) -> None:
    crashed.log(noop(1), hard_state=HardState(term=1, vote=3))
    crashed.state(noop(1), noop(2, term=5))

    raft, _ = crashed.recover()

    assert (raft.term, raft.vote) == (5, 0)
    found = crashed.on_disk()
    assert (found.base.index, found.base.term) == (2, 5)
    assert found.hard_state == HardState(5, 0, 2)


def test_a_vote_in_a_term_later_than_the_states_is_kept(crashed: Crashed) -> None:
    crashed.log(noop(1), hard_state=HardState(term=9, vote=2))
    crashed.state(noop(1), noop(2, term=5))

    raft, _ = crashed.recover()

    assert (raft.term, raft.vote) == (9, 2)
    assert crashed.on_disk().hard_state.vote == 2


def test_a_tail_that_contradicts_the_state_is_given_up(crashed: Crashed) -> None:
    """What was applied is committed; the log's own 2@1 and 3@1 were about to be replaced."""
    crashed.log(noop(1), batch(2, put(b"lost")), noop(3), hard_state=HardState(term=2, vote=2))
    crashed.state(noop(1), batch(2, put(b"kept"), term=2))

    raft, machine = crashed.recover()

    assert (raft.first_index, raft.last_index) == (3, 2)
    assert raft.term_at(2) == 2
    assert list(everything(machine)) == [b"kept"]
    found = crashed.on_disk()
    assert (found.base.index, found.base.term, found.entries) == (2, 2, [])


def test_the_membership_behind_the_log_is_the_states(crashed: Crashed) -> None:
    membership = Membership(voters=frozenset({1, 2, 3, 4}))
    changed = Entry(2, 1, EntryKind.MEMBERSHIP, b"", membership)
    crashed.log(noop(1))
    crashed.state(noop(1), changed, noop(3))

    raft, _ = crashed.recover()

    assert raft.membership == membership
    assert crashed.on_disk().base.membership == membership


def test_a_membership_in_the_log_is_in_force_whether_it_was_applied_or_not(crashed: Crashed) -> None:
    membership = Membership(voters=frozenset({1, 2, 3, 4}))
    crashed.log(noop(1), Entry(2, 1, EntryKind.MEMBERSHIP, b"", membership))
    crashed.state(noop(1))

    raft, _ = crashed.recover()

    assert raft.membership == membership


def test_a_state_older_than_the_log_is_refused_and_nothing_is_changed(crashed: Crashed) -> None:
    crashed.log(noop(6), base=SnapshotMeta(5, 1, BOOTSTRAP.membership))
    crashed.state(noop(1), noop(2))
    before = crashed.on_disk()

    with pytest.raises(CorruptionError, match=r"begins after index 5.*applied only 2"):
        crashed.recover()

    assert crashed.on_disk() == before


def test_the_log_goes_on_behind_where_it_started_anew(crashed: Crashed) -> None:
    crashed.log(noop(1))
    crashed.state(noop(1), noop(2), noop(3))
    crashed.recover()
    crashed.close()
    crashed.log(noop(4), base=SnapshotMeta(3, 1, BOOTSTRAP.membership))

    raft, _ = crashed.recover()

    assert log_of(raft) == "4@1"
    assert raft.applied_index == 3

"""Known bugs around the core: in the node, the log, the state machine, the data directory. Tier two must catch every one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from raftkv.errors import TIMED_OUT, Outcome, Unavailable
from raftkv.node import recovery, requests
from raftkv.node.compaction import LogRetention
from raftkv.node.node import Node
from raftkv.node.proposals import Batch, Proposals
from raftkv.node.reads import Reads
from raftkv.node.saves import SaveQueue
from raftkv.pb import store_pb2
from raftkv.statemachine import StateMachine, machine, snapshot
from raftkv.statemachine.application import Application
from raftkv.statemachine.origins import Origins
from raftkv.statemachine.outlook import Outlook
from raftkv.statemachine.sessions import Session
from raftkv.storage import Wal, data_dir
from tests.sim.planting import Planter, bug, nothing
from tests.storage.faulty_files import FaultyFiles

FOR_EVER = 1 << 40


# The log and the disk


@bug(10, tier=2)
def save_is_acknowledged_before_it_is_synced(plant: Planter) -> None:
    plant(Wal, "sync", nothing)


@bug(13, tier=2)
def promise_leaves_before_its_save(plant: Planter) -> None:
    original = SaveQueue.save

    def save(self: SaveQueue, save: Any, messages: tuple[Any, ...]) -> None:
        self._transport.send(messages)
        original(self, save, ())

    plant(SaveQueue, "save", save)


@bug(55, tier=2, seed=13)
def failed_sync_is_ignored(plant: Planter) -> None:
    original = Wal._sync

    def sync(self: Wal) -> None:
        try:
            original(self)
        except OSError:
            self._durable = self._tail

    plant(Wal, "_sync", sync)


@bug(57, tier=2)
def names_of_new_segments_are_not_synced(plant: Planter) -> None:
    plant(FaultyFiles, "sync_dir", nothing)


@bug(15, tier=2, seed=8)
def runs_are_not_counted(plant: Planter) -> None:
    """A restarted node's requests look like those of its life before."""
    original = data_dir._reopen

    def reopen(path: Any, found: Any, ours: Any, files: Any) -> Any:
        return replace(original(path, found, ours, files), incarnation=found.incarnation)

    plant(data_dir, "_reopen", reopen)


@bug(12, tier=2, seed=53)
def state_ahead_of_its_log_is_not_noticed(plant: Planter) -> None:
    plant(recovery, "_log_holds", lambda base, recovered, machine: True)


# The state machine


@bug(48, tier=2)
def applied_index_is_committed_apart_from_the_data(plant: Planter) -> None:
    """With every other commit: a crash in between leaves data that is ahead of the index."""

    def commit(self: StateMachine) -> None:
        self._commits = getattr(self, "_commits", 0) + 1  # type: ignore[attr-defined]
        if self._commits % 2:  # type: ignore[attr-defined]
            machine.records.write_changed(self._store, self._records)
        self._bytes_in_use = self._store.bytes_in_use(self._store.txn)
        self._store.commit()

    plant(StateMachine, "_commit", commit)


@bug(49, tier=2)
def apply_looks_at_the_clock(plant: Planter) -> None:
    original = Application._apply_command

    def apply(self: Application, store: Any, command: Any, wanted: bool, term: int, allowances: Any) -> Any:
        clock: Any = self._note_change.__self__._clock  # type: ignore[attr-defined]
        if command.HasField("put") and clock() % 1.0 < 0.1:
            late = type(command)()
            late.put.CopyFrom(command.put)
            late.put.value += b" late"
            command = late
        return original(self, store, command, wanted, term, allowances)

    plant(Application, "_apply_command", apply)
    plant(Application, "_apply_plain_put", lambda self, store, command: 0)


@bug(50, tier=2)
def batch_that_is_proposed_again_takes_effect_again(plant: Planter) -> None:
    plant(Origins, "admit", lambda self, origin, incarnation, sequence, settled_below: True)


@bug(50, tier=2)
def batch_that_is_proposed_again_is_foreseen_to_take_effect_again(plant: Planter) -> None:
    plant(Outlook, "_will_admit", lambda self, batch: True)


@bug(50, tier=2)
def change_behind_a_command_that_cannot_be_foreseen_is_foreseen(plant: Planter) -> None:
    """As if it had taken no revision."""
    original = Outlook._foresee
    plant(Outlook, "_foresee", lambda self, batch: original(self, batch) or [])


@bug(51, tier=2)
def snapshot_forgets_who_has_had_what_applied(plant: Planter) -> None:
    original = StateMachine.install

    def install(self: StateMachine, *arguments: Any, **options: Any) -> None:
        original(self, *arguments, **options)
        self._records.origins = Origins()

    plant(StateMachine, "install", install)


@bug(50, tier=2)
def write_of_a_session_that_comes_again_takes_effect_again(plant: Planter) -> None:
    plant(Session, "is_new", lambda self, sequence: True)


@bug(51, tier=2)
def snapshot_forgets_what_sessions_were_answered(plant: Planter) -> None:
    original = StateMachine.install

    def install(self: StateMachine, *arguments: Any, **options: Any) -> None:
        original(self, *arguments, **options)
        for session in self._records.sessions._sessions.values():
            session.answers.clear()

    plant(StateMachine, "install", install)


@bug(45, tier=2)
def snapshot_is_announced_beyond_its_data(plant: Planter) -> None:
    def prepare(self: StateMachine) -> Any:
        store = self._store
        return snapshot.PreparedSnapshot(store.environment, store.reader(), self.cluster_id, self._records.applied)

    plant(StateMachine, "prepare_snapshot", prepare)


@bug(46, tier=2, seed=63)
def log_starts_anew_before_the_snapshot_is_the_state(plant: Planter) -> None:
    plant(SaveQueue, "hold", nothing)
    plant(SaveQueue, "is_holding", property(lambda self: False))


@bug(46, tier=2, seed=27)
def log_is_compacted_to_what_is_not_committed(plant: Planter) -> None:
    original = LogRetention.compactable

    def compactable(self: LogRetention, durable_index: int, *, at_most: int | None) -> int:
        return original(self, FOR_EVER, at_most=at_most)

    plant(LogRetention, "compactable", compactable)


# What clients are told


@bug(29, tier=2)
def reads_are_answered_from_what_is_there(plant: Planter) -> None:
    plant(Node, "read", Node.read_local)


@bug(30, tier=2, seed=8)
def confirmed_read_does_not_wait_for_its_entries(plant: Planter) -> None:
    def take_ready(self: Reads, applied_index: int) -> list[Any]:
        ready = [read for _, reads in self._confirmed for read in reads]
        self._confirmed = []
        return ready

    plant(Reads, "take_ready", take_ready)


@bug(52, tier=2)
def answer_goes_to_whoever_waits_longest(plant: Planter) -> None:
    original = Proposals.resolve

    def resolve(self: Proposals, sequence: int, answers: Any) -> None:
        original(self, min(self._in_flight, default=sequence), answers)

    plant(Proposals, "resolve", resolve)


@bug(53, tier=2)
def timeout_is_reported_as_a_failure(plant: Planter) -> None:
    def expire(submission: Any) -> None:
        if not submission.future.done():
            submission.future.set_exception(Unavailable(TIMED_OUT, outcome=Outcome.NOT_APPLIED))

    plant(requests, "_expire", expire)


@bug(50, tier=2)
def batch_that_is_proposed_again_counts_as_another(plant: Planter) -> None:
    original = Proposals.unresolved

    def unresolved(self: Proposals) -> Sequence[Batch]:
        again = []
        for batch in original(self):
            data = batch.proposal.data + _sequence_field(self._next_sequence)
            self._next_sequence += 1
            again.append(replace(batch, proposal=replace(batch.proposal, data=data)))
        return again

    plant(Proposals, "unresolved", unresolved)


def _sequence_field(sequence: int) -> bytes:
    """Protobuf takes the last of several values of a field."""
    return store_pb2.CommandBatch(sequence=sequence).SerializeToString()

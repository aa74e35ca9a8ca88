"""The replicated state machine: committed entries in, answers out; reads, commits, snapshots.

Synchronous, and the business of one thread. Exceptions, for any thread: the properties, and what `prepare_snapshot`,
`prepare_hash` and `outlook` return.

What may not live here: Raft's decisions, threads, clocks (one is injected), and what a command does (`raftkv.mvcc`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TypeVar

import lmdb

from raftkv.durations import Durations
from raftkv.errors import CorruptionError, DataDirError, DiskFullError
from raftkv.lease.clock import ClockView
from raftkv.lease.reading import LeaseReads
from raftkv.mvcc import commands
from raftkv.mvcc.compaction import compact_some
from raftkv.mvcc.environment import DATA_FILE, lmdb_errors
from raftkv.mvcc.hashing import StateHash, hash_committed, hash_now, resolve_hash_revision
from raftkv.mvcc.history import ChangeReader, ChangeSlice
from raftkv.mvcc.reading import SLICE_KEYS, read_range, read_range_slices
from raftkv.mvcc.store import OperationCounts, Store
from raftkv.pb import rpc_pb2, store_pb2
from raftkv.raft.types import Entry, Membership, SnapshotMeta
from raftkv.statemachine import records, snapshot
from raftkv.statemachine.alarms import Alarms
from raftkv.statemachine.answers import AppliedBatch
from raftkv.statemachine.application import Application
from raftkv.statemachine.config import Bootstrap, StoreLimits
from raftkv.statemachine.members import MemberTable
from raftkv.statemachine.origins import Origins
from raftkv.statemachine.outlook import Outlook
from raftkv.statemachine.pacing import CompactionPace
from raftkv.statemachine.sessions import Sessions
from raftkv.statemachine.uncommitted import Uncommitted

_parse_batch = store_pb2.CommandBatch.FromString
_T = TypeVar("_T")


class StateMachine:
    """Applies the log to the store.

    Invariants: `durable_index` <= `applied_index`; entries are applied in order, each once. Applied index and data are
    committed in one transaction.

    After any exception but RequestError and DiskFullError it must not be used further. After DiskFullError nothing is lost:
    everything applied is still there, uncommitted, and `commit` may be tried again.
    """

    def __init__(self, path: Path, limits: StoreLimits, clock: Callable[[], float]) -> None:
        """Use `open`."""
        self._path = path
        self._limits = limits
        self._store = Store(path, map_bytes=limits.map_bytes)
        self.leases = LeaseReads(self._store)
        """What can be asked about leases."""
        self._bytes_in_use = 0
        self._uncommitted = Uncommitted(limits, clock)
        self._compaction_pace = CompactionPace(limits.compact_records)
        self._application = Application(self._store, note_change=self._uncommitted.note_change)
        self._clock = clock
        self.commit_durations = Durations()
        self.while_committing: Callable[[], AbstractContextManager[None]] = nullcontext
        """Entered while a commit is written and synced: until it is left, nothing changes, and `outlook` holds."""

    @staticmethod
    def open(
        path: Path,
        *,
        create: Bootstrap | None = None,
        limits: StoreLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> StateMachine:
        """Open the state in the directory `path`. One that exists is checked from end to end first: about 1 µs a record.

        With `create`, a state that does not exist yet is created, durably, at index 0; one that exists is left as it is.
        May run on another thread than the one that uses the machine afterwards.

        Raises:
            DataDirError: there is no state and `create` is None, or it is of a newer format.
            CorruptionError: it is damaged.
            DiskFullError, StorageError
        """
        if create is None and not (path / DATA_FILE).exists():
            raise DataDirError(f"{path} holds no state")
        with snapshot.disk_errors(f"open {path}"):
            path.mkdir(parents=True, exist_ok=True)
            snapshot.discard_staged(path)
        machine = StateMachine(path, limits or StoreLimits(), clock)
        try:
            machine._open(create)
        except BaseException:
            machine._store.close()
            raise
        return machine

    def _open(self, create: Bootstrap | None) -> None:
        if records.load(self._store) is None:
            if create is None:
                raise DataDirError(f"{self._path} holds no state")
            create.membership.check()
            applied = SnapshotMeta(0, 0, create.membership)
            new = records.Records(
                create.cluster_id,
                applied,
                MemberTable(tuple(create.members), create.removed),
                Origins(),
                Sessions(create.cluster_id),
            )
            records.write_new(self._store, new)
            self._store.commit()
            with snapshot.disk_errors(f"create {self._path}"):
                snapshot.sync_directory(self._path)
                snapshot.sync_directory(self._path.parent)
        self._load()

    def _load(self) -> None:
        """Take the records from the last commit."""
        found = records.load(self._store)
        if found is None:
            raise CorruptionError(f"{self._path} has lost its records")
        self._records = self._application.records = found
        self._durable_index = found.applied.index
        with self._store.reader() as reader:
            self._bytes_in_use = self._store.bytes_in_use(reader.txn)

    # --- what it is ---------------------------------------------------------------------------------------------------

    @property
    def cluster_id(self) -> int:
        return self._records.cluster_id

    @property
    def applied_index(self) -> int:
        return self._records.applied.index

    @property
    def applied_term(self) -> int:
        return self._records.applied.term

    @property
    def durable_index(self) -> int:
        """Up to here a crash loses nothing even without the log."""
        return self._durable_index

    @property
    def membership(self) -> Membership:
        return self._records.applied.membership

    @property
    def members(self) -> list[rpc_pb2.Member]:
        """Not to be changed by the caller."""
        return list(self._records.table.members)

    @property
    def table(self) -> MemberTable:
        """The members, and who is none any more."""
        return self._records.table

    @property
    def members_version(self) -> int:
        """Grows whenever membership or member table change."""
        return self._application.members_version

    @property
    def alarms(self) -> Alarms:
        """Those that are on, as of what is applied."""
        return self._records.alarms

    @property
    def revision(self) -> int:
        return self._store.revision

    @property
    def compact_revision(self) -> int:
        """-1: never compacted, as in etcd."""
        return self._store.compact_revision

    @property
    def removed_revision(self) -> int:
        """How far physical removal has come: a compaction with `physical` is done when this reaches its revision."""
        return self._store.removed_revision

    @property
    def bytes_on_disk(self) -> int:
        return self._store.environment.file_bytes

    @property
    def bytes_in_use(self) -> int:
        """As of the last commit: the file without its free pages."""
        return self._bytes_in_use

    @property
    def clock(self) -> ClockView:
        """What time it is by the log, and when the next lease ends. On the thread of the machine."""
        applied, leases = self._records.applied, self._store.leases
        sessions = self._records.sessions
        return ClockView(applied.index, applied.term, leases.clock_ms, leases.next_deadline_ms, len(sessions) > 0)

    @property
    def operation_counts(self) -> OperationCounts:
        """What was done here since the start, for metrics: what is applied again counts again."""
        return self._store.operation_counts

    def is_applied(self, origin: int, incarnation: int, sequence: int) -> bool:
        """Whether a batch took effect: for its origin, after an installed snapshot has swallowed the answer."""
        return self._records.origins.is_applied(origin, incarnation, sequence)

    # --- apply --------------------------------------------------------------------------------------------------------

    def apply(self, entries: Sequence[Entry], *, wanted: tuple[int, int] | None = None) -> list[AppliedBatch]:
        """Apply committed entries, in order. The effect is visible to reads at once, and durable after `commit`.

        Args:
            entries: the first follows `applied_index`.
            wanted: (origin, incarnation) whose batches are to be answered; a batch applied before is not answered again.

        Raises:
            CorruptionError: an entry holds what this version does not know, and must not skip.
            DiskFullError: none of the entries is applied.
            StorageError
        """
        expected = self.applied_index + 1
        for offset, entry in enumerate(entries):
            assert entry.index == expected + offset, f"entry {entry} where {expected + offset} should be applied"
        if not entries:
            return []
        self._uncommitted.note_change()
        written_before = self._store.records_written
        batches = self._retry_when_full("apply", lambda: self._apply_all(entries, wanted))
        self._compaction_pace.wrote(self._store.records_written - written_before)
        self._uncommitted.add(entries)
        return batches

    def _apply_all(self, entries: Sequence[Entry], wanted: tuple[int, int] | None) -> list[AppliedBatch]:
        apply = self._application.apply
        return [batch for entry in entries if (batch := apply(entry, wanted)) is not None]

    def outlook(self, wanted: tuple[int, int]) -> Outlook:
        """What batches of `wanted` will be answered that are not applied yet: for another thread, `while_committing`."""
        return Outlook(self._records, self._store.revision, wanted=wanted)

    # --- when the map is full -----------------------------------------------------------------------------------------

    def _retry_when_full(self, what: str, step: Callable[[], _T]) -> _T:
        """Run a step that writes. If LMDB's map fills up: abort, enlarge it, bring back what was not committed, run it again.

        The map is enlarged early, after commits; this is for a burst that is larger than half a map. If the disk is full,
        the state goes back to what it was before the step.
        """
        while True:
            try:
                with lmdb_errors(what):
                    return step()
            except lmdb.MapFullError:
                self._store.abort()
                self._store.environment.grow()
                self._bring_back()
            except DiskFullError:
                self._store.abort()
                self._bring_back()
                raise

    def _bring_back(self) -> None:
        """After an abort: load what was committed, apply again what came after. Nobody is answered twice."""
        entries = self._uncommitted.entries
        while True:
            self._load()
            try:
                with lmdb_errors("apply"):
                    self._apply_all(entries, None)
                return
            except lmdb.MapFullError:
                self._store.abort()
                self._store.environment.grow()

    # --- reads --------------------------------------------------------------------------------------------------------

    def range(self, request: rpc_pb2.RangeRequest) -> rpc_pb2.RangeResponse:
        """Read what is applied.

        Raises:
            Compacted, FutureRevision
        """
        return rpc_pb2.RangeResponse.FromString(self.range_bytes(request))

    def range_bytes(self, request: rpc_pb2.RangeRequest) -> bytes:
        """As `range`, serialized; `header.revision` is set.

        Protobuf merges what is concatenated: append `RangeResponse(header=...)` with cluster, member and term, serialized.
        """
        with lmdb_errors("read"):
            return read_range(self._store, request)

    def range_slices(self, request: rpc_pb2.RangeRequest, slice_keys: int = SLICE_KEYS) -> Iterator[bytes]:
        """As `range_bytes`, in pieces; between two of them the machine may apply, commit and compact.

        The answer is of the revision at the time of this call. Exhaust the iterator or close it: until then physical
        compaction keeps what it may need.

        Raises:
            Compacted, FutureRevision: at once.
        """
        pieces = read_range_slices(self._store, request, slice_keys=slice_keys)

        def guarded() -> Iterator[bytes]:
            with lmdb_errors("read"):
                yield from pieces

        return guarded()

    def read_txn(self, request: rpc_pb2.TxnRequest) -> rpc_pb2.TxnResponse:
        """Answer a txn of ranges alone (`commands.is_readonly`), which needs no log entry.

        Raises:
            Compacted, FutureRevision
        """
        assert commands.is_readonly(request), "a txn that writes goes through the log"
        with lmdb_errors("read"):
            response = commands.txn(self._store, request, wanted=True)
        assert response is not None, "a wanted txn without an answer"
        return response

    def changes(self, reader: ChangeReader, *, records: int, size: int, previous: bool) -> ChangeSlice:
        """The next slice of history from the reader's place on; see `ChangeReader.read`."""
        with lmdb_errors("read"):
            return reader.read(self._store, records=records, size=size, previous=previous)

    def follow(self, reader: ChangeReader | None) -> None:
        """Keep the changes that `reader` has not read yet, whatever is compacted; None: there is nobody to keep them for."""
        self._store.follower = reader

    def hash_kv(self, revision: int = 0) -> StateHash:
        """The checksum of the key space at a revision (0: the present one), on this thread: about 2 s a million keys.

        Raises:
            Compacted, FutureRevision
        """
        with lmdb_errors("hash"):
            return hash_now(self._store, revision)

    def prepare_hash(self, revision: int = 0) -> Callable[[], StateHash]:
        """As `hash_kv`, committing here and hashing where the result is called: any thread, once, soon.

        Raises:
            Compacted, FutureRevision
            DiskFullError, StorageError: the commit failed.
        """
        revision = resolve_hash_revision(self._store, revision)
        self.commit()
        return hash_committed(self._store, revision)

    # --- commit and compaction ----------------------------------------------------------------------------------------

    def commit_due(self) -> bool:
        """Whether enough has been applied, or enough time has passed since the first of it."""
        return self._uncommitted.is_due()

    def commit(self) -> None:
        """Make everything applied durable; returns when the disk says so. Without anything to commit it does nothing.

        Raises:
            DiskFullError: nothing was committed, nothing is lost; try again when there is space.
            CorruptionError, StorageError
        """
        if self._uncommitted.is_empty:
            return
        began = self._clock()
        self._retry_when_full("commit", self._commit)
        self.commit_durations.add(self._clock() - began)
        self._durable_index = self.applied_index
        self._uncommitted.clear()
        self._store.environment.grow_if_half_full()

    def _commit(self) -> None:
        records.write_changed(self._store, self._records)
        self._bytes_in_use = self._store.bytes_in_use(self._store.txn)
        with self.while_committing():
            self._store.commit()

    def compact_due(self) -> bool:
        """Whether something is left to remove that nobody reads any more."""
        return self._store.removable_revision > max(0, self._store.removed_revision)

    def compact_some(self) -> bool:
        """Remove a slice of what was compacted; True while there is more. What a commit does not catch is done again."""
        if not self.compact_due():
            return False
        records = self._limits.compact_records
        self._compaction_pace.looked_at(records)
        removed_before = self._store.records_removed
        has_more = self._retry_when_full("compact", lambda: compact_some(self._store, records=records))
        self._uncommitted.note_change(removals=self._store.records_removed - removed_before)
        return has_more

    def compact_before_job(self) -> bool:
        """Remove what the jobs before call for (`pacing`); whether there is more, for when the thread is idle."""
        return self._compaction_pace.before_job(self.compact_some, is_compacted=self.compact_due())

    # --- snapshots ----------------------------------------------------------------------------------------------------

    def prepare_snapshot(self) -> snapshot.PreparedSnapshot:
        """Commit, and hold that state for a snapshot: call the result with a path, on any thread, while applying goes on.

        Raises:
            DiskFullError, StorageError: the commit failed.
        """
        self.commit()
        reader = self._store.reader()
        return snapshot.PreparedSnapshot(self._store.environment, reader, self.cluster_id, self._records.applied)

    def snapshot_to(self, path: Path) -> SnapshotMeta:
        """Write a snapshot file, synced, here and now.

        Raises:
            DiskFullError, StorageError: no file is left.
        """
        return self.prepare_snapshot()(path)

    def install(self, path: Path, meta: SnapshotMeta, *, is_verified: bool = False) -> None:
        """Replace the whole state by a received snapshot, durably. Waits for snapshots and hashes still being made.

        The file at `path` is used up. A crash, at any point, leaves the old state or the new one.

        Args:
            path: the file, best on the file system of the state directory.
            meta: what it was announced as; its index is not behind `applied_index`.
            is_verified: `verify_snapshot` has already read it from end to end, on another thread perhaps.

        Raises:
            CorruptionError: torn, damaged, of another cluster, or not what `meta` says; the old state goes on.
            DiskFullError, StorageError
        """
        assert meta.index >= self.applied_index, f"snapshot at {meta.index} behind applied {self.applied_index}"
        seal = snapshot.read_seal(path) if is_verified else snapshot.verify_snapshot(path)
        if (seal.cluster_id, seal.meta) != (self.cluster_id, meta):
            raise CorruptionError(f"{path} holds {seal}, not cluster {self.cluster_id:x} at {meta}")
        snapshot.stage(path, self._path, seal)
        self._application.members_version += 1
        self._swap_in()

    def defragment(self) -> None:
        """Give free pages back to the file system: commit, write the state anew without them, and go on with that file.

        Waits for snapshots and hashes still being made, and takes as long as writing and reading the state does. A crash, at
        any point, leaves the state as it was.

        Raises:
            DiskFullError: there is no room for a second copy; nothing has changed.
            CorruptionError: the state is damaged.
            StorageError
        """
        self.commit()
        with self._store.reader() as reader:
            snapshot.stage_copy(self._store.environment, reader, self._path)
        self._swap_in()

    def _swap_in(self) -> None:
        self._store.close()
        snapshot.swap_in(self._path)
        self._store.reopen()
        self._uncommitted.clear()
        self._load()

    def close(self, *, commit: bool = True) -> None:
        """Commit, unless told not to, and close. On the thread that used it; waits for snapshots being written."""
        try:
            if commit:
                self.commit()
        finally:
            self._store.close()

"""The versioned store: writes into one open LMDB transaction, reads of single keys, and the counters.

What may not live here: etcd's request messages (`commands`, `reading`), and the log (`raftkv.statemachine`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from zlib import crc32

import lmdb

from raftkv.errors import COMPACTED, FUTURE_REVISION, Compacted, CorruptionError, FutureRevision
from raftkv.mvcc.checking import check_state
from raftkv.mvcc.environment import DATA_FILE, Environment, Reader, lmdb_errors
from raftkv.mvcc.leases import Leases
from raftkv.mvcc.schema import (
    COUNTERS,
    COUNTERS_KEY,
    KEY_BYTES_MAX,
    NEVER_COMPACTED,
    REVISION,
    REVISION_BYTES,
    SET_HASH_MASK,
    SUB_MAX,
    VERSION,
    VERSION_CHECKSUM,
    encode_key_value,
    seal,
    unseal,
    version_hash,
)

_pack_revision = REVISION.pack
_pack_version = VERSION.pack
_unpack_version = VERSION.unpack
_unpack_checksum = VERSION_CHECKSUM.unpack


@dataclass(slots=True)
class OperationCounts:
    """Operations since the start, by etcd's way of counting: a delete of a range is one, a txn of one operation is none."""

    puts: int = 0
    deletes: int = 0
    ranges: int = 0
    txns: int = 0


class Follower(Protocol):
    """Somebody who reads every change soon after it was made (`history.ChangeReader`)."""

    @property
    def revision(self) -> int:
        """All changes below this revision have been read."""


class Store:
    """Keys, their histories, and a write transaction that stays open between commits.

    One thread uses it. Exceptions: what `reader` returns may be used elsewhere, and the counters may be read anywhere.

    A *write* is what one command changes: `put` and `delete` any number of times, then `end_write`, which makes all of it
    one revision (and none, if nothing changed). Reads in between see the changes made so far.

    Invariants: compact_revision <= revision; nothing above compact_revision has been removed; per key at most one record
    at or below `removed_through` is left, and that one is no tombstone.
    """

    def __init__(self, path: Path, *, map_bytes: int) -> None:
        """Open or create the store. One that exists is read from end to end first: about 1 µs a record.

        Raises:
            CorruptionError: it is not what was written (`checking`).
            StorageError: see `Environment`.
        """
        if (path / DATA_FILE).exists():
            check_state(path / DATA_FILE)
        self._path = path
        self._map_bytes = map_bytes
        self.environment = Environment(path, map_bytes=map_bytes)
        self.revision = 1
        self.compact_revision = NEVER_COMPACTED
        self.removed_through = (0, 0)
        """Every record up to here (main, sub) has been looked at by the physical removal."""
        self.dirty = False
        """Something changed since the last commit."""
        self.operation_counts = OperationCounts()
        self.records_written = self.records_removed = 0
        """Since the start."""
        self._changes = 0
        self._set_hash = 0
        self._pins: dict[object, int] = {}
        """The revision of each reading under way. One that nobody waits for any more ends where its last reference goes, on
        another thread than the one that began it: so a pin comes and goes by one step of the dictionary, and none is counted."""
        self.follower: Follower | None = None
        """What it has not read yet is kept, even if it is compacted meanwhile."""
        self._txn: lmdb.Transaction[bytes] | None = None
        self._leases = Leases()
        with self.environment.reader() as reader:
            self._load(reader.txn)

    # --- transactions -------------------------------------------------------------------------------------------------

    @property
    def txn(self) -> lmdb.Transaction[bytes]:
        """The open write transaction; the first use after a commit begins it, on the calling thread."""
        if self._txn is None:
            self.begin()
        assert self._txn is not None
        return self._txn

    def begin(self) -> None:
        """Begin the write transaction unless one is open."""
        if self._txn is not None:
            return
        txn = self.environment.begin()
        self._txn = txn
        # One cursor serves every look-up, and the methods are bound once: this is the hot path.
        self.index_cursor = txn.cursor(self.environment.index)
        self.revisions_cursor = txn.cursor(self.environment.revisions)
        self._put_index = self.index_cursor.put
        self._put_value = self.revisions_cursor.put
        self._seek_key = self.index_cursor.set_key
        self._last_version = self.index_cursor.last_dup
        self._found_version = self.index_cursor.value
        self._get_value = self.revisions_cursor.get
        self._leases.begin(txn, self.environment)

    def commit(self) -> None:
        """Write the counters and everything since the last commit to disk, synced.

        Raises:
            lmdb.MapFullError: nothing was committed; the transaction is gone (`abort`, `environment.grow`, do it again).
            DiskFullError, CorruptionError, StorageError: nothing was committed; the transaction is gone.
        """
        assert self._changes == 0, f"commit within a write, after {self._changes} changes"
        txn = self.txn
        self._set_hash &= SET_HASH_MASK
        counters = COUNTERS.pack(
            self.revision,
            self.compact_revision,
            *self.removed_through,
            self._set_hash,
            self._leases.clock_ms,
            self._leases.set_hash,
        )
        with lmdb_errors("commit", self._path):
            self.put_meta(COUNTERS_KEY, counters)
            txn.commit()
        self._txn = None
        self.dirty = False
        self.environment.clear_stale_readers()

    def abort(self) -> None:
        """Forget everything since the last commit, the counters too."""
        if self._txn is not None:
            self._txn.abort()
            self._txn = None
        with self.environment.reader() as reader:
            self._load(reader.txn)

    def reader(self) -> Reader:
        """A view of what is committed, for another thread."""
        return self.environment.reader()

    def close(self) -> None:
        """Close without committing; waits for readers. On the thread that used the store."""
        if self._txn is not None:
            self._txn.abort()
            self._txn = None
        self.environment.close()

    def reopen(self) -> None:
        """After `close`: open again what now lies at the path, and has been checked."""
        self.environment = Environment(self._path, map_bytes=self._map_bytes)
        with self.environment.reader() as reader:
            self._load(reader.txn)

    def _load(self, txn: lmdb.Transaction[bytes]) -> None:
        found = txn.get(COUNTERS_KEY, db=self.environment.meta)
        counters = (
            (1, NEVER_COMPACTED, 0, 0, 0, 0, 0)
            if found is None
            else COUNTERS.unpack(unseal(COUNTERS_KEY, found, self._path))
        )
        self.revision, self.compact_revision = counters[0], counters[1]
        self.removed_through = (counters[2], counters[3])
        self._set_hash = counters[4]
        self._leases.load(counters[5], counters[6])
        self._changes = 0
        self.dirty = False

    # --- other records, in the same transaction -----------------------------------------------------------------------

    def meta(self, key: bytes) -> bytes | None:
        """A record of the layer above, as of the last commit or as put since.

        Raises:
            CorruptionError
        """
        if self._txn is not None:
            found = self._txn.get(key, db=self.environment.meta)
        else:
            with self.environment.reader() as reader:
                found = reader.txn.get(key, db=self.environment.meta)
        return None if found is None else unseal(key, found, self._path)

    def metas(self, prefix: bytes) -> list[tuple[bytes, bytes]]:
        """All such records whose key starts with `prefix`, in order."""
        with self.environment.reader() as reader, reader.txn.cursor(self.environment.meta) as cursor:
            found = []
            if cursor.set_range(prefix):
                for key, value in cursor:
                    if not key.startswith(prefix):
                        break
                    found.append((key, unseal(key, value, self._path)))
            return found

    def put_meta(self, key: bytes, value: bytes) -> None:
        self.txn.put(key, seal(key, value), db=self.environment.meta)
        self.dirty = True

    def delete_meta(self, key: bytes) -> None:
        """Forget such a record, if it is there."""
        self.txn.delete(key, db=self.environment.meta)
        self.dirty = True

    # --- writes -------------------------------------------------------------------------------------------------------

    def put(self, key: bytes, value: bytes, lease: int) -> None:
        """Store a value as the next change of the current write. `lease`: one that exists, or 0."""
        if self._txn is None:
            self.begin()
        main = self.revision + 1
        sub = self._changes
        if self._seek_key(key):
            self._last_version()
            _, _, create, version, former, _ = _unpack_version(self._found_version())
            if version:
                version += 1
            else:
                create = main
                version = 1
        else:
            create = main
            version = 1
            former = 0
        if former != lease:
            self._rehang(key, former, lease)
        stored = encode_key_value(key, create, main, version, value, lease)
        is_new = self._put_value(_pack_revision(main, sub), stored, append=True)
        assert is_new, f"revision {main}.{sub} is stored already, or a later one"
        packed = _pack_version(main, sub, create, version, lease, crc32(stored))
        self._put_index(key, packed)
        self._set_hash += crc32(key + packed)  # `version_hash`, without the call.
        self._changes = sub + 1
        self.operation_counts.puts += 1

    def delete(self, key: bytes, lease: int) -> None:
        """Store a tombstone for a key that exists, as the next change of the current write. `lease`: what it hangs on."""
        if self._txn is None:
            self.begin()
        main = self.revision + 1
        sub = self._changes
        stored = encode_key_value(key, 0, main, 0, b"", 0)
        is_new = self._put_value(_pack_revision(main, sub), stored, append=True)
        assert is_new, f"revision {main}.{sub} is stored already, or a later one"
        packed = _pack_version(main, sub, 0, 0, 0, crc32(stored))
        self._put_index(key, packed)
        self._set_hash += version_hash(key, packed)
        if lease:
            self._leases.detach(lease, key)
        self._changes = sub + 1

    def _rehang(self, key: bytes, former: int, lease: int) -> None:
        """The key hangs on another lease from now on; 0: on none. A tombstone's is 0."""
        if former:
            self._leases.detach(former, key)
        if lease:
            self._leases.attach(lease, key)

    @property
    def leases(self) -> Leases:
        """Whoever changes any sets `dirty`."""
        if self._txn is None:
            self.begin()
        return self._leases

    def forget(self, removed: list[tuple[bytes, bytes]]) -> None:
        """Take values off the disk whose versions, each with its key, have just been deleted from the index.

        Only for `compaction`, which knows that nobody can see them.
        """
        remove_value, revisions = self.txn.delete, self.environment.revisions
        hashes = 0
        for key, packed in removed:
            is_gone = remove_value(packed[:REVISION_BYTES], b"", revisions)
            assert is_gone, f"{key!r}: version {_unpack_version(packed)} has no value"
            hashes += crc32(key + packed)  # `version_hash`, without the call.
        self._set_hash -= hashes
        self.records_removed += len(removed)

    def end_write(self) -> int:
        """The write is complete; returns the revision, raised by one if anything changed."""
        if self._changes:
            self.revision += 1
            self.records_written += self._changes
            self._changes = 0
            self.dirty = True
        return self.revision

    def compact_to(self, revision: int) -> None:
        """Raise the compact revision."""
        assert self.compact_revision < revision <= self.revision, f"compact {revision} of {self.revision}"
        self.compact_revision = revision
        self.dirty = True

    @property
    def read_revision(self) -> int:
        """What a read sees now: within a write that has changed something, already the next revision."""
        return self.revision + 1 if self._changes else self.revision

    # --- reads of one key ---------------------------------------------------------------------------------------------

    def latest(self, key: bytes) -> bytes | None:
        """The packed `schema.VERSION` of a key's present version; None if there is none, or it is deleted."""
        if self._txn is None:
            self.begin()
        if not 0 < len(key) <= KEY_BYTES_MAX or not self._seek_key(key):
            return None
        self._last_version()
        packed = self._found_version()
        return packed if _unpack_version(packed)[3] else None

    def version_at(self, key: bytes, revision: int) -> bytes | None:
        """As `latest`, as of a revision that is not compacted."""
        if self._txn is None:
            self.begin()
        if not 0 < len(key) <= KEY_BYTES_MAX or not self._seek_key(key):
            return None
        return self.version_under_cursor(key, revision)

    def version_under_cursor(self, key: bytes, revision: int) -> bytes | None:
        """As `version_at`, with the index cursor already on some version of `key`."""
        self._last_version()
        packed = self._found_version()
        version = _unpack_version(packed)
        if version[0] > revision:
            cursor = self.index_cursor
            found = cursor.set_range_dup(key, _pack_revision(revision + 1, 0))
            assert found, f"revision {revision + 1} or later of {key!r} is gone"
            if not cursor.prev_dup():
                return None
            packed = cursor.value()
            version = _unpack_version(packed)
        return packed if version[3] else None

    def value(self, packed: bytes) -> bytes:
        """The serialized KeyValue of a packed version.

        Raises:
            CorruptionError: what is stored is not what was written.
        """
        if self._txn is None:
            self.begin()
        stored: bytes | None = self._get_value(packed[:REVISION_BYTES])
        if stored is None or crc32(stored) != _unpack_checksum(packed)[0]:
            raise CorruptionError(f"{self._path}: the value of revision {_unpack_version(packed)[:2]} is damaged")
        return stored

    # --- revisions ----------------------------------------------------------------------------------------------------

    def resolve(self, revision: int) -> int:
        """The revision a read means: 0 and below mean the present one, as in etcd.

        Raises:
            FutureRevision, Compacted
        """
        present = self.read_revision
        if revision > present:
            raise FutureRevision(FUTURE_REVISION)
        if revision <= 0:
            revision = present
        if revision < self.compact_revision:
            raise Compacted(COMPACTED)
        return revision

    @contextmanager
    def pinned(self, revision: int) -> Iterator[None]:
        """Keep the records a read at `revision` needs, even if it is compacted meanwhile. May be left on any thread."""
        pin = object()
        self._pins[pin] = revision
        try:
            yield
        finally:
            del self._pins[pin]

    @property
    def removable_revision(self) -> int:
        """How far the physical removal may go."""
        told = self.compact_revision if self.follower is None else self.follower.revision - 1
        return min(self.compact_revision, told, *self._pins.values())

    @property
    def removed_revision(self) -> int:
        """Every record at or below this revision that may go is gone."""
        main, sub = self.removed_through
        return main if sub == SUB_MAX else main - 1

    def bytes_in_use(self, txn: lmdb.Transaction[bytes]) -> int:
        """Pages the databases fill; the rest of the file is free for reuse.

        Not counted: pages of their own that LMDB gives to a key with more than a few dozen versions.
        """
        environment = self.environment
        pages = 0
        for database in environment.databases:
            stat = txn.stat(database)
            pages += stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
        return pages * environment.page_bytes

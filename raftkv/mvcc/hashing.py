"""HashKV: a checksum over everything a read can see, equal on all nodes at equal revision and compact revision.

It covers index and values as they are stored, in key order, and leaves out what is compacted: whether that is still on the
disk depends on how far physical removal has come. Each value is held against its own checksum on the way. It is not etcd's
number: etcd hashes its own file format.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import lmdb

from raftkv.errors import COMPACTED, FUTURE_REVISION, Compacted, CorruptionError, FutureRevision
from raftkv.mvcc.environment import lmdb_errors
from raftkv.mvcc.schema import REVISION_BYTES, VERSION, VERSION_CHECKSUM
from raftkv.mvcc.store import Store

_unpack_version = VERSION.unpack
_unpack_checksum = VERSION_CHECKSUM.unpack


@dataclass(frozen=True, slots=True)
class StateHash:
    """`hash` covers the state at `revision`, without what was compacted at `compact_revision`."""

    hash: int
    compact_revision: int
    revision: int


class Databases(Protocol):
    """Where to look: an open `Environment`, or a file that nobody writes to (`sealed`)."""

    @property
    def index(self) -> Any: ...
    @property
    def revisions(self) -> Any: ...


def resolve_hash_revision(store: Store, revision: int) -> int:
    """0 means the present one.

    Raises:
        Compacted: at the compact revision itself too, as in etcd 3.4.
        FutureRevision
    """
    if 0 < revision <= store.compact_revision:
        raise Compacted(COMPACTED)
    if revision > store.revision:
        raise FutureRevision(FUTURE_REVISION)
    return revision if revision > 0 else store.revision


def hash_now(store: Store, revision: int) -> StateHash:
    """Hash what is applied, on the thread of the store. About 2 µs a record."""
    revision = resolve_hash_revision(store, revision)
    number = hash_view(store.txn, store.environment, revision, store.compact_revision)
    return StateHash(number, store.compact_revision, revision)


def hash_committed(store: Store, revision: int) -> Callable[[], StateHash]:
    """Hold what is committed, and hash it where the result is called: any thread, once. Nothing may be uncommitted."""
    assert not store.dirty, "the counters are ahead of what is committed"
    environment, compact_revision, reader = store.environment, store.compact_revision, store.reader()

    def run() -> StateHash:
        with reader, lmdb_errors("hash"):
            number = hash_view(reader.txn, environment, revision, compact_revision)
            return StateHash(number, compact_revision, revision)

    return run


def hash_view(txn: lmdb.Transaction[bytes], environment: Databases, revision: int, compact_revision: int) -> int:
    """The hash of what a transaction sees. Raises CorruptionError: a value is not what was written."""
    number = 0
    pending: tuple[bytes, bytes] | None = None  # The last version at or below the compact revision seen of a key.
    with txn.cursor(environment.index) as index, txn.cursor(environment.revisions) as revisions:

        def value(packed: bytes) -> bytes:
            stored: bytes = revisions.get(packed[:REVISION_BYTES], b"")
            if zlib.crc32(stored) != _unpack_checksum(packed)[0]:
                raise CorruptionError(f"the value of revision {_unpack_version(packed)[:2]} is damaged")
            return stored

        for key, packed in index:
            main, _, _, version, _, _ = _unpack_version(packed)
            if pending is not None and (pending[0] != key or main > compact_revision):
                number = zlib.crc32(pending[1] + value(pending[1]), number)
                pending = None
            if main > revision:
                continue
            if main > compact_revision:
                number = zlib.crc32(packed + value(packed), number)
            else:
                pending = (key, packed) if version else None
        if pending is not None:
            number = zlib.crc32(pending[1] + value(pending[1]), number)
    return number

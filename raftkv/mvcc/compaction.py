"""Physical compaction: taking off the disk what no read can see any more, a slice at a time.

The records are walked in revision order, from where the last slice ended up to the compact revision. A record makes its
predecessor (the same key's version before it) invisible to every read that is still allowed, so the predecessor goes; a
tombstone goes too. Nothing else needs to be looked at: the work is proportional to what was written between two
compactions, not to the number of keys, and no memory is kept. Where it stopped lies in the counters: a restart goes on.

A slice looks each of its keys up once. Of what was walked before it, at most one version of a key is left: where the slice's
first version of a key is not the first one in the index, what stands before it is its predecessor. From there on everything
is deleted where the cursor stands, which LMDB then moves on to the next version; the values follow, in one go.

How far this has come differs from node to node; what reads and hashes see does not. When a slice is due is not decided here
(`raftkv.statemachine.pacing`).
"""

from __future__ import annotations

from raftkv.mvcc.schema import REVISION, REVISION_BYTES, SUB_MAX, VERSION, user_key_of
from raftkv.mvcc.store import Store

SLICE_BYTES = 1 << 20
"""Values a slice walks over, whatever the number of records: a record may be as large as a request."""

_unpack_version = VERSION.unpack


def compact_some(store: Store, *, records: int) -> bool:
    """Look at up to `records` records more; False once everything that may be removed has been.

    Raises:
        lmdb.MapFullError
    """
    target = store.removable_revision
    if store.removed_through >= (target, SUB_MAX) or target <= 0:
        return False
    end = REVISION.pack(target, SUB_MAX)
    written, last = _walk(store, end, records)
    _remove_superseded(store, written)
    main, sub = REVISION.unpack(last)
    store.removed_through = (main, sub)
    store.dirty = True
    return last != end


def _walk(store: Store, end: bytes, records: int) -> tuple[dict[bytes, list[bytes]], bytes]:
    """The next records: of each user key its revisions, in order; and where the walk ended, which is `end` after the last."""
    store.begin()
    cursor = store.revisions_cursor
    written: dict[bytes, list[bytes]] = {}
    main, sub = store.removed_through
    start = REVISION.pack(main, sub + 1) if sub < SUB_MAX else REVISION.pack(main + 1, 0)
    if not cursor.set_range(start):
        return written, end
    size = 0
    for revision_key, stored in cursor:
        if revision_key > end:
            return written, end
        written.setdefault(user_key_of(stored), []).append(revision_key)
        records -= 1
        size += len(stored)
        if records == 0 or size >= SLICE_BYTES:
            return written, revision_key
    return written, end


def _remove_superseded(store: Store, written: dict[bytes, list[bytes]]) -> None:
    """Remove each key's versions before the last of those written in this slice; that too, if it is a tombstone."""
    cursor = store.index_cursor
    seek_key, version_here, delete_here = cursor.set_key, cursor.value, cursor.delete
    removed: list[tuple[bytes, bytes]] = []
    for key, revisions in written.items():
        is_found = seek_key(key)
        assert is_found, f"{key!r} is not in the index"
        packed = version_here()
        if packed[:REVISION_BYTES] < revisions[0]:
            removed.append((key, packed))
            delete_here()
            packed = version_here()
        last = revisions[-1]
        for revision_key in revisions:
            assert packed[:REVISION_BYTES] == revision_key, f"{key!r}: {packed!r} stands where {revision_key!r} should"
            if revision_key is not last:
                removed.append((key, packed))
                delete_here()
                packed = version_here()
        if _unpack_version(packed)[3] == 0:
            removed.append((key, packed))
            delete_here()
    store.forget(removed)

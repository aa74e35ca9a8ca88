"""Physical compaction: taking off the disk what no read can see any more, a slice at a time.

The records are walked in revision order, from where the last slice ended up to the compact revision. A record makes its
predecessor (the same key's version before it) invisible to every read that is still allowed, so the predecessor goes; a
tombstone goes too. Nothing else needs to be looked at: the work is proportional to what was written between two
compactions, not to the number of keys, and no memory is kept. Where it stopped lies in the counters: a restart goes on.

How far this has come differs from node to node; what reads and hashes see does not.
"""

from __future__ import annotations

from itertools import islice

from raftkv.mvcc.schema import REVISION, REVISION_BYTES, SUB_MAX, VERSION, user_key_of
from raftkv.mvcc.store import Store

_unpack_version = VERSION.unpack


def compact_some(store: Store, *, records: int) -> bool:
    """Look at up to `records` records more; False once everything that may be removed has been.

    Raises:
        lmdb.MapFullError
    """
    target = store.removable_revision
    if store.removed_through >= (target, SUB_MAX) or target <= 0:
        return False
    superseding, is_last = _records_after(store, store.removed_through, target, records)
    for revision_key, key in superseding:
        _remove_predecessor(store, revision_key, key)
    last = (target, SUB_MAX) if is_last else REVISION.unpack(superseding[-1][0])
    store.removed_through = (last[0], last[1])
    store.dirty = True
    return not is_last


def _records_after(
    store: Store, position: tuple[int, int], target: int, records: int
) -> tuple[list[tuple[bytes, bytes]], bool]:
    """The next records up to `target`, as (revision key, user key), and whether those are all."""
    store.begin()
    cursor = store.revisions_cursor
    found: list[tuple[bytes, bytes]] = []
    main, sub = position
    start = REVISION.pack(main, sub + 1) if sub < SUB_MAX else REVISION.pack(main + 1, 0)
    if not cursor.set_range(start):
        return found, True
    for revision_key, stored in islice(cursor, records):
        if REVISION.unpack(revision_key)[0] > target:
            return found, True
        found.append((revision_key, user_key_of(stored)))
    return found, len(found) < records


def _remove_predecessor(store: Store, revision_key: bytes, key: bytes) -> None:
    cursor = store.index_cursor
    is_found = cursor.set_range_dup(key, revision_key)
    assert is_found, f"revision {REVISION.unpack(revision_key)} of {key!r} is not in the index"
    packed = cursor.value()
    assert packed[:REVISION_BYTES] == revision_key, f"{key!r}: {packed!r} stands where {revision_key!r} should"
    if cursor.prev_dup():
        store.remove(key, cursor.value())
    if _unpack_version(packed)[3] == 0:
        store.remove(key, packed)

"""What was written from a revision on, in its order, in slices: the stuff of which watches are made.

The database `revisions` is that history already; reading it on from a place costs what is read, whatever the size of the
store. New changes and old ones are read by the same code, so between the two there can be neither a gap nor an overlap.

What may not live here: who wants to know.
"""

from __future__ import annotations

from typing import NamedTuple
from zlib import crc32

from raftkv.errors import CorruptionError
from raftkv.mvcc.schema import REVISION, REVISION_BYTES, VERSION_CHECKSUM, user_key_of, varint
from raftkv.mvcc.store import Store

_unpack_revision = REVISION.unpack
_unpack_checksum = VERSION_CHECKSUM.unpack
_KEY_TAG = b"\x0a"
_CREATE_REVISION_TAG = 0x10


class Change(NamedTuple):
    """One key that was put or deleted.

    Attributes:
        revision: the main revision.
        key: the user key.
        is_put: False: it was deleted.
        stored: serialized KeyValue; of a deletion key and mod_revision alone.
        previous: serialized KeyValue as of the revision before; None where the key is new, or it was not asked for.
    """

    revision: int
    key: bytes
    is_put: bool
    stored: bytes
    previous: bytes | None = None


class ChangeSlice(NamedTuple):
    """Changes in the order in which they were made; all of a revision, or none.

    Attributes:
        changes: from the reader's place on.
        through: all changes up to this revision are in this slice, or came before it.
        present: the store's revision when this was read.
        compact_revision: the store's; -1 if it was never compacted.
        removed_revision: up to here, records that no read can see any more are gone: where the reader's place is not behind
            this, deletions and overwritten values may be missing from the slice.
        has_previous: `previous` was looked up.
    """

    changes: list[Change]
    through: int
    present: int
    compact_revision: int
    removed_revision: int
    has_previous: bool


class ChangeReader:
    """A place in the history, from which `read` goes on.

    If history is gone beyond that place, nothing is read and the place stays: see `ChangeSlice.compact_revision` and
    `ChangeSlice.removed_revision`.
    """

    def __init__(self, revision: int, *, is_live: bool = False) -> None:
        """Args:
        revision: the first one to read; 1 or more.
        is_live: what it reads is new, and not gone before it is removed from the disk: to etcd's watches, too, a change was
            told before it was compacted. Else what was compacted is gone.
        """
        self._is_live = is_live
        self._main = revision
        self._sub = 0
        self._incomplete: list[Change] = []
        """Of revision `_main`, what was read before the slice was full."""
        self._has_previous = True
        """Of `_incomplete`."""

    @property
    def revision(self) -> int:
        """All changes below this revision have been given out."""
        return self._main

    @property
    def is_inside(self) -> bool:
        """A part of a large revision has been read and not given out yet: only this reader can go on with it."""
        return bool(self._incomplete)

    def read(self, store: Store, *, records: int, size: int, previous: bool) -> ChangeSlice:
        """The next changes, on the store's thread, between two writes.

        A slice ends after `records` records or `size` bytes, whichever comes first. A revision that is larger is read over
        several calls, all but the last of which bring nothing.

        Raises:
            CorruptionError: what is stored is not what was written.
        """
        start = self._main
        has_previous = previous and (self._has_previous or not self._incomplete)
        if start <= (store.removed_revision if self._is_live else store.compact_revision - 1):
            return self._slice(store, [], start - 1, has_previous=has_previous)
        found, is_end = self._records(store, records, size)
        # At the compact revision etcd has forgotten what was before.
        known_from = 1 + (store.removed_revision if self._is_live else store.compact_revision)
        changes = [_change(store, key, stored, previous, known_from) for key, stored in found]
        changes = self._incomplete + changes
        if is_end:
            self._main, self._sub, self._incomplete = max(store.revision + 1, start), 0, []
            return self._slice(store, changes, self._main - 1, has_previous=has_previous)
        main, sub = _unpack_revision(found[-1][0])
        self._incomplete = [change for change in changes if change.revision == main]
        self._main, self._sub, self._has_previous = main, sub + 1, has_previous
        whole = changes[: len(changes) - len(self._incomplete)]
        return self._slice(store, whole, main - 1, has_previous=has_previous)

    def _records(self, store: Store, records: int, size: int) -> tuple[list[tuple[bytes, bytes]], bool]:
        """Stored records from the place on, and whether there are no more."""
        store.begin()
        cursor = store.revisions_cursor
        found: list[tuple[bytes, bytes]] = []
        if not cursor.set_range(REVISION.pack(self._main, self._sub)):
            return found, True
        for item in cursor:
            found.append(item)
            size -= len(item[1])
            if len(found) >= records or size <= 0:
                return found, False
        return found, True

    def _slice(self, store: Store, changes: list[Change], through: int, *, has_previous: bool) -> ChangeSlice:
        return ChangeSlice(
            changes, through, store.revision, store.compact_revision, store.removed_revision, has_previous
        )


def _change(store: Store, revision_key: bytes, stored: bytes, previous: bool, known_from: int) -> Change:
    revision: int = _unpack_revision(revision_key)[0]
    key = _checked_key(store, revision_key, stored)
    # Behind the key, a stored value has its create_revision; a tombstone has none.
    behind_key = 2 + len(key) + (len(key) > 0x7F)
    is_put = stored[behind_key] == _CREATE_REVISION_TAG
    before = None
    # A put that creates its key has nothing before it, even where the same txn has deleted the key first: so says etcd.
    is_new = is_put and stored.startswith(varint(revision), behind_key + 1)
    if previous and not is_new and revision >= known_from:
        packed = store.version_at(key, revision - 1)
        before = None if packed is None else store.value(packed)
    return Change(revision, key, is_put, stored, before)


def _checked_key(store: Store, revision_key: bytes, stored: bytes) -> bytes:
    """The user key of a stored value, which must be what the index says was written.

    Raises:
        CorruptionError
    """
    if stored[:1] == _KEY_TAG:
        key = user_key_of(stored)
        cursor = store.index_cursor
        if cursor.set_range_dup(key, revision_key):
            packed = cursor.value()
            if packed[:REVISION_BYTES] == revision_key and _unpack_checksum(packed)[0] == crc32(stored):
                return key
    raise CorruptionError(f"the value of revision {_unpack_revision(revision_key)} is damaged")

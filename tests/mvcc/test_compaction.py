"""Physical compaction removes exactly what nobody can read, in slices, across restarts."""

from __future__ import annotations

from pathlib import Path

import pytest

from raftkv.errors import Compacted, FutureRevision
from raftkv.mvcc import commands
from raftkv.mvcc.compaction import SLICE_BYTES, compact_some
from raftkv.mvcc.hashing import hash_now
from raftkv.mvcc.schema import VERSION
from raftkv.mvcc.store import Store
from raftkv.pb import rpc_pb2 as rpc

MAP_BYTES = 1 << 26


def put(store: Store, key: bytes, value: bytes = b"v") -> None:
    commands.put(store, rpc.PutRequest(key=key, value=value), wanted=False)


def delete(store: Store, key: bytes, range_end: bytes = b"") -> None:
    commands.delete_range(store, rpc.DeleteRangeRequest(key=key, range_end=range_end), wanted=False)


def compact(store: Store, revision: int) -> None:
    commands.compact(store, rpc.CompactionRequest(revision=revision), wanted=False)


def records(store: Store) -> tuple[int, int]:
    """How many values, and how many entries of the index, are on the disk."""
    environment = store.environment
    return tuple(store.txn.stat(database)["entries"] for database in (environment.revisions, environment.index))


def test_one_version_of_each_living_key_remains(tmp_path: Path) -> None:
    store = Store(tmp_path, map_bytes=MAP_BYTES)
    for number in range(100):
        put(store, b"k%d" % (number % 10))
    delete(store, b"k3")
    delete(store, b"none")
    compact(store, store.revision)

    while compact_some(store, records=7):
        pass

    assert records(store) == (9, 9)
    assert store.removed_revision == store.compact_revision
    store.close()


def test_what_is_above_the_compact_revision_remains(tmp_path: Path) -> None:
    store = Store(tmp_path, map_bytes=MAP_BYTES)
    for _ in range(10):
        put(store, b"a")
    delete(store, b"a")
    compact(store, 6)

    assert not compact_some(store, records=100)

    assert records(store) == (7, 7)  # Revision 6, which a read at 6 sees, to 12.
    compact(store, 12)
    compact_some(store, records=100)
    assert records(store) == (0, 0)
    store.close()


def test_removal_goes_on_after_a_restart(tmp_path: Path) -> None:
    store = Store(tmp_path, map_bytes=MAP_BYTES)
    for _ in range(100):
        put(store, b"a")
    compact(store, 101)
    assert compact_some(store, records=30)
    store.commit()
    assert compact_some(store, records=30)  # This slice is lost.
    store.close()

    store = Store(tmp_path, map_bytes=MAP_BYTES)
    assert store.removed_revision == 30
    assert records(store) == (71, 71)
    while compact_some(store, records=30):
        pass
    assert records(store) == (1, 1)
    store.close()


def test_one_huge_revision_is_removed_in_slices_too(tmp_path: Path) -> None:
    store = Store(tmp_path, map_bytes=MAP_BYTES)
    for number in range(1000):
        put(store, b"k%d" % number)
    delete(store, b"\0", b"\0")
    compact(store, store.revision)
    expected = hash_now(store, 0)
    slices = 0

    while compact_some(store, records=100):
        slices += 1
        assert hash_now(store, 0) == expected

    assert slices >= 19
    assert records(store) == (0, 0)
    store.close()


def stored(store: Store) -> list[list[tuple[bytes, bytes]]]:
    """Everything in the index, and every value."""
    environment = store.environment
    return [list(store.txn.cursor(database)) for database in (environment.index, environment.revisions)]


def live_through(store: Store) -> None:
    """Keys that come, go and come again, some of them in one revision, and a compaction in the middle of it."""
    for number in range(120):
        put(store, b"k%d" % (number % 7))
        put(store, b"once %d" % number)
        if number % 5 == 0:
            delete(store, b"k%d" % (number % 7))
        if number % 11 == 0:
            replaced = rpc.RequestOp(request_put=rpc.PutRequest(key=b"k1"))
            emptied = rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=b"k", range_end=b"l"))
            commands.txn(store, rpc.TxnRequest(success=[emptied, replaced]), wanted=False)
    compact(store, store.revision - 40)


def test_slices_of_any_size_leave_the_same(tmp_path: Path) -> None:
    """A version and the one that follows it may be of one slice, or of two; a commit may come between any two slices."""
    left = []
    for size in (1, 2, 7, 64, 100_000):
        (tmp_path / f"{size}").mkdir()
        store = Store(tmp_path / f"{size}", map_bytes=MAP_BYTES)
        live_through(store)
        expected = hash_now(store, 0)
        while compact_some(store, records=size):
            if size > 1:
                store.commit()
        store.commit()
        assert hash_now(store, 0) == expected
        left.append(stored(store))
        store.close()
        Store(tmp_path / f"{size}", map_bytes=MAP_BYTES).close()  # It is read from end to end: index, values, set hash.

    assert all(one == left[0] for one in left[1:])
    assert len(left[0][0]) == len(left[0][1])
    at_or_below = [key for key, packed in left[0][0] if VERSION.unpack(packed)[0] <= store.compact_revision]
    assert len(at_or_below) == len(set(at_or_below)) > 80


def test_large_values_make_a_slice_shorter(tmp_path: Path) -> None:
    store = Store(tmp_path, map_bytes=MAP_BYTES)
    for _ in range(10):
        put(store, b"a", b"v" * (SLICE_BYTES // 2))
    compact(store, store.revision)
    slices = 1

    while compact_some(store, records=100):
        slices += 1

    assert slices == 6
    assert records(store) == (1, 1)
    store.close()


@pytest.mark.parametrize("lacking", [2, 3, 4], ids=["predecessor", "in the middle", "last"])
def test_a_version_that_is_not_where_it_should_be_stops_the_removal(tmp_path: Path, lacking: int) -> None:
    store = Store(tmp_path, map_bytes=MAP_BYTES)
    for _ in range(4):
        put(store, b"a")
    (missing,) = (packed for _, packed in stored(store)[0] if VERSION.unpack(packed)[0] == lacking)
    store.txn.delete(b"a", missing, db=store.environment.index)
    compact(store, 4)

    with pytest.raises(AssertionError):
        compact_some(store, records=100)

    store.close()


def test_freed_pages_are_used_again(tmp_path: Path) -> None:
    """A store that is compacted does not grow without end."""
    store = Store(tmp_path, map_bytes=MAP_BYTES)
    sizes = []
    for _ in range(12):
        for number in range(2000):
            put(store, b"k%d" % (number % 50))
        compact(store, store.revision)
        while compact_some(store, records=500):
            pass
        store.commit()
        sizes.append(store.environment.file_bytes)

    assert sizes[-1] <= 1.5 * sizes[3], sizes
    store.close()


def test_compaction_is_refused_backwards_and_into_the_future(tmp_path: Path) -> None:
    store = Store(tmp_path, map_bytes=MAP_BYTES)
    put(store, b"a")

    with pytest.raises(FutureRevision):
        compact(store, 3)
    with pytest.raises(Compacted):
        compact(store, -1)
    compact(store, 2)
    with pytest.raises(Compacted):
        compact(store, 2)
    store.close()

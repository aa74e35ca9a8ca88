"""History read on from a revision: everything once, in order, whole revisions, in slices of any size."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from raftkv.errors import CorruptionError
from raftkv.mvcc import commands
from raftkv.mvcc.compaction import compact_some
from raftkv.mvcc.history import ChangeReader, ChangeSlice
from raftkv.mvcc.schema import REVISION
from raftkv.mvcc.store import Store
from raftkv.pb import mvcc_pb2, rpc_pb2

Seen = tuple[int, bytes, bool]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path, map_bytes=1 << 20)
    yield store
    store.close()


def put(store: Store, key: bytes, value: bytes = b"v") -> None:
    commands.put(store, rpc_pb2.PutRequest(key=key, value=value), wanted=False)


def delete(store: Store, key: bytes, end: bytes = b"") -> None:
    commands.delete_range(store, rpc_pb2.DeleteRangeRequest(key=key, range_end=end), wanted=False)


def compact(store: Store, revision: int) -> None:
    commands.compact(store, rpc_pb2.CompactionRequest(revision=revision), wanted=False)
    while compact_some(store, records=100):
        pass


def read(store: Store, reader: ChangeReader, records: int = 1000, *, previous: bool = False) -> ChangeSlice:
    return reader.read(store, records=records, size=1 << 20, previous=previous)


def seen(found: ChangeSlice) -> list[Seen]:
    return [(change.revision, change.key, change.is_put) for change in found.changes]


def fill(store: Store) -> list[Seen]:
    put(store, b"a")  # 2
    put(store, b"k" * 300)  # 3
    put(store, b"a", b"again")  # 4
    delete(store, b"a", b"z")  # 5: two keys
    delete(store, b"nothing")
    put(store, b"a")  # 6
    long = b"k" * 300
    return [(2, b"a", True), (3, long, True), (4, b"a", True), (5, b"a", False), (5, long, False), (6, b"a", True)]


@pytest.mark.parametrize("records", [1, 2, 3, 4, 1000])
@pytest.mark.parametrize("start", [1, 3, 5, 6, 7])
def test_every_change_comes_once_and_a_revision_whole(store: Store, records: int, start: int) -> None:
    expected = [change for change in fill(store) if change[0] >= start]
    reader = ChangeReader(start)

    slices = []
    while not slices or slices[-1].through < store.revision:
        slices.append(read(store, reader, records))

    assert [change for one in slices for change in seen(one)] == expected
    for before, after in pairwise(slices):
        assert all(revision > before.through for revision, _, _ in seen(after))
    assert reader.revision == max(7, start)


def test_what_is_written_later_is_found_by_the_next_read(store: Store) -> None:
    reader = ChangeReader(store.revision + 1)
    assert seen(read(store, reader)) == []

    put(store, b"a")

    assert seen(read(store, reader)) == [(2, b"a", True)]
    assert seen(read(store, reader)) == []


def test_a_future_place_is_waited_for(store: Store) -> None:
    reader = ChangeReader(4)
    put(store, b"a")
    assert read(store, reader).through == 3

    put(store, b"b")
    put(store, b"c")
    put(store, b"d")

    assert seen(read(store, reader)) == [(4, b"c", True), (5, b"d", True)]


def test_the_previous_value_is_the_one_before_the_revision(store: Store) -> None:
    fill(store)

    changes = read(store, ChangeReader(1), previous=True).changes

    before = [None if c.previous is None else mvcc_pb2.KeyValue.FromString(c.previous).mod_revision for c in changes]
    assert before == [None, None, 2, 4, 3, None]


def test_a_key_that_is_deleted_and_put_again_by_one_txn_has_no_previous_value_when_it_is_put(store: Store) -> None:
    put(store, b"k", b"old")
    operations = [
        rpc_pb2.RequestOp(request_delete_range=rpc_pb2.DeleteRangeRequest(key=b"k", range_end=b"l")),
        rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=b"k", value=b"new")),
    ]
    commands.txn(store, rpc_pb2.TxnRequest(success=operations), wanted=False)

    deleted, created = read(store, ChangeReader(3), previous=True).changes

    assert deleted.previous is not None
    assert mvcc_pb2.KeyValue.FromString(deleted.previous).value == b"old"
    assert (created.is_put, created.previous) == (True, None)


def test_a_compacted_place_is_reported_and_nothing_is_read(store: Store) -> None:
    fill(store)
    compact(store, 5)

    reader = ChangeReader(4)
    found = read(store, reader)

    assert (found.changes, found.through, found.compact_revision) == ([], 3, 5)
    assert reader.revision == 4


def test_the_compact_revision_itself_may_have_lost_its_deletions_and_says_so(store: Store) -> None:
    fill(store)
    compact(store, 5)

    found = read(store, ChangeReader(5), previous=True)

    assert seen(found) == [(6, b"a", True)]
    assert (found.removed_revision, found.changes[0].previous) == (5, None)


def test_a_damaged_record_is_given_to_nobody(store: Store) -> None:
    put(store, b"a", b"good")
    store.txn.put(REVISION.pack(2, 0), b"\x0a\x01abad", db=store.environment.revisions)

    with pytest.raises(CorruptionError):
        read(store, ChangeReader(1))

"""Ranges read in slices hold still while the store moves on."""

from __future__ import annotations

from pathlib import Path

import pytest

from raftkv.errors import Compacted, FutureRevision
from raftkv.mvcc import commands
from raftkv.mvcc.compaction import compact_some
from raftkv.mvcc.reading import SLICE_BYTES, read_range, read_range_slices
from raftkv.mvcc.store import Store
from raftkv.pb import rpc_pb2 as rpc

RangeRequest = rpc.RangeRequest
ALL = RangeRequest(key=b"\0", range_end=b"\0")


@pytest.fixture
def store(tmp_path: Path):
    store = Store(tmp_path, map_bytes=1 << 24)
    yield store
    store.close()


def put(store: Store, key: bytes, value: bytes = b"v") -> None:
    commands.put(store, rpc.PutRequest(key=key, value=value), wanted=False)


def compact_all(store: Store) -> None:
    commands.compact(store, rpc.CompactionRequest(revision=store.revision), wanted=False)
    while compact_some(store, records=3):
        pass


@pytest.mark.parametrize(
    "request_",
    [
        ALL,
        RangeRequest(key=b"\0", range_end=b"\0", limit=7),
        RangeRequest(key=b"\0", range_end=b"\0", count_only=True),
        RangeRequest(key=b"\0", range_end=b"\0", keys_only=True, sort_target=4, sort_order=2),
        RangeRequest(key=b"k1", range_end=b"k2", sort_order=2, limit=3),
    ],
    ids=["all", "limit", "count", "sorted", "descending"],
)
def test_a_sliced_range_is_of_the_revision_at_which_it_began(store: Store, request_: RangeRequest) -> None:
    """Between slices everything is overwritten, deleted, committed and compacted away: the reader does not notice."""
    for number in range(20):
        put(store, b"k%d" % number, b"%d" % (100 - number))
    expected = rpc.RangeResponse.FromString(read_range(store, request_))

    pieces = []
    for piece in read_range_slices(store, request_, slice_keys=3):
        pieces.append(piece)
        for number in range(25):
            put(store, b"k%d" % number, b"later")
        commands.delete_range(store, rpc.DeleteRangeRequest(key=b"k%d" % len(pieces)), wanted=False)
        compact_all(store)
        store.commit()

    assert rpc.RangeResponse.FromString(b"".join(pieces)) == expected


def test_what_a_reader_needs_is_removed_when_it_has_ended(store: Store) -> None:
    put(store, b"a", b"1")
    put(store, b"b")
    pieces = read_range_slices(store, ALL, slice_keys=1)
    next(pieces)
    put(store, b"a", b"2")

    compact_all(store)
    assert store.removed_revision == 3
    pieces.close()
    compact_all_again = compact_some(store, records=100)

    assert not compact_all_again
    assert store.removed_revision == store.compact_revision == 4


def test_a_reader_that_lost_its_revision_says_so(store: Store) -> None:
    """Not yet begun, it holds nothing back."""
    for number in range(5):
        put(store, b"k%d" % number)
    pieces = read_range_slices(store, ALL, slice_keys=1)
    put(store, b"k1")
    put(store, b"k1")
    compact_all(store)

    with pytest.raises(Compacted):
        list(pieces)


def test_impossible_revisions_are_refused_at_once(store: Store) -> None:
    put(store, b"a")
    put(store, b"a")
    compact_all(store)

    with pytest.raises(FutureRevision):
        read_range_slices(store, RangeRequest(key=b"a", revision=4))
    with pytest.raises(Compacted):
        read_range_slices(store, RangeRequest(key=b"a", revision=2))


def test_large_values_come_in_pieces_of_about_a_megabyte(store: Store) -> None:
    for number in range(10):
        put(store, b"k%d" % number, b"x" * 400_000)

    sizes = [len(piece) for piece in read_range_slices(store, ALL)]

    assert max(sizes) < SLICE_BYTES + 500_000
    assert sum(sizes) > 4_000_000


def test_a_hot_key_is_read_at_any_revision(store: Store) -> None:
    """Its versions have long moved into a tree of their own."""
    for number in range(5000):
        put(store, b"hot", b"%d" % number)

    for revision in (2, 3, 2500, 5000, 5001):
        answer = rpc.RangeResponse.FromString(read_range(store, RangeRequest(key=b"hot", revision=revision)))
        assert answer.kvs[0].value == b"%d" % (revision - 2)
        assert answer.kvs[0].version == revision - 1

"""How much one command may look at and answer: counted alike on every node, and never in the way of what it writes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from raftkv.errors import InvalidArgument, Outcome, ResourceExhausted
from raftkv.mvcc import allowance, commands
from raftkv.mvcc.store import Store
from raftkv.pb import rpc_pb2 as rpc

KEYS = 3_000


@pytest.fixture(params=[True, False], ids=["answered", "not answered"])
def wanted(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Of 3,000 keys of 100 bytes."""
    store = Store(tmp_path, map_bytes=1 << 24)
    for number in range(KEYS):
        store.put(b"k%06d" % number, b"x" * 100, 0)
    store.end_write()
    yield store
    store.close()


def put_op(key: bytes) -> rpc.RequestOp:
    return rpc.RequestOp(request_put=rpc.PutRequest(key=key))


def all_op(**options: bool) -> rpc.RequestOp:
    return rpc.RequestOp(request_range=rpc.RangeRequest(key=b"k", range_end=b"l", **options))


def test_compares_that_look_at_too_much_are_refused_on_every_node(
    store: Store, wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(allowance, "KEYS_MAX", 7_000)
    compare = rpc.Compare(key=b"k", range_end=b"l", target=rpc.Compare.VERSION, version=1)
    revision = store.revision

    commands.txn(store, rpc.TxnRequest(compare=[compare], success=[put_op(b"a")]), wanted=wanted)
    with pytest.raises(InvalidArgument, match="look at more than"):
        commands.txn(store, rpc.TxnRequest(compare=[compare] * 3, success=[put_op(b"a")]), wanted=wanted)
    inner = rpc.RequestOp(request_txn=rpc.TxnRequest(compare=[compare]))
    with pytest.raises(InvalidArgument, match="look at more than"):
        commands.txn(store, rpc.TxnRequest(success=[put_op(b"a"), *[inner] * 3]), wanted=wanted)

    assert store.revision == revision + 1


def test_a_compare_ends_at_the_first_key_that_fails(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allowance, "KEYS_MAX", 1_000)
    compare = rpc.Compare(key=b"k", range_end=b"l", target=rpc.Compare.VERSION, version=2)

    answer = commands.txn(store, rpc.TxnRequest(compare=[compare]), wanted=True)

    assert answer is not None
    assert not answer.succeeded


@pytest.mark.parametrize(
    "operations",
    [
        [all_op(), all_op()],
        [rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=b"k", range_end=b"l", prev_kv=True)), all_op()],
        [rpc.RequestOp(request_txn=rpc.TxnRequest(success=[all_op(), all_op()]))],
    ],
)
def test_what_a_txn_writes_is_written_though_its_answer_is_too_large(
    store: Store, operations: list[rpc.RequestOp], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(allowance, "BYTES_MAX", 300_000)
    request = rpc.TxnRequest(success=[put_op(b"before"), *operations, put_op(b"behind")])
    revision = store.revision

    with pytest.raises(ResourceExhausted) as raised:
        commands.txn(store, request, wanted=True)

    assert raised.value.outcome is Outcome.UNKNOWN
    assert store.revision == revision + 1
    assert store.latest(b"before") is not None
    assert store.latest(b"behind") is not None


def test_counting_is_not_for_free(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allowance, "KEYS_MAX", 10_000)
    counts = [all_op(count_only=True)] * 4

    with pytest.raises(ResourceExhausted):
        commands.txn(store, rpc.TxnRequest(success=counts), wanted=True)
    assert commands.txn(store, rpc.TxnRequest(success=counts[:2]), wanted=True) is not None


def test_a_deletion_whose_answer_is_too_large_deletes(
    store: Store, wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(allowance, "BYTES_MAX", 10_000)
    request = rpc.DeleteRangeRequest(key=b"k", range_end=b"l", prev_kv=True)

    if wanted:
        with pytest.raises(ResourceExhausted):
            commands.delete_range(store, request, wanted=True)
    else:
        assert commands.delete_range(store, request, wanted=False) is None

    assert store.latest(b"k%06d" % 0) is None
    assert store.latest(b"k%06d" % (KEYS - 1)) is None

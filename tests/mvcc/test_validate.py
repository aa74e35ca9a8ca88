"""Request checks that need no state, in etcd's words."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from raftkv.errors import (
    DUPLICATE_KEY,
    INVALID_SORT_OPTION,
    KEY_NOT_FOUND,
    KEY_NOT_PROVIDED,
    KEY_TOO_LONG,
    LEASE_PROVIDED,
    TOO_MANY_OPERATIONS,
    VALUE_PROVIDED,
    InvalidArgument,
)
from raftkv.mvcc.validate import check_command, check_delete_range, check_put, check_range, check_txn
from raftkv.pb import rpc_pb2 as rpc
from raftkv.pb import store_pb2


def refused(check: Callable[..., None], request: object, *arguments: int) -> str | None:
    """The text it is refused with, or None."""
    try:
        check(request, *arguments)
    except InvalidArgument as error:
        return error.message
    return None


def put(key: bytes) -> rpc.RequestOp:
    return rpc.RequestOp(request_put=rpc.PutRequest(key=key))


def delete(key: bytes, range_end: bytes = b"") -> rpc.RequestOp:
    return rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=key, range_end=range_end))


def nested(success: list[rpc.RequestOp], failure: list[rpc.RequestOp]) -> rpc.RequestOp:
    return rpc.RequestOp(request_txn=rpc.TxnRequest(success=success, failure=failure))


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (rpc.PutRequest(), KEY_NOT_PROVIDED),
        (rpc.PutRequest(key=b"a", value=b"v", ignore_value=True), VALUE_PROVIDED),
        (rpc.PutRequest(key=b"a", lease=1, ignore_lease=True), LEASE_PROVIDED),
        (rpc.PutRequest(key=b"a" * 512), KEY_TOO_LONG.format(limit=511)),
        (rpc.PutRequest(key=b"a" * 511), None),
        (rpc.PutRequest(key=b"a", lease=1), None),
    ],
)
def test_put(request_: rpc.PutRequest, text: str | None) -> None:
    assert refused(check_put, request_) == text


def test_range_and_delete() -> None:
    assert refused(check_range, rpc.RangeRequest()) == KEY_NOT_PROVIDED
    assert refused(check_range, rpc.RangeRequest(key=b"a", sort_order=3)) == INVALID_SORT_OPTION
    assert refused(check_range, rpc.RangeRequest(key=b"a", sort_target=5)) == INVALID_SORT_OPTION
    assert refused(check_range, rpc.RangeRequest(key=b"a" * 600, limit=-1, revision=-1)) is None
    assert refused(check_delete_range, rpc.DeleteRangeRequest(range_end=b"b")) == KEY_NOT_PROVIDED
    assert refused(check_delete_range, rpc.DeleteRangeRequest(key=b"a" * 600)) is None


@pytest.mark.parametrize(
    ("operations", "text"),
    [
        ([put(b"a"), put(b"b")], None),
        ([put(b"a"), put(b"a")], DUPLICATE_KEY),
        ([put(b"b"), delete(b"a", b"c")], DUPLICATE_KEY),
        ([put(b"c"), delete(b"a", b"c")], None),
        ([put(b"a"), delete(b"a")], DUPLICATE_KEY),
        ([delete(b"a"), delete(b"a")], None),
        ([put(b"a"), delete(b"a", b"\0")], None),  # etcd does not see this one.
        ([nested([put(b"a")], [put(b"a")])], None),
        ([nested([put(b"a")], []), put(b"a")], DUPLICATE_KEY),
        ([nested([put(b"a")], []), nested([], [put(b"a")])], DUPLICATE_KEY),
        ([nested([delete(b"a", b"z")], []), put(b"b")], DUPLICATE_KEY),
        ([nested([put(b"b")], []), delete(b"a", b"z")], DUPLICATE_KEY),
        ([nested([put(b"a")], [delete(b"a")])], None),
        ([nested([nested([put(b"a")], [])], []), put(b"a")], DUPLICATE_KEY),
        ([rpc.RequestOp()], KEY_NOT_FOUND),
        ([put(b"")], KEY_NOT_PROVIDED),
        ([nested([put(b"k" * 512)], [])], KEY_TOO_LONG.format(limit=511)),
    ],
)
@pytest.mark.parametrize("branch", ["success", "failure"])
def test_txn(operations: list[rpc.RequestOp], text: str | None, branch: str) -> None:
    assert refused(check_txn, rpc.TxnRequest(**{branch: operations})) == text


def test_nested_txns_share_the_allowance_of_operations() -> None:
    puts = [put(b"%d" % number) for number in range(4)]

    assert refused(check_txn, rpc.TxnRequest(success=puts), 4) is None
    assert refused(check_txn, rpc.TxnRequest(success=puts), 3) == TOO_MANY_OPERATIONS
    assert refused(check_txn, rpc.TxnRequest(success=[nested(puts, [])]), 5) is None
    assert refused(check_txn, rpc.TxnRequest(success=[nested(puts, [])]), 4) == TOO_MANY_OPERATIONS
    assert refused(check_txn, rpc.TxnRequest(compare=[rpc.Compare(key=b"a")] * 5), 4) == TOO_MANY_OPERATIONS
    assert refused(check_txn, rpc.TxnRequest(compare=[rpc.Compare()]), 4) == KEY_NOT_PROVIDED


def test_txns_beside_each_other_are_bounded_too() -> None:
    """Each of them has what is left of the allowance: etcd takes any number of those."""
    txns = [nested([put(b"%d/%d" % (number, put_)) for put_ in range(7)], []) for number in range(8)]

    assert refused(check_txn, rpc.TxnRequest(success=txns[:7]), 15) is None
    assert refused(check_txn, rpc.TxnRequest(success=txns), 15) is None
    assert refused(check_txn, rpc.TxnRequest(success=txns[:7], failure=txns), 14) == TOO_MANY_OPERATIONS


def test_a_put_within_a_deleted_range_is_found_among_many() -> None:
    deletes = [delete(b"%05d" % number, b"%05d0" % number) for number in range(0, 100, 2)]
    puts = [put(b"%05d" % number) for number in range(1, 50, 2)]

    assert refused(check_txn, rpc.TxnRequest(success=[*deletes, *puts])) is None
    assert refused(check_txn, rpc.TxnRequest(success=[*deletes, *puts, put(b"00098")])) == DUPLICATE_KEY
    assert refused(check_txn, rpc.TxnRequest(success=[*puts, nested([], deletes), put(b"00002")])) == DUPLICATE_KEY


def test_a_batch_holds_nothing_but_client_operations() -> None:
    assert refused(check_command, store_pb2.Command()) == KEY_NOT_FOUND
    assert refused(check_command, store_pb2.Command(publish=rpc.Member(ID=1))) == KEY_NOT_FOUND
    assert refused(check_command, store_pb2.Command(compaction=rpc.CompactionRequest())) is None
    assert refused(check_command, store_pb2.Command(put=rpc.PutRequest())) == KEY_NOT_PROVIDED
    assert refused(check_command, store_pb2.Command(txn=rpc.TxnRequest(success=[put(b"")]))) == KEY_NOT_PROVIDED

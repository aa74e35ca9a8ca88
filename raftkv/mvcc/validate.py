"""etcd's checks of a request that need no state: exact order, exact texts. Pure functions; the server calls them first.

What may not live here: anything that depends on the store (`commands` checks that when the request is applied).

Source: etcd 3.4 etcdserver/api/v3rpc/key.go.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

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
from raftkv.mvcc.schema import KEY_BYTES_MAX
from raftkv.pb import rpc_pb2, store_pb2

MAX_TXN_OPS = 128
"""etcd's default of --max-txn-ops."""

TXN_OPS_TOTAL = 8
"""Times that, counting compares and operations of all txns nested in each other; etcd has no such bound."""

Interval = tuple[bytes, bytes]
"""The keys a delete covers: [first, last)."""

_SORT_ORDERS = frozenset(rpc_pb2.RangeRequest.SortOrder.values())
_SORT_TARGETS = frozenset(rpc_pb2.RangeRequest.SortTarget.values())


def check_range(request: rpc_pb2.RangeRequest) -> None:
    """Raises: InvalidArgument. An unknown sort option is refused as in etcd 3.5; it crashes 3.4."""
    if not request.key:
        raise InvalidArgument(KEY_NOT_PROVIDED)
    if request.sort_order not in _SORT_ORDERS or request.sort_target not in _SORT_TARGETS:
        raise InvalidArgument(INVALID_SORT_OPTION)


def check_put(request: rpc_pb2.PutRequest) -> None:
    """Raises: InvalidArgument."""
    key = request.key
    if not key:
        raise InvalidArgument(KEY_NOT_PROVIDED)
    if request.ignore_value and request.value:
        raise InvalidArgument(VALUE_PROVIDED)
    if request.ignore_lease and request.lease:
        raise InvalidArgument(LEASE_PROVIDED)
    if len(key) > KEY_BYTES_MAX:
        raise InvalidArgument(KEY_TOO_LONG.format(limit=KEY_BYTES_MAX))


def check_delete_range(request: rpc_pb2.DeleteRangeRequest) -> None:
    """Raises: InvalidArgument."""
    if not request.key:
        raise InvalidArgument(KEY_NOT_PROVIDED)


def check_txn(request: rpc_pb2.TxnRequest, max_txn_ops: int = MAX_TXN_OPS) -> None:
    """Check a txn and everything nested in it, as etcd does.

    The longest of compare, success and failure may have `max_txn_ops` operations; what is left is for nested txns. Beside each
    other these may be many: so there is a bound on all of them, too.

    Raises:
        InvalidArgument: also when a key is put twice, or put and deleted, on one way through the txn.
    """
    if _count(request) > TXN_OPS_TOTAL * max_txn_ops:
        raise InvalidArgument(TOO_MANY_OPERATIONS)
    _check_operations(request, max_txn_ops)
    _changes(request.success)
    _changes(request.failure)


def check_command(command: store_pb2.Command, max_txn_ops: int = MAX_TXN_OPS) -> None:
    """Check one operation of a batch.

    Raises:
        InvalidArgument: also when it holds no operation a client may send.
    """
    match command.WhichOneof("operation"):
        case "put":
            check_put(command.put)
        case "range":
            check_range(command.range)
        case "delete_range":
            check_delete_range(command.delete_range)
        case "txn":
            check_txn(command.txn, max_txn_ops)
        case "compaction":
            pass
        case _:
            raise InvalidArgument(KEY_NOT_FOUND)  # What etcd says to an empty operation in a txn.


def _count(request: rpc_pb2.TxnRequest) -> int:
    """Compares and operations, of nested txns too."""
    total = len(request.compare) + len(request.success) + len(request.failure)
    for operations in (request.success, request.failure):
        for operation in operations:
            if operation.HasField("request_txn"):
                total += _count(operation.request_txn)
    return total


def _check_operations(request: rpc_pb2.TxnRequest, max_txn_ops: int) -> None:
    used = max(len(request.compare), len(request.success), len(request.failure))
    if used > max_txn_ops:
        raise InvalidArgument(TOO_MANY_OPERATIONS)
    if not all(compare.key for compare in request.compare):
        raise InvalidArgument(KEY_NOT_PROVIDED)
    for operations in (request.success, request.failure):
        for operation in operations:
            _check_operation(operation, max_txn_ops - used)


def _check_operation(operation: rpc_pb2.RequestOp, max_txn_ops: int) -> None:
    match operation.WhichOneof("request"):
        case "request_range":
            check_range(operation.request_range)
        case "request_put":
            check_put(operation.request_put)
        case "request_delete_range":
            check_delete_range(operation.request_delete_range)
        case "request_txn":
            _check_operations(operation.request_txn, max_txn_ops)
        case _:
            raise InvalidArgument(KEY_NOT_FOUND)


def _changes(operations: Sequence[rpc_pb2.RequestOp]) -> tuple[set[bytes], list[Interval]]:
    """The keys put and the ranges deleted on a branch; branches that exclude each other may touch the same key.

    etcd does not see an overlap with a delete "from this key on" (range end 0x00), and neither do we.
    """
    deletes = [
        _interval(operation.request_delete_range)
        for operation in operations
        if operation.WhichOneof("request") == "request_delete_range"
    ]
    puts: set[bytes] = set()
    for operation in operations:
        if operation.WhichOneof("request") == "request_txn":
            then_puts, then_deletes = _changes(operation.request_txn.success)
            else_puts, else_deletes = _changes(operation.request_txn.failure)
            _check_puts(then_puts | else_puts, puts, deletes)
            puts |= then_puts | else_puts
            deletes += then_deletes + else_deletes
    own = [operation.request_put.key for operation in operations if operation.WhichOneof("request") == "request_put"]
    if len(set(own)) < len(own):
        raise InvalidArgument(DUPLICATE_KEY)
    _check_puts(set(own), puts, deletes)
    return puts.union(own), deletes


def _check_puts(keys: set[bytes], puts: set[bytes], deletes: list[Interval]) -> None:
    if not keys.isdisjoint(puts):
        raise InvalidArgument(DUPLICATE_KEY)
    ordered = sorted(keys) if deletes else []
    for first, last in deletes:
        position = bisect_left(ordered, first)
        if position < len(ordered) and ordered[position] < last:
            raise InvalidArgument(DUPLICATE_KEY)


def _interval(request: rpc_pb2.DeleteRangeRequest) -> Interval:
    if not request.range_end:
        return request.key, request.key + b"\0"
    return request.key, request.range_end

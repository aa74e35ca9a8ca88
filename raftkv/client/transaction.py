"""Conditions, operations and the builder of transactions.

    kv.txn().when(kv["mode"].value == b"blue").then(kv.op.put("mode", "green")).otherwise(kv.op.get("mode")).commit()

What may not live here: sending; the faces add `commit`.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import index
from typing import Self, SupportsIndex

from raftkv.client import calls
from raftkv.client.calls import Key, Sort, Value, to_bytes
from raftkv.errors import ConfigError
from raftkv.pb import rpc_pb2

_TARGETS = {
    "version": rpc_pb2.Compare.VERSION,
    "create_revision": rpc_pb2.Compare.CREATE,
    "mod_revision": rpc_pb2.Compare.MOD,
    "value": rpc_pb2.Compare.VALUE,
    "lease": rpc_pb2.Compare.LEASE,
}


@dataclass(frozen=True, slots=True)
class Condition:
    """One comparison of a transaction. It has no truth value here: the server compares when the transaction is applied."""

    compare: rpc_pb2.Compare

    def __bool__(self) -> bool:
        raise TypeError("a condition is compared by the server; pass it to when(), one argument per condition")


class Operand:
    """What is compared: one attribute of one key. Comparing it (== != < >) makes a `Condition`."""

    __slots__ = ("_field", "_key")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, key: bytes, field: str) -> None:
        self._key = key
        self._field = field

    def __eq__(self, other: object) -> Condition:  # type: ignore[override]
        return self._compared(rpc_pb2.Compare.EQUAL, other)

    def __ne__(self, other: object) -> Condition:  # type: ignore[override]
        return self._compared(rpc_pb2.Compare.NOT_EQUAL, other)

    def __lt__(self, other: int | Value) -> Condition:
        return self._compared(rpc_pb2.Compare.LESS, other)

    def __gt__(self, other: int | Value) -> Condition:
        return self._compared(rpc_pb2.Compare.GREATER, other)

    def _compared(self, result: rpc_pb2.Compare.CompareResult, other: object) -> Condition:
        compare = rpc_pb2.Compare(result=result, target=_TARGETS[self._field], key=self._key)
        if self._field == "value":
            compare.value = to_bytes(other, "value")
        elif isinstance(other, SupportsIndex):  # An int, or a lease.
            setattr(compare, self._field, index(other))
        else:
            raise TypeError(f"{self._field} is compared with an int, not with {type(other).__name__}")
        return Condition(compare)


class KeyReference:
    """A key in a condition, made by `kv["the/key"]`; reads nothing by itself."""

    __slots__ = ("_key",)

    def __init__(self, key: Key) -> None:
        self._key = to_bytes(key)

    @property
    def value(self) -> Operand:
        """The value. A condition on the value of a key that does not exist never holds, not even `!=`."""
        return Operand(self._key, "value")

    @property
    def version(self) -> Operand:
        """How many puts since the key was created; 0 where it does not exist."""
        return Operand(self._key, "version")

    @property
    def create_revision(self) -> Operand:
        """The revision that created the key; 0 where it does not exist."""
        return Operand(self._key, "create_revision")

    @property
    def mod_revision(self) -> Operand:
        """The revision of the last put; 0 where the key does not exist."""
        return Operand(self._key, "mod_revision")

    @property
    def lease(self) -> Operand:
        """The lease the key hangs on; 0 for none."""
        return Operand(self._key, "lease")

    @property
    def exists(self) -> Condition:
        """The key exists."""
        return self.version > 0

    @property
    def missing(self) -> Condition:
        """The key does not exist."""
        return self.version == 0


@dataclass(frozen=True, slots=True)
class TxnOperation:
    """One operation inside a transaction."""

    op: rpc_pb2.RequestOp


class Operations:
    """Makes the operations of transactions: `kv.op.put(...)`; the arguments are those of the client's own methods."""

    __slots__ = ()

    def put(self, key: Key, value: Value, *, lease: SupportsIndex = 0, previous: bool = False) -> TxnOperation:
        """Answered by a PutResult."""
        request = calls.put_request(key, value, lease=lease, previous=previous)
        return TxnOperation(rpc_pb2.RequestOp(request_put=request))

    def get(self, key: Key) -> TxnOperation:
        """Answered by a RangeResult with one item or none (`.first`)."""
        return TxnOperation(rpc_pb2.RequestOp(request_range=calls.get_request(key)))

    def range(
        self,
        start: Key | None = None,
        end: Key | None = None,
        *,
        prefix: Key | None = None,
        limit: int | None = None,
        sort: Sort = "key",
        descending: bool = False,
        keys_only: bool = False,
    ) -> TxnOperation:
        """Answered by a RangeResult with all items at once."""
        request = calls.range_request(
            start, end, prefix=prefix, limit=limit, sort=sort, descending=descending, keys_only=keys_only
        )
        return TxnOperation(rpc_pb2.RequestOp(request_range=request))

    def delete(
        self, key: Key | None = None, *, prefix: Key | None = None, end: Key | None = None, previous: bool = False
    ) -> TxnOperation:
        """Answered by a DeleteResult."""
        request = calls.delete_request(key, prefix=prefix, end=end, previous=previous)
        return TxnOperation(rpc_pb2.RequestOp(request_delete_range=request))

    def txn(self, transaction: TxnBuilder) -> TxnOperation:
        """A transaction inside a transaction, answered by a TxnResult."""
        return TxnOperation(rpc_pb2.RequestOp(request_txn=transaction.request))


OPERATIONS = Operations()


class TxnBuilder:
    """What a transaction is made of. `when`, `then` and `otherwise` may be called once or often, and add up."""

    def __init__(self) -> None:
        self.request = rpc_pb2.TxnRequest()

    def when(self, *conditions: Condition) -> Self:
        """All conditions have to hold for `then`; without any, `then` is done."""
        for condition in conditions:
            if not isinstance(condition, Condition):
                raise ConfigError(f"when() takes conditions like kv['key'].version == 0, not {condition!r}")
            self.request.compare.append(condition.compare)
        return self

    def then(self, *operations: TxnOperation) -> Self:
        """What is done where all conditions hold."""
        self.request.success.extend(_checked(operations))
        return self

    def otherwise(self, *operations: TxnOperation) -> Self:
        """What is done where a condition does not hold."""
        self.request.failure.extend(_checked(operations))
        return self


def _checked(operations: tuple[TxnOperation, ...]) -> list[rpc_pb2.RequestOp]:
    for operation in operations:
        if not isinstance(operation, TxnOperation):
            raise ConfigError(f"a transaction takes operations like kv.op.put('key', 'value'), not {operation!r}")
    return [operation.op for operation in operations]

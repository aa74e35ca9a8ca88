"""What a write must satisfy before it may enter the log: etcd's checks, sizes, and room on the disk.

Checks that depend on the store's contents belong to the state machine: every replica must come to the same answer.
"""

from __future__ import annotations

from dataclasses import dataclass

from raftkv.errors import NO_SPACE, REQUEST_TOO_LARGE, InvalidArgument, ResourceExhausted
from raftkv.mvcc import validate
from raftkv.node import Node
from raftkv.pb import rpc_pb2, store_pb2

NESTED_TOO_DEEPLY = "etcdserver: txn is nested too deeply"
TXN_NESTING_MAX = 32
"""Levels of txns in txns. Protobuf reads 100 levels of messages; each txn takes two, and answers and log entries wrap them in
more. What could be read but not applied, or applied but not answered, must not get in."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    request_bytes_max: int
    txn_ops_max: int
    quota_bytes: int

    def check(self, command: store_pb2.Command, node: Node) -> None:
        """Raise what etcd answers to a command it does not accept.

        Raises:
            InvalidArgument: the request is malformed or too large.
            ResourceExhausted: the database is over its quota, and the command might add to it.
        """
        if command.HasField("txn") and _nesting(command.txn) > TXN_NESTING_MAX:
            raise InvalidArgument(NESTED_TOO_DEEPLY)
        validate.check_command(command, self.txn_ops_max)
        if command.ByteSize() > self.request_bytes_max:
            raise InvalidArgument(REQUEST_TOO_LARGE)
        if _puts_something(command):
            self.check_room(node)

    def check_room(self, node: Node) -> None:
        """Raises: ResourceExhausted: the database is over its quota, and may not be added to."""
        if node.bytes_in_use > self.quota_bytes:
            raise ResourceExhausted(NO_SPACE)


def _nesting(request: rpc_pb2.TxnRequest) -> int:
    """0 for a txn without a txn in it."""
    return max(
        (
            1 + _nesting(operation.request_txn)
            for branch in (request.success, request.failure)
            for operation in branch
            if operation.HasField("request_txn")
        ),
        default=0,
    )


def _puts_something(command: store_pb2.Command) -> bool:
    return command.HasField("put") or (command.HasField("txn") and _txn_puts(command.txn))


def _txn_puts(request: rpc_pb2.TxnRequest) -> bool:
    """Whether either branch of a transaction, or of one inside it, has a put."""
    return any(
        operation.HasField("request_put") or (operation.HasField("request_txn") and _txn_puts(operation.request_txn))
        for branch in (request.success, request.failure)
        for operation in branch
    )

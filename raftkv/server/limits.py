"""What a write must satisfy before it may enter the log: etcd's checks, sizes, and room on the disk.

Checks that depend on the store's contents belong to the state machine: every replica must come to the same answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from raftkv.errors import CORRUPT, NO_SPACE, REQUEST_TOO_LARGE, DataLoss, InvalidArgument, ResourceExhausted
from raftkv.mvcc import validate
from raftkv.mvcc.commands import is_readonly
from raftkv.node import Node
from raftkv.pb import rpc_pb2, store_pb2
from raftkv.statemachine import Alarms

NESTED_TOO_DEEPLY = "etcdserver: txn is nested too deeply"
TXN_NESTING_MAX = 32
"""Levels of txns in txns. Protobuf reads 100 levels of messages; each txn takes two, and answers and log entries wrap them in
more. What could be read but not applied, or applied but not answered, must not get in."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    request_bytes_max: int
    txn_ops_max: int
    quota_bytes: int
    alarms: Callable[[], Alarms] = tuple
    """Those that are on, as far as this node has applied the log: they tell of all members."""

    def check(self, command: store_pb2.Command, node: Node) -> None:
        """Raise what etcd answers to a command it does not accept.

        Raises:
            InvalidArgument: the request is malformed or too large.
            DataLoss: a member's data differs from the others', and the command writes.
            ResourceExhausted: a member's database is over its quota, and the command might add to it.
        """
        operation = command.WhichOneof("operation")
        is_txn = operation == "txn"
        if is_txn and _nesting(command.txn) > TXN_NESTING_MAX:
            raise InvalidArgument(NESTED_TOO_DEEPLY)
        validate.check_command(command, self.txn_ops_max)
        if command.ByteSize() > self.request_bytes_max:
            raise InvalidArgument(REQUEST_TOO_LARGE)
        if operation == "put" or (is_txn and _txn_puts(command.txn)):
            self.check_room(node)
        elif self.alarms() and not _only_reads(command):
            self.check_sound()

    def check_room(self, node: Node) -> None:
        """Whether the database may be added to.

        This node refuses at once when its own is over its quota; the alarm it then raises (`space`) has the others refuse.

        Raises:
            DataLoss, ResourceExhausted: see `check`.
        """
        alarms = self.alarms()
        if alarms:  # As a rule there is none.
            self.check_sound()
        if node.bytes_in_use > self.quota_bytes or (alarms and self._is_on(rpc_pb2.NOSPACE)):
            raise ResourceExhausted(NO_SPACE)

    def check_sound(self) -> None:
        """Raises DataLoss: a member's data differs from the others', and nothing may be written."""
        if self._is_on(rpc_pb2.CORRUPT):
            raise DataLoss(CORRUPT)

    def _is_on(self, kind: int) -> bool:
        return any(alarm.kind == kind for alarm in self.alarms())


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


def _only_reads(command: store_pb2.Command) -> bool:
    return command.HasField("range") or (command.HasField("txn") and is_readonly(command.txn))


def _txn_puts(request: rpc_pb2.TxnRequest) -> bool:
    """Whether either branch of a transaction, or of one inside it, has a put."""
    return any(
        operation.HasField("request_put") or (operation.HasField("request_txn") and _txn_puts(operation.request_txn))
        for branch in (request.success, request.failure)
        for operation in branch
    )

"""etcd's KV service.

What may not live here: how a command changes the store (`raftkv.mvcc`), and how it gets into the log (`raftkv.node`).
"""

from __future__ import annotations

from typing import Any

from google.protobuf.message import DecodeError, Message

from raftkv.errors import InvalidArgument, Outcome, RequestError, request_error
from raftkv.mvcc import validate
from raftkv.mvcc.commands import is_readonly, is_serializable
from raftkv.node import Node
from raftkv.pb import rpc_pb2, store_pb2
from raftkv.server.limits import NESTED_TOO_DEEPLY, Limits
from raftkv.server.ranges import RangeReading
from raftkv.server.services import Serve, answered, header


class KvService:
    """Range, Put, DeleteRange, Txn, Compact."""

    def __init__(self, node: Node, limits: Limits) -> None:
        self._node = node
        self._limits = limits

    def methods(self) -> dict[str, Serve]:
        return {
            "/etcdserverpb.KV/Range": self.range,
            "/etcdserverpb.KV/Put": self.put,
            "/etcdserverpb.KV/DeleteRange": self.delete_range,
            "/etcdserverpb.KV/Txn": self.txn,
            "/etcdserverpb.KV/Compact": self.compact,
        }

    async def range(self, request: rpc_pb2.RangeRequest, hold_s: float) -> Any:
        validate.check_range(request)
        read = self._node.read_local if request.serializable else self._node.read
        reading = await read(lambda machine: RangeReading(machine, request), timeout_s=hold_s)
        response = await reading.finish(self._node, hold_s)
        # Protobuf merges what is concatenated: the answer was never parsed on its way from the disk.
        return response + rpc_pb2.RangeResponse(header=header(self._node, 0)).SerializeToString()

    async def put(self, request: rpc_pb2.PutRequest, hold_s: float) -> Any:
        return await self._submit(self._checked(put=request), hold_s)

    async def delete_range(self, request: rpc_pb2.DeleteRangeRequest, hold_s: float) -> Any:
        return await self._submit(self._checked(delete_range=request), hold_s)

    async def txn(self, request: rpc_pb2.TxnRequest, hold_s: float) -> Any:
        commands = self._checked(txn=request)
        if is_readonly(request):
            read = self._node.read_local if is_serializable(request) else self._node.read
            return answered(self._node, await read(lambda machine: machine.read_txn(request), timeout_s=hold_s))
        return await self._submit(commands, hold_s)

    async def compact(self, request: rpc_pb2.CompactionRequest, hold_s: float) -> Any:
        """With `physical`, the answer comes when this node has removed what was compacted.

        If it cannot wait for that, the outcome is unknown to the client: compacted it is, removed perhaps not.
        """
        response = await self._submit(self._checked(compaction=request), hold_s)
        if request.physical:
            try:
                await self._node.compacted(timeout_s=hold_s)
            except RequestError as error:
                raise request_error(error.code, error.message, outcome=Outcome.UNKNOWN) from None
        return response

    def _checked(self, **operation: Message) -> bytes:
        """The operation as the log will hold it.

        Raises:
            InvalidArgument: malformed, too large, or nested too deeply even to be wrapped in a command.
            ResourceExhausted: no room.
        """
        try:
            command = store_pb2.Command(**operation)  # type: ignore[arg-type]  # One of the fields of its oneof.
        except DecodeError:
            raise InvalidArgument(NESTED_TOO_DEEPLY) from None
        self._limits.check(command, self._node)
        return store_pb2.BatchRequest(commands=(command,)).SerializeToString()

    async def _submit(self, commands: bytes, hold_s: float) -> Any:
        (answer,) = await self._node.submit(commands, 1, timeout_s=hold_s)
        return answered(self._node, answer)

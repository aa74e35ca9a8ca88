"""The API over plain gRPC, for raftkv and etcd alike: any RPC by its service and name, answers and errors as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import Message

from raftkv.pb import rpc_pb2
from raftkv.pb.services import methods

CALL_S = 10.0
OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


@dataclass(frozen=True)
class Failed:
    """How a call failed."""

    code: str
    text: str
    outcome: str | None = None
    """What raftkv says became of the write; etcd does not say."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Failed) and (self.code, self.text) == (other.code, other.text)

    def __hash__(self) -> int:
        return hash((self.code, self.text))


class Api:
    """One server."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.channel = grpc.insecure_channel(endpoint, options=OPTIONS)

    def close(self) -> None:
        self.channel.close()

    def call(
        self,
        service: str,
        name: str,
        request: Message | bytes,
        *,
        timeout_s: float = CALL_S,
        metadata: tuple[tuple[str, str], ...] = (),
    ) -> Any:
        """The response, or `Failed`. A request may be given as raw bytes, whatever they mean."""
        method = methods()[service][name]
        rpc = self.channel.unary_unary(
            method.path,
            request_serializer=lambda message: message if isinstance(message, bytes) else message.SerializeToString(),
            response_deserializer=method.response_type.FromString,
        )
        try:
            return rpc(request, timeout=timeout_s, metadata=metadata, wait_for_ready=True)
        except grpc.RpcError as error:
            trailing = dict(error.trailing_metadata() or ())
            return Failed(error.code().name, str(error.details()), trailing.get("raftkv-outcome"))

    def kv(self, request: Message, **options: Any) -> Any:
        """A request of the KV service: the type says which RPC."""
        return self.call("etcdserverpb.KV", KV_NAMES[type(request)], request, **options)

    def put(self, key: bytes, value: bytes, **options: Any) -> Any:
        return self.kv(rpc_pb2.PutRequest(key=key, value=value), **options)

    def get(self, key: bytes, **options: Any) -> Any:
        return self.kv(rpc_pb2.RangeRequest(key=key), **options)


KV_NAMES: dict[type[Message], str] = {
    rpc_pb2.RangeRequest: "Range",
    rpc_pb2.PutRequest: "Put",
    rpc_pb2.DeleteRangeRequest: "DeleteRange",
    rpc_pb2.TxnRequest: "Txn",
    rpc_pb2.CompactionRequest: "Compact",
}

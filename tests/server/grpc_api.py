"""The API over plain gRPC, for raftkv and etcd alike: any RPC by its service and name, answers and errors as values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import Message

from raftkv.errors import Code
from raftkv.pb import rpc_pb2, store_pb2
from raftkv.pb.services import methods
from raftkv.server.batch_stream import BATCHES_PATH

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

    def call(self, service: str, name: str, request: Message | bytes, **options: Any) -> Any:
        """The response, or `Failed`. A request may be given as raw bytes, whatever they mean."""
        return self.begin(service, name, request, **options)()

    def begin(
        self,
        service: str,
        name: str,
        request: Message | bytes,
        *,
        timeout_s: float = CALL_S,
        metadata: tuple[tuple[str, str], ...] = (),
    ) -> Callable[[], Any]:
        """As `call`, on its way when this returns: before all that is begun after it. Call the result for what `call` returns."""
        method = methods()[service][name]
        rpc = self.channel.unary_unary(
            method.path,
            request_serializer=lambda message: message if isinstance(message, bytes) else message.SerializeToString(),
            response_deserializer=method.response_type.FromString,
        )
        under_way = rpc.future(request, timeout=timeout_s, metadata=metadata, wait_for_ready=True)

        def answer() -> Any:
            try:
                return under_way.result()
            except grpc.RpcError as error:
                return _failed(error)

        return answer

    def batch(self, request: Message | bytes, *, timeout_s: float = CALL_S) -> Any:
        """The response to one batch, on a stream of its own, or `Failed`: the batch or the stream."""
        batch = request if isinstance(request, bytes) else request.SerializeToString()
        frame = store_pb2.NumberedRequest(number=1, hold_ms=int(timeout_s * 1000), batch=batch)
        stream = self.channel.stream_stream(BATCHES_PATH)
        try:
            _, raw = stream(iter((frame.SerializeToString(),)), timeout=timeout_s, wait_for_ready=True)
        except grpc.RpcError as error:
            return _failed(error)
        answer = store_pb2.NumberedResponse.FromString(raw)
        assert answer.number == 1
        if answer.WhichOneof("result") == "response":
            return store_pb2.BatchResponse.FromString(answer.response)
        not_applied = answer.failure.outcome == store_pb2.Failure.NOT_APPLIED
        outcome = "not-applied" if not_applied else "unknown"
        return Failed(Code(answer.failure.code).name, answer.failure.message, outcome)

    def kv(self, request: Message, **options: Any) -> Any:
        """A request of the KV service: the type says which RPC."""
        return self.call("etcdserverpb.KV", KV_NAMES[type(request)], request, **options)

    def put(self, key: bytes, value: bytes, **options: Any) -> Any:
        return self.kv(rpc_pb2.PutRequest(key=key, value=value), **options)

    def get(self, key: bytes, **options: Any) -> Any:
        return self.kv(rpc_pb2.RangeRequest(key=key), **options)


def _failed(error: Any) -> Failed:
    trailing = dict(error.trailing_metadata() or ())
    return Failed(error.code().name, str(error.details()), trailing.get("raftkv-outcome"))


KV_NAMES: dict[type[Message], str] = {
    rpc_pb2.RangeRequest: "Range",
    rpc_pb2.PutRequest: "Put",
    rpc_pb2.DeleteRangeRequest: "DeleteRange",
    rpc_pb2.TxnRequest: "Txn",
    rpc_pb2.CompactionRequest: "Compact",
}

"""HashKV between peers: the leader asks each member for the hash of its data, to compare them.

What may not live here: what the answers mean (`raftkv.server.corruption`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from raftkv.errors import Outcome, RequestError, Unavailable, request_error
from raftkv.pb import rpc_pb2
from raftkv.transport.channel import CHANNEL_OPTIONS

HASH_PATH = "/raftkv.peer.Peer/HashKV"
HASH_WAIT_S = 60.0
"""For a leader that gave no deadline."""

HashKV = Callable[[rpc_pb2.HashKVRequest, float], Awaitable[rpc_pb2.HashKVResponse]]
_STATUS = {code.value[0]: code for code in grpc.StatusCode}


async def ask_for_hash(address: str, revision: int, *, timeout_s: float) -> rpc_pb2.HashKVResponse:
    """The hash of the member at `host:port`; who that is stands in the header.

    Raises:
        RequestError: its refusal, or no answer.
    """
    async with grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
        call = channel.unary_unary(
            HASH_PATH,
            request_serializer=rpc_pb2.HashKVRequest.SerializeToString,
            response_deserializer=rpc_pb2.HashKVResponse.FromString,
        )
        try:
            response = await call(rpc_pb2.HashKVRequest(revision=revision), timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            raise request_error(error.code().value[0], error.details() or error.code().name) from None
    if not isinstance(response, rpc_pb2.HashKVResponse):
        raise Unavailable(f"{address}: its answer cannot be read", outcome=Outcome.NOT_APPLIED)
    return response


def hash_handlers(hash_kv: HashKV) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
    """The other end, by path."""

    async def serve(request: rpc_pb2.HashKVRequest, context: Any) -> rpc_pb2.HashKVResponse:
        remaining_s = context.time_remaining()
        try:
            return await hash_kv(request, HASH_WAIT_S if remaining_s is None else remaining_s)
        except RequestError as error:
            await context.abort(_STATUS.get(int(error.code), grpc.StatusCode.UNKNOWN), error.message)
            raise

    return {
        HASH_PATH: grpc.unary_unary_rpc_method_handler(
            serve,
            request_deserializer=rpc_pb2.HashKVRequest.FromString,
            response_serializer=rpc_pb2.HashKVResponse.SerializeToString,
        )
    }

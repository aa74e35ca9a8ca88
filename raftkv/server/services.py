"""How a service's methods are served: found by their path, given a deadline, their errors turned into statuses.

What may not live here: what any method does.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from types import MappingProxyType
from typing import Any, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from raftkv.errors import (
    NO_LEADER,
    TIMED_OUT,
    Code,
    DeadlineExceeded,
    Outcome,
    RequestError,
    Unavailable,
    Unimplemented,
)
from raftkv.node import Node
from raftkv.pb import rpc_pb2
from raftkv.pb.services import methods
from raftkv.server.front import remaining_s

log = logging.getLogger("raftkv.server")

OUTCOME_KEY = "raftkv-outcome"
HOLD_MARGIN_S = 0.02
"""How much before the client's deadline a held request is answered, so that the answer still arrives."""

STALLED_S = 30.0
"""A client that takes nothing of a long answer for this time has gone, as far as we are concerned."""

_M = TypeVar("_M", bound=Message)

Serve = Callable[[Any, float], Awaitable[Any]]
"""A method: takes the request and how long it may be held, in seconds; returns the response or raises RequestError."""
ServeStream = Callable[[AsyncIterator[bytes], Any], Awaitable[None]]
"""A method with streams both ways: takes serialized requests and gRPC's context, to which it writes serialized responses."""
ServeMany = Callable[[Any], AsyncGenerator[Any, None]]
"""A method with many responses to one request: yields them. It is closed when the client has gone, or takes none any more."""

_STATUS = {code.value[0]: code for code in grpc.StatusCode}


def outcome_text(outcome: Outcome) -> str:
    return "not-applied" if outcome is Outcome.NOT_APPLIED else "unknown"


class Services(grpc.GenericRpcHandler):
    """Every RPC of the proto files: those in `serve` by its function, the rest answered UNIMPLEMENTED.

    Args:
        serve: path to function.
        streams: path to function, of the methods that stream both ways.
        many: path to function, of the methods with many responses.
        patient: paths of methods that wait for others: without a deadline, for as long as their caller does.
        hold_s: how long a request without a deadline is held.
    """

    def __init__(
        self,
        node: Node,
        serve: Mapping[str, Serve],
        *,
        streams: Mapping[str, ServeStream] = MappingProxyType({}),
        many: Mapping[str, ServeMany] = MappingProxyType({}),
        patient: frozenset[str] = frozenset(),
        hold_s: float,
    ) -> None:
        self._node = node
        self._handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
        for service in methods().values():
            for method in service.values():
                if method.path in serve:
                    hold_at_most_s = math.inf if method.path in patient else hold_s
                    self._handlers[method.path] = grpc.unary_unary_rpc_method_handler(
                        self._unary(serve[method.path], method.request_type.FromString, hold_at_most_s),
                        response_serializer=_serialize,
                    )
                elif method.path in streams:
                    self._handlers[method.path] = grpc.stream_stream_rpc_method_handler(streams[method.path])
                elif method.path in many:
                    self._handlers[method.path] = grpc.unary_stream_rpc_method_handler(
                        self._many(many[method.path], method.request_type.FromString), response_serializer=_serialize
                    )
        missing = {*serve, *streams, *many} - set(self._handlers)
        assert not missing, f"no such RPC: {sorted(missing)}"

    @property
    def handlers(self) -> Mapping[str, grpc.RpcMethodHandler[Any, Any]]:
        """Path to handler, of the methods that are there."""
        return self._handlers

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        handler = self._handlers.get(handler_call_details.method)
        if handler is None and handler_call_details.method.startswith(
            ("/etcdserverpb.", "/v3lockpb.", "/v3electionpb.")
        ):
            return grpc.stream_stream_rpc_method_handler(_unimplemented)
        return handler

    def _unary(
        self, serve: Serve, parse: Callable[[bytes], Message], default_hold_s: float
    ) -> Callable[[Any, Any], Awaitable[Any]]:
        async def handle(raw: bytes, context: Any) -> Any:
            left_s = remaining_s(context)
            hold_s = default_hold_s if left_s is None else max(0.0, left_s - HOLD_MARGIN_S)
            try:
                self._check_leader(context)
                return await serve(parsed(parse, raw), hold_s)
            except RequestError as error:
                await abort(context, error)

        return handle

    def _many(self, serve: ServeMany, parse: Callable[[bytes], Message]) -> Callable[[Any, Any], Awaitable[None]]:
        async def handle(raw: bytes, context: Any) -> None:
            try:
                self._check_leader(context)
                async with aclosing(serve(parsed(parse, raw))) as responses:
                    async for response in responses:
                        async with asyncio.timeout(STALLED_S):
                            await context.write(response)
                        # To a client that has gone pygrpc-native writes at once and says nothing: the loop has to hear of it.
                        await asyncio.sleep(0)
            except TimeoutError:
                await abort(context, DeadlineExceeded(TIMED_OUT, outcome=Outcome.NOT_APPLIED))
            except RequestError as error:
                await abort(context, error)

        return handle

    def _check_leader(self, context: Any) -> None:
        if requires_leader(context) and not self._node.raft.leader:
            raise Unavailable(NO_LEADER, outcome=Outcome.NOT_APPLIED)


def parsed(parse: Callable[[bytes], _M], raw: bytes) -> _M:
    """A request from its bytes. Done here, not by gRPC, which would answer with the name of a Python exception.

    Fields that it does not know are left out: what they hold may be nested so deep that it cannot be parsed any more as a part
    of a log entry, and an entry that cannot be parsed stops every node.

    Raises:
        RequestError: these are not the bytes of such a message; code and text are those of gRPC for Go.
    """
    try:
        message = parse(raw)
    except DecodeError as error:
        raise RequestError(f"grpc: error unmarshalling request: {error}", code=Code.INTERNAL) from None
    message.DiscardUnknownFields()
    return message


async def abort(context: Any, error: RequestError) -> None:
    """End the call with etcd's status and text, and what became of a write."""
    trailing = ((OUTCOME_KEY, outcome_text(error.outcome)),)
    await context.abort(_STATUS.get(int(error.code), grpc.StatusCode.UNKNOWN), error.message, trailing)


def header(node: Node, revision: int) -> rpc_pb2.ResponseHeader:
    """The header that every response carries."""
    return rpc_pb2.ResponseHeader(
        cluster_id=node.cluster_id, member_id=node.raft.node_id, revision=revision, raft_term=node.raft.term
    )


def answered(node: Node, response: Any) -> Any:
    """Complete a response of the state machine, which knows its revision only. A RequestError is raised."""
    if isinstance(response, RequestError):
        raise response
    response.header.CopyFrom(header(node, response.header.revision))
    return response


def requires_leader(context: Any) -> bool:
    """Whether the client said it would rather fail than wait: etcd's `WithRequireLeader`."""
    return ("hasleader", "true") in (context.invocation_metadata() or ())


def _serialize(response: Message | bytes) -> bytes:
    return response if isinstance(response, bytes) else response.SerializeToString()


async def _unimplemented(_requests: Any, context: Any) -> None:
    await abort(context, Unimplemented("etcdserver: not implemented by this version of raftkv"))


assert all(code.value in _STATUS for code in Code), "a code that gRPC does not have"

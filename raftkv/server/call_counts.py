"""How many calls each method had and how they ended: what etcd's interceptor counts for `grpc_server_*_total`.

The handlers of all services are wrapped once, whatever they are; a call costs a few additions. A node without a port for
metrics has none of this.

What may not live here: how the counts are shown (`raftkv.metrics`).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc

from raftkv.pb.services import Method, methods
from raftkv.server.services import Services

_CODES = {code.value[0]: code for code in grpc.StatusCode}


@dataclass(slots=True)
class MethodCounts:
    """Since the start, of one method."""

    started: int = 0
    received: int = 0
    sent: int = 0
    handled: Counter[grpc.StatusCode] = field(default_factory=Counter)


class CountedCalls(grpc.GenericRpcHandler):
    """The same handlers, with their calls counted."""

    def __init__(self, services: Services) -> None:
        self.uncounted = services
        """For callers that are not to be counted."""
        self._known: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
        self._methods = {method.path: method for service in methods().values() for method in service.values()}
        self.counts: dict[str, MethodCounts] = {path: MethodCounts() for path in self._methods}
        """By path, of every method there is."""

    def method(self, path: str) -> Method:
        return self._methods[path]

    @property
    def handlers(self) -> Mapping[str, grpc.RpcMethodHandler[Any, Any]]:
        """Path to handler, as of `Services`."""
        for path, handler in self.uncounted.handlers.items():
            self._known.setdefault(path, _counted(handler, self.counts[path]))
        return {path: self._known[path] for path in self.uncounted.handlers}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        path = handler_call_details.method
        known = self._known.get(path)
        if known is not None:
            return known
        handler = self.uncounted.service(handler_call_details)
        if handler is None or path not in self.counts:
            return handler
        counted = self._known[path] = _counted(handler, self.counts[path])
        return counted


def _counted(handler: Any, counts: MethodCounts) -> grpc.RpcMethodHandler[Any, Any]:
    """A handler that counts and then does what `handler` does."""
    if handler.unary_unary is not None and not handler.request_streaming and not handler.response_streaming:
        make, behaviour = grpc.unary_unary_rpc_method_handler, _unary(handler.unary_unary, counts)
    elif handler.unary_stream is not None:
        make, behaviour = grpc.unary_stream_rpc_method_handler, _streamed(handler.unary_stream, counts)
    elif handler.stream_unary is not None:
        make, behaviour = grpc.stream_unary_rpc_method_handler, _unary(handler.stream_unary, counts)
    else:
        make, behaviour = grpc.stream_stream_rpc_method_handler, _streamed(handler.stream_stream, counts)
    counted: grpc.RpcMethodHandler[Any, Any] = make(
        behaviour, request_deserializer=handler.request_deserializer, response_serializer=handler.response_serializer
    )
    return counted


def _unary(behaviour: Any, counts: MethodCounts) -> Any:
    """One answer, returned."""

    async def call(request: Any, context: Any) -> Any:
        counts.started += 1
        try:
            response = await behaviour(_received(request, counts), context)
        except BaseException as error:
            counts.handled[_ended_with(context, error)] += 1
            raise
        counts.sent += 1
        counts.handled[grpc.StatusCode.OK] += 1
        return response

    return call


def _streamed(behaviour: Any, counts: MethodCounts) -> Any:
    """Any number of answers, written to the call or yielded."""

    async def call(request: Any, context: Any) -> None:
        counts.started += 1
        writer = _CountingCall(context, counts)
        try:
            result = behaviour(_received(request, counts), writer)
            if hasattr(result, "__aiter__"):
                async for response in result:
                    await writer.write(response)
            elif (response := await result) is not None:
                await writer.write(response)
        except BaseException as error:
            counts.handled[_ended_with(context, error)] += 1
            raise
        counts.handled[grpc.StatusCode.OK] += 1

    return call


def _received(request: Any, counts: MethodCounts) -> Any:
    if hasattr(request, "__aiter__"):
        return _each_received(request, counts)
    counts.received += 1
    return request


async def _each_received(requests: AsyncIterator[Any], counts: MethodCounts) -> AsyncIterator[Any]:
    async for request in requests:
        counts.received += 1
        yield request


class _CountingCall:
    """A call whose written responses are counted; in all else the call itself."""

    def __init__(self, call: Any, counts: MethodCounts) -> None:
        self._call = call
        self._counts = counts

    async def write(self, response: Any) -> None:
        await self._call.write(response)
        self._counts.sent += 1

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)


def _ended_with(context: Any, error: BaseException) -> grpc.StatusCode:
    """The status the call was ended with. Without one, its client gave it up, or a bug ended it."""
    code = context.code()
    if isinstance(code, grpc.StatusCode):
        return code
    if code:
        return _CODES.get(code, grpc.StatusCode.UNKNOWN)
    return grpc.StatusCode.CANCELLED if isinstance(error, asyncio.CancelledError) else grpc.StatusCode.UNKNOWN

"""One RPC over HTTP: a request out of JSON, the handler that gRPC would have called, its answers in JSON.

A stream's answers are lines, `{"result": …}`; its headers go out with the first of them, so what fails before that has an HTTP
status, and what fails later is a last line, `{"error": …}`.

What may not live here: paths (`routes`), sockets (`door`), what any method does.

Source: grpc-gateway 1.9 as etcd 3.4 uses it, and its answers (tests/gateway).
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeVar

import grpc
from aiohttp import web
from google.protobuf.message import Message

from raftkv.errors import Code, RequestError, request_error
from raftkv.gateway.body import LONG_BYTES, Body, TooLarge
from raftkv.gateway.call import Aborted, JsonCall, Metadata
from raftkv.gateway.go_json import Malformed, next_value
from raftkv.gateway.messages import read_message, to_json
from raftkv.pb.services import Method

T = TypeVar("T")
AddHeaders = Callable[[web.StreamResponse], None]

JSON_TYPE = "application/json"
DEADLINE_EXCEEDED = "context deadline exceeded"
_PASSED_ON = {"Grpc-Metadata-Content-Type": "application/grpc"}
_TIMEOUT = re.compile(r"([0-9]+)([HMSmun])")
_TIMEOUT_UNITS_S = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_METADATA_PREFIX = "grpc-metadata-"

HTTP_STATUS = {
    Code.CANCELLED: HTTPStatus.REQUEST_TIMEOUT,
    Code.UNKNOWN: HTTPStatus.INTERNAL_SERVER_ERROR,
    Code.INVALID_ARGUMENT: HTTPStatus.BAD_REQUEST,
    Code.DEADLINE_EXCEEDED: HTTPStatus.GATEWAY_TIMEOUT,
    Code.NOT_FOUND: HTTPStatus.NOT_FOUND,
    Code.ALREADY_EXISTS: HTTPStatus.CONFLICT,
    Code.PERMISSION_DENIED: HTTPStatus.FORBIDDEN,
    Code.RESOURCE_EXHAUSTED: HTTPStatus.TOO_MANY_REQUESTS,
    Code.FAILED_PRECONDITION: HTTPStatus.PRECONDITION_FAILED,
    Code.ABORTED: HTTPStatus.CONFLICT,
    Code.OUT_OF_RANGE: HTTPStatus.BAD_REQUEST,
    Code.UNIMPLEMENTED: HTTPStatus.NOT_IMPLEMENTED,
    Code.INTERNAL: HTTPStatus.INTERNAL_SERVER_ERROR,
    Code.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    Code.DATA_LOSS: HTTPStatus.INTERNAL_SERVER_ERROR,
    Code.UNAUTHENTICATED: HTTPStatus.UNAUTHORIZED,
}


@dataclass(frozen=True)
class _Details(grpc.HandlerCallDetails):
    method: str
    invocation_metadata: Metadata = ()


class MalformedRequest(RequestError):
    """What came is no request of this method."""


class Rpcs:
    """Carries out RPCs.

    Args:
        handlers: finds a method's handler by its path, as for the gRPC server.
        request_bytes_max: a larger request message is refused as gRPC refuses it.
    """

    def __init__(self, handlers: grpc.GenericRpcHandler, *, request_bytes_max: int) -> None:
        self._handlers = handlers
        self._request_bytes_max = request_bytes_max

    async def serve(self, request: web.BaseRequest, method: Method, *, add_headers: AddHeaders) -> web.StreamResponse:
        """Answer an HTTP request with an RPC. `add_headers` is for a stream's response, just before its headers go out."""
        answer = _Answer(request, method, add_headers)
        handler = self._handlers.service(_Details(method.path))
        assert handler is not None, f"{method.path} is not even refused"
        try:
            timeout_s = _timeout_s(request.headers.get("Grpc-Timeout"))
            async with asyncio.timeout(timeout_s) as limit:
                call = JsonCall(_metadata(request), deadline=limit.when(), peer=_peer(request), send=answer.send)
                try:
                    await self._call(handler, call, Body(request, self._request_bytes_max), answer)
                except Aborted:
                    raise _error_of(call) from None
        except RequestError as error:
            return await answer.fail(error.code, error.message)
        except TimeoutError:
            return await answer.fail(Code.DEADLINE_EXCEEDED, DEADLINE_EXCEEDED)
        return await answer.end()

    async def _call(self, handler: Any, call: JsonCall, body: Body, answer: _Answer) -> None:
        """Call the method as gRPC would: it may return its answer, write its answers, or be a generator of them."""
        method = answer.method
        first = await self._next(method, body)
        if first is None and not method.client_streaming:
            first = b""  # As by etcd, no request is an empty one.
        if handler.request_streaming:
            given: Any = self._requests(method, body, first)
            behaviour = handler.stream_stream or handler.stream_unary
        else:
            given = first if handler.request_deserializer is None else handler.request_deserializer(first)
            behaviour = handler.unary_stream or handler.unary_unary
        result = behaviour(given, call)
        if hasattr(result, "__aiter__"):
            async for response in result:
                await answer.send(response)
        elif (response := await result) is not None:
            await answer.send(response)

    async def _requests(self, method: Method, body: Body, first: bytes | None) -> AsyncIterator[bytes]:
        """The requests of a stream. One that is malformed, but not the first, ends them, and nobody is told: as by etcd."""
        raw = first
        while raw is not None:
            yield raw
            if not method.client_streaming:
                return  # The one it has; what stands behind it does not matter.
            try:
                raw = await self._next(method, body)
            except MalformedRequest:
                return

    async def _next(self, method: Method, body: Body) -> bytes | None:
        """The next request in a body, serialized; None: there is no other.

        Raises:
            MalformedRequest: that is none; the text is etcd's.
            TooLarge
        """
        try:
            raw = await body.next(lambda text, start: _parse(method, text, start))
        except Malformed as error:
            # grpc-gateway reads a stream's requests beside the call, and the mistake then has no code of gRPC's.
            raise MalformedRequest(
                str(error), code=Code.UNKNOWN if method.client_streaming else Code.INVALID_ARGUMENT
            ) from None
        if raw is not None and len(raw) > self._request_bytes_max:
            raise TooLarge(len(raw), self._request_bytes_max)
        return raw


async def ask(handlers: grpc.GenericRpcHandler, path: str, request: Message, *, timeout_s: float) -> bytes:
    """Call a unary method from within; its answer, serialized.

    Raises:
        RequestError: what it answers else.
    """
    handler: Any = handlers.service(_Details(path))
    assert handler is not None, f"{path} is not even refused"

    async def send(_response: Any) -> None:
        raise AssertionError(f"{path} answers with a stream")

    deadline = asyncio.get_running_loop().time() + timeout_s
    call = JsonCall((), deadline=deadline, peer="http:probe", send=send)
    raw = request.SerializeToString()
    try:
        if handler.unary_unary is None:
            raw_answer = await handler.stream_stream(_once(raw), call)
        else:
            raw_answer = await handler.unary_unary(raw, call)
    except Aborted:
        raise _error_of(call) from None
    return raw_answer if isinstance(raw_answer, bytes) else raw_answer.SerializeToString()


async def _once(request: bytes) -> AsyncIterator[bytes]:
    yield request


def _error_of(call: JsonCall) -> RequestError:
    code = call.code()
    assert code is not None, "aborted without a code"
    return request_error(code.value[0], call.details())


class _Answer:
    """What goes back: one JSON value, or a line for each message of a stream."""

    def __init__(self, request: web.BaseRequest, method: Method, add_headers: AddHeaders) -> None:
        self.method = method
        self._request = request
        self._add_headers = add_headers
        self._stream: web.StreamResponse | None = None
        self._body: str | None = None

    async def send(self, response: Message | bytes) -> None:
        """One answer."""
        size = len(response) if isinstance(response, bytes) else response.ByteSize()
        text = await _off_loop_if(size > LONG_BYTES, lambda: to_json(self._message(response)))
        if not self.method.server_streaming:
            assert self._body is None, f"{self.method.path} has answered already"
            self._body = text
            return
        if self._stream is None:
            self._stream = web.StreamResponse(headers={"Content-Type": JSON_TYPE, **_PASSED_ON})
            self._add_headers(self._stream)
            await self._stream.prepare(self._request)
        try:
            await self._stream.write(f'{{"result":{text}}}\n'.encode())
        except ConnectionError:
            raise asyncio.CancelledError from None  # The client has gone, which ends the call in the same way.

    def _message(self, response: Message | bytes) -> Message:
        return self.method.response_type.FromString(response) if isinstance(response, bytes) else response

    async def end(self) -> web.StreamResponse:
        """All is answered."""
        if self._stream is not None:
            await self._stream.write_eof()
            return self._stream
        headers = _PASSED_ON if self._body is not None else {}
        return _whole(self._body or "", HTTPStatus.OK, headers)

    async def fail(self, code: Code, message: str) -> web.StreamResponse:
        """It came to an error, perhaps after some answers of a stream."""
        status = HTTP_STATUS[code]
        if self._stream is not None:
            error = {
                "grpc_code": code.value,
                "http_code": status.value,
                "message": message,
                "http_status": status.phrase,
            }
            await self._stream.write(_compact({"error": error}).encode() + b"\n")
            await self._stream.write_eof()
            return self._stream
        text = _compact({"error": message, "message": message, "code": code.value})
        return _whole(text, status, {})


def _whole(text: str, status: HTTPStatus, headers: Mapping[str, str]) -> web.Response:
    return web.Response(body=text.encode(), status=status.value, headers={"Content-Type": JSON_TYPE, **headers})


def _parse(method: Method, text: str, start: int) -> tuple[bytes, int] | None:
    found = next_value(text, start)
    if found is None:
        return None
    value, end = found
    message = method.request_type()
    read_message(message, value)
    return message.SerializeToString(), end


async def _off_loop_if(is_long: bool, work: Callable[[], T]) -> T:
    return await asyncio.to_thread(work) if is_long else work()


def _metadata(request: web.BaseRequest) -> Metadata:
    """What grpc-gateway passes on of the headers: `Authorization`, and `Grpc-Metadata-X` as `x`."""
    found = []
    for name, value in request.headers.items():
        lower = name.lower()
        if lower == "authorization":
            found.append((lower, value))
        elif lower.startswith(_METADATA_PREFIX):
            found.append((lower.removeprefix(_METADATA_PREFIX), value))
    return tuple(found)


def _timeout_s(text: str | None) -> float | None:
    """Raises RequestError: not a number and a unit, as gRPC has them."""
    if text is None:
        return None
    found = _TIMEOUT.fullmatch(text)
    if found is None:
        raise RequestError(f"invalid grpc-timeout: {text}", code=Code.INVALID_ARGUMENT)
    return int(found[1][:12]) * _TIMEOUT_UNITS_S[found[2]]


def _peer(request: web.BaseRequest) -> str:
    """Unique to the connection: limits are per connection."""
    name = request.transport.get_extra_info("peername") if request.transport is not None else None
    return f"http:{name[0]}:{name[1]}" if name else "http:gone"


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


assert all(code in HTTP_STATUS for code in Code if code is not Code.OK), "a code without an HTTP status"

"""A request's body, read as one JSON value after the other, no further than need be and never without a bound.

What may not live here: what the values mean.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from aiohttp import ClientPayloadError as PayloadError
from aiohttp import HttpVersion11, web
from aiohttp.web_protocol import RequestPayloadError

from raftkv.errors import Code, RequestError
from raftkv.gateway.go_json import TRUNCATED, Malformed

T = TypeVar("T")

LONG_BYTES = 64 * 1024
"""Beyond this, JSON is read, and written, on another thread: 100 KB take a millisecond or two, and the loop carries heartbeats."""
JSON_PER_MESSAGE_BYTE = 2
"""How much larger a body may be than the largest request: base64 takes 4/3, names and quotes a little."""

Parse = Callable[[str, int], tuple[T, int] | None]


class TooLarge(RequestError):
    """A request is larger than the limit; the text is gRPC's."""

    code = Code.RESOURCE_EXHAUSTED

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"grpc: received message larger than max ({size} vs. {limit})")


class Body:
    """The body of one request.

    Args:
        message_bytes_max: the largest request message; what is held of the body at any time is bounded by that.
    """

    def __init__(self, request: web.BaseRequest, message_bytes_max: int) -> None:
        self._content = request.content
        self._awaiting_continue = request.writer if _expects_continue(request) else None
        """Where a client is told to send the body, if it waits to be; it is when the body is looked at, and not refused unseen."""
        self._message_bytes_max = message_bytes_max
        self._bytes_max = JSON_PER_MESSAGE_BYTE * message_bytes_max
        if request.content_length is not None and request.content_length > self._bytes_max:
            self._refused: int | None = request.content_length
        else:
            self._refused = None
        self._held = bytearray()
        self._worth_trying_bytes = 0
        """A long value is not tried again for every few bytes that come."""
        self._is_whole = False

    async def next(self, parse: Parse[T]) -> T | None:
        """The next value, as `parse` makes it of the text; None: there is no other.

        Raises:
            Malformed: by `parse`; or the body ends within a value.
            TooLarge
        RequestError: what comes is no body.
        """
        if self._refused is not None:
            raise TooLarge(self._refused, self._message_bytes_max)
        while True:
            if self._is_whole or len(self._held) >= self._worth_trying_bytes:
                try:
                    found = await self._parse(parse)
                except Malformed as error:
                    if self._is_whole or str(error) != TRUNCATED:
                        raise
                    self._worth_trying_bytes = 2 * len(self._held) if len(self._held) > LONG_BYTES else 0
                else:
                    if found is not None or self._is_whole:
                        return found
            await self._read_on()

    async def _read_on(self) -> None:
        try:
            await self._say_continue()
            chunk = await self._content.readany()
        except (PayloadError, RequestPayloadError) as error:
            raise RequestError(f"http: malformed body: {error}", code=Code.INVALID_ARGUMENT) from None
        except ConnectionError:
            raise asyncio.CancelledError from None  # The client has gone, which ends the call in the same way.
        if not chunk and self._content.at_eof():
            self._is_whole = True
        self._held += chunk
        if len(self._held) > self._bytes_max:
            raise TooLarge(len(self._held), self._message_bytes_max)

    async def _say_continue(self) -> None:
        writer, self._awaiting_continue = self._awaiting_continue, None
        if writer is not None:
            await writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            writer.output_size = 0  # The response proper begins behind it.

    async def _parse(self, parse: Parse[T]) -> T | None:
        text = self._held.decode("utf-8", "surrogateescape")
        if len(self._held) > LONG_BYTES:
            found = await asyncio.to_thread(parse, text, 0)
        else:
            found = parse(text, 0)
        if found is None:
            return None
        value, end = found
        self._worth_trying_bytes = 0
        del self._held[: len(text[:end].encode("utf-8", "surrogateescape"))]
        return value


def _expects_continue(request: web.BaseRequest) -> bool:
    return request.version >= HttpVersion11 and request.headers.get("Expect", "").lower() == "100-continue"

"""One call that came as JSON, as the function sees it that serves it: what gRPC's context is to a call over gRPC.

What may not live here: HTTP, and what a message looks like in JSON (`send` knows).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NoReturn

import grpc

Metadata = tuple[tuple[str, str], ...]


class Aborted(grpc.aio.AbortError):
    """The method has ended the call with an error; it is told by `JsonCall.code` and `details`."""


class JsonCall:
    """Satisfies `raftkv.server.call.Call`.

    Args:
        metadata: what came with the call.
        deadline: in the loop's time; None: the client waits for ever.
        peer: who calls, unique to the connection.
        send: takes each response of a stream, and returns when the client's connection has room for more.
    """

    def __init__(
        self, metadata: Metadata, *, deadline: float | None, peer: str, send: Callable[[Any], Awaitable[None]]
    ) -> None:
        self._metadata = metadata
        self._deadline = deadline
        self._peer = peer
        self._send = send
        self._code: grpc.StatusCode | None = None
        self._details = ""

    def invocation_metadata(self) -> Metadata:
        return self._metadata

    def time_remaining(self) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - asyncio.get_running_loop().time())

    def peer(self) -> str:
        return self._peer

    async def write(self, response: Any) -> None:
        await self._send(response)

    async def abort(
        self, code: grpc.StatusCode, details: str = "", trailing_metadata: Sequence[tuple[str, str | bytes]] = ()
    ) -> NoReturn:
        """End the call. HTTP has no place for the trailing metadata: etcd's clients would not look for them."""
        self._code, self._details = code, details
        raise Aborted

    def code(self) -> grpc.StatusCode | None:
        return self._code

    def details(self) -> str:
        return self._details

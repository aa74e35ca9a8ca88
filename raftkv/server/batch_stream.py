"""Batches: the batches of one client connection on one stream, carried out at the same time, answered in any order.

    frames ─► reader ─► a task for each batch ─► carry_out ─► its answer, one at a time ─► the client

A stream has room for so many batches, from the arrival of their frames until their answers are on the way. While it is full
nothing more is read, and a client that takes nothing of an answer for STALLED_S has gone: so what one stream may make a node hold
has a bound. When the client goes away, what waits for it is cancelled.

A stream that we end ourselves has answered all it has taken in, and says so: its status is `not-applied`, for it speaks of what
was never read. Only a stream that breaks leaves its client in doubt.

What may not live here: what a batch means (see `store.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from raftkv import wire
from raftkv.errors import (
    STOPPED,
    TIMED_OUT,
    DeadlineExceeded,
    Outcome,
    RequestError,
    ResourceExhausted,
    Unavailable,
)
from raftkv.pb import store_pb2
from raftkv.server import services
from raftkv.server.call import Call
from raftkv.server.front import connection_of
from raftkv.server.services import HOLD_MARGIN_S, abort, parsed
from raftkv.server.stream_counts import StreamCounts

BATCHES_PATH: Final = "/raftkv.store.Store/Batches"
UNDER_WAY_MAX: Final = 32
"""Batches of one stream; a client of ours has four."""
STREAMS_PER_CONNECTION_MAX: Final = 16
"""A client of ours has one, and one more for each large batch."""
TOO_MANY_STREAMS: Final = (
    f"raftkv: too many streams of batches: this connection has {STREAMS_PER_CONNECTION_MAX}, the limit"
)
HOLD_MAX_S: Final = 24 * 3600.0
"""However long a client says that it will wait."""

_TAKEN: Final = store_pb2.NumberedResponse().SerializeToString()

CarryOut = Callable[[bytes, float], Awaitable[store_pb2.BatchResponse]]
"""Takes an encoded BatchRequest and how long it may be held, in seconds; returns the answers or raises RequestError."""


class BatchStreams:
    """The calls of Batches that a node has.

    Args:
        hold_s: how long a batch is held that says nothing about it.
    """

    def __init__(self, carry_out: CarryOut, *, hold_s: float) -> None:
        self._carry_out = carry_out
        self._hold_s = hold_s
        self._streams: set[_Stream] = set()
        self._stream_counts = StreamCounts()
        self._is_stopping = False

    async def serve(self, requests: AsyncIterator[bytes], context: Call) -> None:
        """One call, to its end."""
        if self._is_stopping:
            await abort(context, _stopped())
        connection = connection_of(context)
        if self._stream_counts.of(connection) >= STREAMS_PER_CONNECTION_MAX:
            await abort(context, ResourceExhausted(TOO_MANY_STREAMS))
        stream = _Stream(self._carry_out, context, hold_s=self._hold_s)
        self._streams.add(stream)
        self._stream_counts.opened(connection)
        try:
            await context.write(_TAKEN)
            await stream.run(requests)
        except RequestError as error:
            await abort(context, error)
        finally:
            self._streams.discard(stream)
            self._stream_counts.closed(connection)

    def stop(self) -> None:
        """The server stops: take in nothing more, end every stream when all it has taken in is answered, and begin no other."""
        self._is_stopping = True
        for stream in self._streams:
            stream.end(_stopped())


class _Stream:
    """One call: the batches under way on it."""

    def __init__(self, carry_out: CarryOut, call: Call, *, hold_s: float) -> None:
        self._carry_out = carry_out
        self._call = call
        self._hold_s = hold_s
        self._under_way: set[asyncio.Task[None]] = set()
        self._has_room = asyncio.Event()
        self._writing = asyncio.Lock()
        self._reading: asyncio.Task[None] | None = None
        self._ends_with: RequestError | None = None
        self._broken_by: BaseException | None = None

    async def run(self, requests: AsyncIterator[bytes]) -> None:
        """Return when the client sends no more and has all answers.

        Raises:
            RequestError: why we end it. NOT_APPLIED: but for what was never read, the client has all answers.
        """
        if self._ends_with is not None:
            raise self._ends_with  # Since before it began.
        reading = self._reading = asyncio.create_task(self._read(requests), name="raftkv-batches-reader")
        try:
            await asyncio.wait([reading])
            if self._under_way and self._broken_by is None:
                await asyncio.wait(self._under_way, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            tasks = [reading, *self._under_way]
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        if self._broken_by is not None:
            raise self._broken_by
        if not reading.cancelled():
            reading.result()
        if self._ends_with is not None:
            raise self._ends_with

    def end(self, error: RequestError) -> None:
        """Read nothing more, and end with this when what was read is answered."""
        assert error.outcome is Outcome.NOT_APPLIED, f"nobody knows what becomes of batches not read? {error}"
        self._ends_with = self._ends_with or error
        if self._reading is not None:
            self._reading.cancel()

    async def _read(self, requests: AsyncIterator[bytes]) -> None:
        """Take in batches, as many at a time as there is room for, until the client sends no more or sends nonsense."""
        under_way = self._under_way
        try:
            async for raw in requests:
                task = asyncio.create_task(self._answer(parsed(store_pb2.NumberedRequest.FromString, raw)))
                under_way.add(task)
                task.add_done_callback(self._landed)
                while len(under_way) >= UNDER_WAY_MAX:
                    self._has_room.clear()
                    await self._has_room.wait()
        except RequestError as error:
            self._ends_with = self._ends_with or error

    def _landed(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._has_room.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            self._broken_by = self._broken_by or error
            assert self._reading is not None, "a batch that nobody has read"
            self._reading.cancel()

    async def _answer(self, request: store_pb2.NumberedRequest) -> None:
        """Carry out one batch and send its answer.

        Raises:
            DeadlineExceeded: the client takes nothing of it.
        """
        answer = store_pb2.NumberedResponse(number=request.number)
        try:
            response = await self._carry_out(request.batch, self._hold_s_of(request))
            answer.response = response.SerializeToString()
        except RequestError as error:
            answer.failure.CopyFrom(wire.encode_error(error))
        encoded = answer.SerializeToString()
        async with self._writing:
            try:
                async with asyncio.timeout(services.STALLED_S):
                    await self._call.write(encoded)
            except TimeoutError:
                raise DeadlineExceeded(TIMED_OUT, outcome=Outcome.UNKNOWN) from None

    def _hold_s_of(self, request: store_pb2.NumberedRequest) -> float:
        if not request.hold_ms:
            return self._hold_s
        return min(max(0.0, request.hold_ms / 1000 - HOLD_MARGIN_S), HOLD_MAX_S)


def _stopped() -> Unavailable:
    return Unavailable(STOPPED, outcome=Outcome.NOT_APPLIED)

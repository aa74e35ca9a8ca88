"""One stream on which a connection's batches travel: numbered, several under way at once, answered in any order.

    call ─► table of answers awaited ──────────────────────────────┐
      └───► unsent ─► writer, one frame at a time ═► server ═► reader ─► the caller whose number it is

A message on a stream that is open costs each side less than half of a call. A batch that times out is forgotten, and its
answer passed over when it comes; the stream goes on. When the stream ends, whoever has no answer is told how it ended, and
of a batch that gRPC was never given, that it surely did not arrive.

Nothing is sent before the server has taken the stream: of a stream that fails while something is written to it, gRPC does not
tell how it was ended, and a server that does not know batches must be known from one that has gone.

What may not live here: when a stream is opened (see `connection.py`), what is in a batch, and sending again (see `engine.py`).
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import Final

import grpc.aio
from google.protobuf.message import DecodeError

from raftkv.client.outcomes import CallFailed, Failure, failure_in_answer, failure_of, unreadable
from raftkv.errors import Code, Outcome
from raftkv.pb import store_pb2

BATCHES_PATH: Final = "/raftkv.store.Store/Batches"
_GOODBYE_S: Final = 0.1
"""For the server to end a stream on which nothing more comes. One that has batches under way takes longer; it is not waited for."""
_HOLD_MAX_MS: Final = 2**32 - 1
_ENDED: Final = Failure(Code.UNAVAILABLE, "the server closed the call", Outcome.UNKNOWN)
_CLOSED: Final = Failure(Code.CANCELLED, "the client closed the connection", Outcome.UNKNOWN)
_TOO_LATE: Final = Failure(Code.DEADLINE_EXCEEDED, "Deadline Exceeded", Outcome.UNKNOWN)


class BatchStream:
    """A call of Batches that has begun, on the loop that runs.

    Args:
        call: nobody else reads it or writes to it.
        address: of the server, for texts.
    """

    def __init__(self, call: grpc.aio.StreamStreamCall[bytes, bytes], address: str) -> None:
        self._call = call
        self._address = address
        self._loop = asyncio.get_running_loop()
        self._number = 0
        self._awaited: dict[int, asyncio.Future[store_pb2.BatchResponse | Failure]] = {}
        self._unsent: dict[int, tuple[bytes, float]] = {}
        """Batches that gRPC has not been given, in their order, and the loop's time until which their callers wait."""
        self._has_unsent = asyncio.Event()
        self._is_open = True
        self._is_taken = asyncio.Event()
        self._tasks = (
            self._loop.create_task(self._read(), name="raftkv-batches-reader"),
            self._loop.create_task(self._write(), name="raftkv-batches-writer"),
        )

    @property
    def is_open(self) -> bool:
        """Whether the server may still answer; once False, never True again."""
        return self._is_open

    async def call(self, batch: bytes, timeout: float) -> store_pb2.BatchResponse:
        """Send an encoded BatchRequest and wait for its answer. Only while it is open.

        Raises:
            CallFailed: there is none, or the server refused the batch as a whole.
        """
        assert self._is_open, "a batch for a stream that has ended"
        self._number += 1
        number, deadline = self._number, self._loop.time() + timeout
        awaited: asyncio.Future[store_pb2.BatchResponse | Failure] = self._loop.create_future()
        self._awaited[number] = awaited
        self._unsent[number] = batch, deadline
        self._has_unsent.set()
        timer = self._loop.call_at(deadline, self._settle, number, _TOO_LATE)
        try:
            answer = await awaited
        finally:
            timer.cancel()
            self._awaited.pop(number, None)
            self._unsent.pop(number, None)
        if isinstance(answer, Failure):
            raise CallFailed(answer)
        return answer

    async def close(self) -> None:
        """End the stream; batches without an answer fail. Idempotent.

        In good order, if the server is there: what gRPC has still to tell of a call that was cancelled comes to a loop that may be
        closed by then, and is printed.
        """
        self._is_open = False
        for number in list(self._awaited):
            self._settle(number, _CLOSED)
        self._unsent.clear()  # At once: that they never were sent has just been said.
        self._has_unsent.set()
        if self._is_taken.is_set():
            await asyncio.wait(self._tasks, timeout=_GOODBYE_S)
        self._call.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)

    def _settle(self, number: int, answer: store_pb2.BatchResponse | Failure) -> None:
        """Give the caller its answer, unless it has gone. Of a failed batch that was not sent, say so."""
        awaited = self._awaited.get(number)
        if awaited is None or awaited.done():
            return
        if isinstance(answer, Failure) and number in self._unsent:
            answer = replace(answer, outcome=Outcome.NOT_APPLIED)
        awaited.set_result(answer)

    async def _write(self) -> None:
        """Give gRPC what is to be sent, one frame after another, as fast as the server takes them."""
        await self._is_taken.wait()
        # Of a stream that has ended the reader hears how.
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            while True:
                while self._unsent:
                    if self._call.done():
                        return
                    number = next(iter(self._unsent))
                    batch, deadline = self._unsent.pop(number)
                    hold_ms = min(max(1, round((deadline - self._loop.time()) * 1000)), _HOLD_MAX_MS)
                    frame = store_pb2.NumberedRequest(number=number, hold_ms=hold_ms, batch=batch)
                    await self._call.write(frame.SerializeToString())
                if not self._is_open:
                    await self._call.done_writing()
                    return
                self._has_unsent.clear()
                await self._has_unsent.wait()

    async def _read(self) -> None:
        """Hand out answers until there are no more."""
        failure = _CLOSED
        try:
            async for raw in self._call:
                self._land(store_pb2.NumberedResponse.FromString(raw))
            failure = _ENDED
        except grpc.aio.AioRpcError as error:
            failure = failure_of(error)
        except DecodeError as error:
            failure = unreadable(self._address, error)
            self._call.cancel()
        finally:
            self._end(failure)

    def _land(self, landed: store_pb2.NumberedResponse) -> None:
        self._is_taken.set()
        answer: store_pb2.BatchResponse | Failure
        if landed.WhichOneof("result") == "failure":
            answer = failure_in_answer(landed.failure)
        else:
            try:
                answer = store_pb2.BatchResponse.FromString(landed.response)
            except DecodeError as error:
                answer = unreadable(self._address, error)
        self._settle(landed.number, answer)

    def _end(self, failure: Failure) -> None:
        self._is_open = False
        self._tasks[1].cancel()
        for number in list(self._awaited):
            # What ended a stream that was taken is no word about a batch that never was on it: it may be sent on another.
            is_to_go_on = number in self._unsent and self._is_taken.is_set()
            self._settle(number, replace(failure, code=Code.UNAVAILABLE) if is_to_go_on else failure)

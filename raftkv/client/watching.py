"""Watches for asyncio: one task a watch follows a server, and the next one when that fails, and fills a bounded buffer.

What may not live here: what responses mean (`watch_cursor`), and threads (`watching_sync`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any, Final, Self

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from raftkv.client.connection import Connection
from raftkv.client.outcomes import failure_of
from raftkv.client.watch_cursor import WatchBatch, WatchCursor
from raftkv.client.watch_pool import WatchPool
from raftkv.errors import Cancelled, Code, DeadlineExceeded, Outcome, RequestError
from raftkv.pb import rpc_pb2

WATCH_PATH: Final = "/etcdserverpb.Watch/Watch"
REQUIRE_LEADER: Final = (("hasleader", "true"),)
"""A server that has lost its cluster ends the stream, and we go on at one that has not."""
BUFFERED_EVENTS_MAX: Final = 10_000
"""Beyond this the server is not read from; it keeps history for us, not memory."""
_RETRY_FIRST_S: Final = 0.02
_RETRY_MAX_S: Final = 0.5
_FINAL: Final = frozenset(
    {Code.UNIMPLEMENTED, Code.UNAUTHENTICATED, Code.PERMISSION_DENIED, Code.INVALID_ARGUMENT, Code.RESOURCE_EXHAUSTED}
)
"""What no other server would say differently."""
_PROGRESS_REQUEST: Final = rpc_pb2.WatchRequest(progress_request=rpc_pb2.WatchProgressRequest()).SerializeToString()


class AsyncWatch(AsyncIterator[WatchBatch]):
    """A watch; made by `AsyncClient.watch`. Iterates over batches, one for each revision; see `Client.watch`.

    Entering it, or the first `next`, waits until a server has accepted it. Then it goes on by itself, from server to server,
    until it is closed or history is compacted away under it.
    """

    def __init__(self, pool: Callable[[], WatchPool], cursor: WatchCursor, timeout: float) -> None:
        self._open_pool = pool
        self._cursor = cursor
        self._timeout = timeout
        self._buffer: deque[WatchBatch] = deque()
        self._buffered_events = 0
        self._given_revision = 0
        self._error: RequestError | None = None
        self._trouble = "no server answered"
        self._changed = asyncio.Event()
        """Something for the caller: a batch, an error, the creation."""
        self._room = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._call: Any = None
        self._address = ""
        """Of the server that is followed."""
        self._is_leaving = False
        self._closed = False

    @property
    def revision(self) -> int:
        """Everything up to this revision has been given to the caller; 0: nothing is known yet."""
        return self._given_revision if self._buffer else max(self._given_revision, self._cursor.revision)

    async def start(self) -> None:
        """Wait until a server has accepted the watch.

        Raises:
            DeadlineExceeded: none did in time.
            RequestError: it was refused.
        """
        self._begin()
        try:
            async with asyncio.timeout(self._timeout):
                while not self._cursor.is_created and self._error is None:
                    await self._news()
        except TimeoutError:
            await self.close()
            raise DeadlineExceeded(
                f"the deadline passed: the watch was not created ({self._trouble})", outcome=Outcome.NOT_APPLIED
            ) from None
        if self._error is not None and not self._buffer:
            raise self._error

    async def next(self, *, timeout: float | None = None) -> WatchBatch:
        """The next batch; waits for it, without an end unless there is a `timeout` in seconds. A wait given up loses nothing.

        Raises:
            DeadlineExceeded: there was none in time; the watch goes on.
            Compacted: history was compacted away before it could be given; `compact_revision` names what is left.
            Cancelled: the watch, or the client, is closed.
            RequestError: the server refused it.
        """
        try:
            async with asyncio.timeout(timeout):
                if self._task is None and not self._closed:
                    await self.start()
                while not self._buffer and self._error is None:
                    await self._news()
        except TimeoutError:
            why = "" if self._cursor.is_created else f": the watch was not created ({self._trouble})"
            raise DeadlineExceeded(f"no event within {timeout:g} s{why}", outcome=Outcome.NOT_APPLIED) from None
        if self._buffer:
            return self._pop()
        assert self._error is not None
        raise self._error

    def buffered(self) -> list[WatchBatch]:
        """All batches that `next` would give without waiting."""
        return [self._pop() for _ in range(len(self._buffer))]

    async def request_progress(self) -> None:
        """Ask the server how far it is. A watch with `progress=True` is given the answer as a batch without events."""
        if self._task is None and not self._closed:
            await self.start()
        if self._call is not None:
            try:
                await self._call.write(_PROGRESS_REQUEST)
            except (asyncio.InvalidStateError, grpc.aio.AioRpcError):
                self._trouble = (
                    "the stream broke"  # The watch is on its way to another server; nobody is owed an answer.
                )

    def take_over(self, earlier: AsyncWatch) -> None:
        """Give what an earlier one, which followed the same cursor, has not given."""
        self._buffer = earlier._buffer
        self._buffered_events = earlier._buffered_events
        self._given_revision = earlier._given_revision

    def leave(self, address: str) -> None:
        """Go on elsewhere, if this is the server that is followed."""
        if self._call is not None and self._address == address:
            self._is_leaving = True
            self._call.cancel()

    async def close(self) -> None:
        """End it. Idempotent; iteration then ends."""
        self._closed = True
        self._end(Cancelled("the watch is closed", outcome=Outcome.NOT_APPLIED))
        task = self._task
        if task is not None and task is not asyncio.current_task() and not task.done():
            task.cancel()
            await asyncio.wait([task])
            self._task = None  # It would keep gRPC's objects alive, and with them the threads that no fork survives.

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:  # Cancelled, mostly. Nobody will leave a block that was not entered.
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> WatchBatch:
        if self._closed and not self._buffer:
            raise StopAsyncIteration
        try:
            return await self.next()
        except Cancelled:
            if self._closed:
                raise StopAsyncIteration from None
            raise

    # The task ---------------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        if self._task is None and not self._closed:
            self._pool = self._open_pool()
            self._pool.add(self)
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        try:
            await self._follow_servers()
        except RequestError as error:
            self._end(error)
        except Exception as bug:
            self._end(RequestError(f"the watch failed: {bug!r}", code=Code.INTERNAL))
            raise
        finally:
            self._pool.discard(self)

    async def _follow_servers(self) -> None:
        """Follow one server after the other, for ever.

        Raises:
            RequestError: no server will do.
        """
        pause_s = _RETRY_FIRST_S
        while True:
            self._trouble = f"cannot connect to {', '.join(self._pool.addresses)}"
            connection = await self._pool.connection()
            if await self._follow(connection):
                pause_s = _RETRY_FIRST_S
            else:
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _RETRY_MAX_S)

    async def _follow(self, connection: Connection) -> bool:
        """Follow a server until the stream breaks; True if it had accepted the watch."""
        is_accepted = self._is_leaving = False
        self._address = connection.address
        connection.unary_flights += 1
        call = self._call = connection.stream(WATCH_PATH, metadata=REQUIRE_LEADER)
        try:
            await call.write(self._cursor.request())
            while isinstance(raw := await call.read(), bytes):  # Else it is gRPC's EOF.
                self._take(raw)
                is_accepted = True
                await self._wait_for_room()
            self._trouble = f"{connection.address} ended the stream"
        except asyncio.CancelledError:  # Of the call, or of this task.
            task = asyncio.current_task()
            if not self._is_leaving or task is None or task.cancelling():
                raise
            self._trouble = f"{connection.address} does not answer"
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError, DecodeError) as error:
            self._trouble = f"{connection.address}: {error}"
            if isinstance(error, grpc.aio.AioRpcError):
                failure = failure_of(error)
                self._trouble = f"{connection.address}: {failure.message}"
                if failure.code in _FINAL:
                    raise failure.error_of(Outcome.NOT_APPLIED) from None
        finally:
            self._call = None
            call.cancel()
            await call.code()  # Until then gRPC has something to tell this loop, which may be about to end.
            connection.unary_flights -= 1
            if not self._pool.is_closed:
                self._pool.released(connection)
        self._pool.leave(connection)
        return is_accepted

    def _take(self, raw: bytes) -> None:
        for batch in self._cursor.take(raw):
            self._buffer.append(batch)
            self._buffered_events += len(batch) + 1
        self._changed.set()

    async def _wait_for_room(self) -> None:
        while self._buffered_events >= BUFFERED_EVENTS_MAX:
            self._room.clear()
            await self._room.wait()

    def _pop(self) -> WatchBatch:
        batch = self._buffer.popleft()
        self._buffered_events -= len(batch) + 1
        self._given_revision = max(self._given_revision, batch.revision)
        self._room.set()
        return batch

    async def _news(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _end(self, error: RequestError) -> None:
        self._error = self._error or error.with_traceback(None)  # Nor may its frames keep them alive.
        self._changed.set()

"""Watches for threads: the async one, run on the client's loop, and set up anew if that loop had to end for a fork.

What may not live here: what a watch does (`watching`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

from raftkv.client.engine import Engine
from raftkv.client.runner import Runner
from raftkv.client.watch_cursor import WatchBatch, WatchCursor
from raftkv.client.watching import AsyncWatch
from raftkv.errors import Cancelled, Outcome

T = TypeVar("T")


class Watch(Iterator[WatchBatch]):
    """A watch; made by `Client.watch`. For one thread at a time; `close` may be called from any."""

    def __init__(self, runner: Runner, cursor: WatchCursor, timeout: float) -> None:
        self._runner = runner
        self._cursor = cursor
        self._timeout = timeout
        self._batches: deque[WatchBatch] = deque()
        """Fetched together, given out one by one."""
        self._given_revision = 0
        self._engine: Engine | None = None
        self._watch: AsyncWatch | None = None
        self._closed = False

    @property
    def revision(self) -> int:
        """Everything up to this revision has been given to the caller; 0: nothing is known yet."""
        watch = self._watch
        if self._batches or watch is None:
            return self._given_revision
        return max(self._given_revision, watch.revision)

    def next(self, *, timeout: float | None = None) -> WatchBatch:
        """The next batch; waits for it, without an end unless there is a `timeout` in seconds. A wait given up loses nothing.

        Raises:
            DeadlineExceeded: there was none in time; the watch goes on.
            Compacted: history was compacted away before it could be given; `compact_revision` names what is left.
            Cancelled: the watch, or the client, is closed.
            RequestError: the server refused it.
        """
        if not self._batches:

            async def fetch(watch: AsyncWatch) -> None:
                first = await watch.next(timeout=timeout)
                self._batches.extend(
                    (first, *watch.buffered())
                )  # Here: a signal may end the wait for what is returned.

            self._run(fetch)
        batch = self._batches.popleft()
        self._given_revision = max(self._given_revision, batch.revision)
        return batch

    def request_progress(self) -> None:
        """Ask the server how far it is. A watch with `progress=True` is given the answer as a batch without events."""
        self._run(AsyncWatch.request_progress)

    def close(self) -> None:
        """End it. Idempotent; iteration then ends."""
        if not self._closed:
            self._closed = True
            if self._watch is not None:
                self._runner.run_if_open(lambda engine: self._close(engine))

    async def _close(self, engine: Engine) -> None:
        if self._watch is not None and engine is self._engine:
            await self._watch.close()

    def __enter__(self) -> Self:
        try:
            self._run(AsyncWatch.start)
        except BaseException:  # Of a signal, mostly. Nobody will leave a block that was not entered.
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> WatchBatch:
        if self._closed and not self._batches:
            raise StopIteration
        try:
            return self.next()
        except Cancelled:
            if self._closed:
                raise StopIteration from None
            raise

    def _run(self, work: Callable[[AsyncWatch], Coroutine[Any, Any, T]]) -> T:
        while True:
            if self._closed:
                raise Cancelled("the watch is closed", outcome=Outcome.NOT_APPLIED)
            try:
                return self._runner.run(lambda engine: work(self._on(engine)))
            except Cancelled:
                # The client's loop may have ended for a fork, and with it this call: on the next loop it goes on.
                if self._closed or not self._runner.goes_on_after([self._engine]):
                    raise

    def _on(self, engine: Engine) -> AsyncWatch:
        """The watch on this loop, from where it was on an earlier one."""
        earlier = self._watch
        if earlier is not None and engine is self._engine:
            return earlier
        self._engine = engine
        self._watch = watch = AsyncWatch(engine.watch_pool, self._cursor, self._timeout)
        if earlier is not None:
            watch.take_over(earlier)
        return watch

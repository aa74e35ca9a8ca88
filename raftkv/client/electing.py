"""Elections for asyncio: a queue whose owner has something to say.

What may not live here: standing in the queue (`contender`), threads (`electing_sync`).
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Self

from raftkv.client import calls
from raftkv.client.calls import Key, Value, to_bytes
from raftkv.client.contender import AsyncContender
from raftkv.client.contending import Contention
from raftkv.client.engine import Engine
from raftkv.client.leasing import Home, checked_wait, not_in_time, repeated
from raftkv.client.values import KeyValue, RangeResult
from raftkv.client.watching import AsyncWatch
from raftkv.errors import Cancelled, Compacted, Outcome


class AsyncElection(AsyncContender):
    """An election; made by `AsyncClient.election`. See `Client.election`."""

    NEVER_OURS = "not elected: campaign first"

    def __init__(
        self,
        home: Home,
        name: Key,
        ttl: int,
        *,
        timeout: float,
        on_lost: Callable[[AsyncElection], object] | None = None,
    ) -> None:
        """As of `AsyncContender`; the lease is always our own."""
        super().__init__(home, name, ttl, timeout=timeout, lease=None, on_lost=on_lost)

    @property
    def is_leader(self) -> bool:
        """Whether we lead, by our own clock. Asks no server."""
        return self.is_ours

    async def campaign(self, value: Value, *, timeout: float | None = None) -> None:
        """Stand for election, and wait until we lead. A leader that campaigns again only changes the value.

        Args:
            value: what we have to say as the leader: an address, mostly.
            timeout: seconds; None: for as long as it takes.

        Raises:
            DeadlineExceeded: we were not elected in time, and are no candidate any more.
            LeaseLost: our lease was lost, so nothing was won.
        """
        data = to_bytes(value, "value")
        wait = checked_wait(timeout)
        if self.is_leader:
            await self.proclaim(value)
            return
        await self._stand(data, wait, f"not elected in {self.name!r}")

    async def proclaim(self, value: Value) -> None:
        """Say something else, as the leader.

        Raises:
            LeaseLost: we do not lead any more.
            RuntimeError: we were never elected.
        """
        if not self._is_ours:
            raise RuntimeError(self.NEVER_OURS)
        self.require()
        await self._contention.say(self.hold.place, self._lease, to_bytes(value, "value"))

    async def resign(self) -> None:
        """Let the next candidate lead. Nothing where we do not lead.

        Raises:
            RequestError: nobody answered; the office goes by itself when its lease does.
        """
        await self._let_go()

    async def leader(self) -> KeyValue | None:
        """Who leads, as the key that stands for it: `.value` is what it proclaims. None: nobody."""
        _, first = await self._contention.first()
        return first

    def observe(self) -> AsyncObservation:
        """Hear who leads: at once, whenever that changes, and whenever the leader proclaims something else."""
        return AsyncObservation(self._home, self._contention)

    async def __aenter__(self) -> Self:
        return self

    def __repr__(self) -> str:
        return f"<raftkv election {self.name!r}{' (we lead)' if self.is_leader else ''}>"


class AsyncObservation(AsyncIterator[KeyValue]):
    """Who leads, for ever; made by `AsyncElection.observe`. Items are the keys that stand for leaders."""

    def __init__(self, home: Home, contention: Contention) -> None:
        self._home = home
        self._contention = contention
        self._watch: AsyncWatch | None = None
        self._watched_on: Engine | None = None
        self._asking: asyncio.Task[RangeResult] | None = None
        self._watched: bytes | None = None
        """The leader's key; None: there is no leader yet."""
        self._told = (b"", 0)
        """Key and revision of what was told last."""
        self._pending: deque[KeyValue] = deque()
        self._closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> KeyValue:
        if self._closed:
            raise StopAsyncIteration
        try:
            return await self.next()
        except Cancelled:
            if self._closed:
                raise StopAsyncIteration from None
            raise

    async def next(self, *, timeout: float | None = None) -> KeyValue:
        """What is new; waits for it, without an end unless there is a `timeout` in seconds. A wait given up loses nothing.

        Raises:
            DeadlineExceeded: there was nothing in time.
            Cancelled: the observation, or the client, is closed.
        """
        try:
            async with asyncio.timeout(checked_wait(timeout)):
                while not self._pending:
                    await self._look()
        except TimeoutError:
            raise not_in_time("no news of a leader", timeout) from None
        item = self._pending.popleft()
        self._told = (item.key, item.mod_revision)
        return item

    async def _look(self) -> None:
        """Wait for news.

        Raises:
            Cancelled: the observation, or the client, is closed.
        """
        if self._closed:
            raise _closed_error()
        watch = self._watch
        if watch is None or self._watched_on is not self._home.usable():
            await self._begin()
            return
        try:
            batch = await watch.next()
        except Compacted:
            await self._stop_watching()
            return
        for event in batch:
            if event.kind == "put":
                if self._watched is None:  # The first one to stand where nobody did.
                    self._watched = event.key
                if event.key == self._watched:
                    self._pending.append(event.item)
            elif event.key == self._watched:
                await self._stop_watching()
                return

    async def _begin(self) -> None:
        """See who leads, and watch from there."""
        request = calls.range_request(prefix=self._contention.prefix, sort="create_revision", limit=1)
        self._asking = asyncio.ensure_future(repeated(self._home, lambda: calls.range_page(request), math.inf))
        try:
            found = await self._asking
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if caller is None or caller.cancelling() or not self._closed:
                raise
            raise _closed_error() from None
        finally:
            self._asking = None
        if self._closed:
            return
        first = found.first
        self._watched = None if first is None else first.key
        self._watched_on = self._home.usable()
        self._watch = self._contention.watch(self._watched, revision=found.revision + 1)
        if first is not None and (first.key, first.mod_revision) != self._told:
            self._pending.append(first)

    async def _stop_watching(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            await watch.close()

    async def close(self) -> None:
        """End it. Idempotent; iteration then ends."""
        self._closed = True
        if self._asking is not None:
            self._asking.cancel()
        await self._stop_watching()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _closed_error() -> Cancelled:
    return Cancelled("the observation is closed", outcome=Outcome.NOT_APPLIED)

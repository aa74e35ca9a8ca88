"""Elections for asyncio: a queue whose owner has something to say.

What may not live here: the queue (`contending`), the lease (`leasing`), threads (`electing_sync`).
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any, Self

from raftkv.client import calls
from raftkv.client.calls import Key, Value, to_bytes
from raftkv.client.contending import Contention, Place
from raftkv.client.engine import Engine
from raftkv.client.leasing import AsyncLease, AsyncLost, Home, checked_wait, not_in_time, repeated
from raftkv.client.tenure import Tenure
from raftkv.client.transaction import Condition
from raftkv.client.values import KeyValue
from raftkv.client.watching import AsyncWatch
from raftkv.errors import Cancelled, Compacted, LeaseLost
from raftkv.pb import rpc_pb2

NOT_ELECTED = "not elected: campaign first"


class AsyncElection:
    """An election; made by `AsyncClient.election`. See `Client.election`.

    Attributes:
        name: as given.
        lost: an event: the lease that our office, or candidacy, hangs on is gone.
    """

    def __init__(
        self,
        home: Home,
        name: Key,
        ttl: int,
        *,
        timeout: float,
        on_lost: Callable[[AsyncElection], object] | None = None,
    ) -> None:
        self.name = name
        self._home = home
        self._contention = Contention(home, name, timeout=timeout)
        self._ttl = ttl
        self._timeout = timeout
        self._on_lost = on_lost
        self._lease = self._make_lease()
        self._place: Place | None = None
        self._office: Place | None = None
        self._tenure: Tenure | None = None
        self._is_elected = False
        self._campaigning: asyncio.Task[Any] | None = None
        self.lost = AsyncLost(lambda: self.tenure)

    @property
    def tenure(self) -> Tenure:
        """Of the office that we have, or had last.

        Raises:
            RuntimeError: we were never elected.
        """
        if self._tenure is None:
            raise RuntimeError(NOT_ELECTED)
        return self._tenure

    @property
    def office(self) -> Place:
        """What we have, or had last.

        Raises:
            RuntimeError: we were never elected.
        """
        if self._office is None:
            raise RuntimeError(NOT_ELECTED)
        return self._office

    @property
    def key(self) -> bytes:
        """The key that stands for us while we lead."""
        return self.office.key

    @property
    def fencing_token(self) -> int:
        """The create revision of our key: every later leader's is greater."""
        return self.office.revision

    @property
    def fence(self) -> Condition:
        """For transactions: we lead still, in this very term of office."""
        return self.office.is_held

    @property
    def is_leader(self) -> bool:
        """Whether we lead, by our own clock. Asks no server."""
        return self._is_elected and not self.tenure.is_over

    def require(self) -> None:
        """Return if we lead still, by our own clock.

        Raises:
            LeaseLost: we do not.
        """
        self.tenure.require()

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
        checked_wait(timeout)
        if self.is_leader:
            await self.proclaim(value)
            return
        self._campaigning = asyncio.current_task()
        try:
            async with asyncio.timeout(timeout):
                await self._campaign(data)
        except TimeoutError:
            await self._give_up()
            raise not_in_time(f"not elected in {self.name!r}", timeout) from None
        except Cancelled:
            raise  # The client is closed, or has a fork to make: then we go on from our place.
        except BaseException:
            await self._give_up()
            raise
        finally:
            self._campaigning = None

    async def settled(self) -> None:
        """Return when no campaign is under way any more, one that was cancelled included."""
        if self._campaigning is not None:
            await asyncio.wait((self._campaigning,))

    async def _campaign(self, value: bytes) -> None:
        if self._lease.is_granted and self._lease.tenure.is_over:  # Of an earlier office.
            self._lease = self._make_lease()
        lease = self._lease
        await lease.start()
        place, said = await lease.while_ours(self._contention.enter(lease, value))
        self._place = place
        if said != value:
            await lease.while_ours(self._say(place, lease, value))
        await self._contention.turn(place, lease)
        self._office, self._tenure, self._is_elected = place, lease.tenure, True

    async def proclaim(self, value: Value) -> None:
        """Say something else, as the leader.

        Raises:
            LeaseLost: we do not lead any more.
            RuntimeError: we were never elected.
        """
        if not self._is_elected:
            raise RuntimeError(NOT_ELECTED)
        self.require()
        await self._say(self.office, self._lease, to_bytes(value, "value"))

    async def _say(self, place: Place, lease: AsyncLease, value: bytes) -> None:
        request = rpc_pb2.TxnRequest(
            compare=[place.is_held.compare],
            success=[rpc_pb2.RequestOp(request_put=calls.put_request(place.key, value, lease=lease))],
        )
        # Not sent again where it may have been done: a later proclamation might be overwritten.
        done = await self._home.usable().perform(calls.txn(request), self._timeout)
        if not done.succeeded:
            raise LeaseLost(f"the key {place.key!r} is gone: somebody else may lead")

    async def resign(self) -> None:
        """Let the next candidate lead. Nothing where we do not lead.

        Raises:
            RequestError: nobody answered; the office goes by itself when its lease does.
        """
        if not self._is_elected:
            return
        self._is_elected = False
        lease, self._lease = self._lease, self._make_lease()
        await lease.revoke()

    async def leader(self) -> KeyValue | None:
        """Who leads, as the key that stands for it: `.value` is what it proclaims. None: nobody."""
        _, first = await self._contention.first()
        return first

    def observe(self) -> AsyncObservation:
        """Hear who leads: at once, whenever that changes, and whenever the leader proclaims something else."""
        return AsyncObservation(self._home, self._contention)

    async def end(self, *, is_quiet: bool) -> None:
        """Of a `with` block: resign, or let the office go by itself.

        Raises:
            LeaseLost: the office was lost meanwhile, unless `is_quiet`.
        """
        if not self._is_elected:
            return
        try:
            if not is_quiet:
                self.require()
        finally:
            await self._give_up()

    async def _give_up(self) -> None:
        self._is_elected = False
        place, self._place = self._place, None
        lease, self._lease = self._lease, self._make_lease()
        await self._contention.give_up(place, lease, owns_lease=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.end(is_quiet=error is not None)

    def _make_lease(self) -> AsyncLease:
        on_lost = self._on_lost
        told = None if on_lost is None else (lambda _: on_lost(self))
        return AsyncLease(self._home, self._ttl, timeout=self._timeout, on_lost=told)

    def __repr__(self) -> str:
        return f"<raftkv election {self.name!r}{' (we lead)' if self.is_leader else ''}>"


class AsyncObservation(AsyncIterator[KeyValue]):
    """Who leads, for ever; made by `AsyncElection.observe`. Items are the keys that stand for leaders."""

    def __init__(self, home: Home, contention: Contention) -> None:
        self._home = home
        self._contention = contention
        self._watch: AsyncWatch | None = None
        self._watched_on: Engine | None = None
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
        return await self.next()

    async def next(self, *, timeout: float | None = None) -> KeyValue:
        """What is new; waits for it, without an end unless there is a `timeout` in seconds. A wait given up loses nothing.

        Raises:
            DeadlineExceeded: there was nothing in time.
            Cancelled: the client is closed.
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
        """Wait for news."""
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
        found = await repeated(self._home, lambda: calls.range_page(request), math.inf)
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
        await self._stop_watching()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

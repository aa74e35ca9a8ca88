"""The async face: the methods of the sync face with `await`, `async for` and `async with` before them.

What may not live here: anything but turning a method into an operation and handing it to the engine. What the methods do
is described in `synchronous.py`.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from types import TracebackType
from typing import Self, SupportsIndex

from raftkv.client import calls, lease_calls
from raftkv.client.address import parse_endpoints
from raftkv.client.calls import Key, Sort, Value
from raftkv.client.electing import AsyncElection
from raftkv.client.engine import Engine, closed_error
from raftkv.client.leasing import AsyncHome, AsyncLease
from raftkv.client.limits import Limits
from raftkv.client.locking import AsyncLock
from raftkv.client.maintenance import AsyncMaintenance, Target
from raftkv.client.operation import Operation, T
from raftkv.client.pages import Pages
from raftkv.client.synchronous import DEFAULT_TIMEOUT_S, checked_timeout
from raftkv.client.transaction import OPERATIONS, KeyReference, Operations, TxnBuilder
from raftkv.client.values import (
    CompactResult,
    DeleteResult,
    HashResult,
    KeyValue,
    Member,
    PutResult,
    Status,
    TxnResult,
)
from raftkv.client.watch_cursor import Only, WatchCursor, watch_request
from raftkv.client.watching import AsyncWatch


def connect(
    endpoints: str | Iterable[str] | None = None, *, timeout: float = DEFAULT_TIMEOUT_S, limits: Limits | None = None
) -> AsyncClient:
    """As `raftkv.connect`, for asyncio. Belongs to the event loop that uses it first."""
    return AsyncClient(parse_endpoints(endpoints), timeout=timeout, limits=limits)


class AsyncClient:
    """A client of a cluster, for any number of tasks of one event loop; made by `raftkv.aio.connect`.

    A cancelled call leaves the outcome of its write unknown. Not usable in a child after a fork: make a new one there.
    """

    op: Operations = OPERATIONS

    def __init__(self, endpoints: tuple[str, ...], *, timeout: float, limits: Limits | None = None) -> None:
        self.endpoints = endpoints
        self._engine: Engine | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._timeout = checked_timeout(timeout)
        self._limits = limits or Limits()
        self._home = AsyncHome(self._usable)

    async def put(
        self, key: Key, value: Value, *, lease: SupportsIndex = 0, previous: bool = False, timeout: float | None = None
    ) -> PutResult:
        """Store a value."""
        return await self._run(calls.put(key, value, lease=lease, previous=previous), timeout)

    async def get(
        self, key: Key, *, revision: int = 0, serializable: bool = False, timeout: float | None = None
    ) -> KeyValue | None:
        """Read one key; None where it does not exist."""
        return await self._run(calls.get(key, revision=revision, serializable=serializable), timeout)

    def range(
        self,
        start: Key | None = None,
        end: Key | None = None,
        *,
        prefix: Key | None = None,
        limit: int | None = None,
        revision: int = 0,
        sort: Sort = "key",
        descending: bool = False,
        keys_only: bool = False,
        serializable: bool = False,
        timeout: float | None = None,
    ) -> AsyncRange:
        """Iterate with `async for` over keys, lazily and in pages, all at one revision."""
        request = calls.range_request(
            start,
            end,
            prefix=prefix,
            limit=limit,
            revision=revision,
            sort=sort,
            descending=descending,
            keys_only=keys_only,
            serializable=serializable,
        )
        return AsyncRange(self, Pages(request), timeout)

    async def count(
        self,
        start: Key | None = None,
        end: Key | None = None,
        *,
        prefix: Key | None = None,
        revision: int = 0,
        serializable: bool = False,
        timeout: float | None = None,
    ) -> int:
        """How many keys a range holds."""
        operation = calls.count(start, end, prefix=prefix, revision=revision, serializable=serializable)
        return await self._run(operation, timeout)

    async def delete(
        self,
        key: Key | None = None,
        *,
        prefix: Key | None = None,
        end: Key | None = None,
        previous: bool = False,
        timeout: float | None = None,
    ) -> DeleteResult:
        """Remove one key, the keys from `key` up to before `end`, or all keys with a prefix (`prefix=""`: all there are)."""
        return await self._run(calls.delete(key, prefix=prefix, end=end, previous=previous), timeout)

    def watch(
        self,
        key: Key | None = None,
        end: Key | None = None,
        *,
        prefix: Key | None = None,
        revision: int = 0,
        previous: bool = False,
        only: Only | None = None,
        progress: bool = False,
        timeout: float | None = None,
    ) -> AsyncWatch:
        """Hear of every change: `async with kv.watch(prefix="config/") as events`, then `async for batch in events`."""
        request = watch_request(key, end, prefix=prefix, revision=revision, previous=previous, only=only)
        seconds = self._seconds(timeout)
        return AsyncWatch(lambda: self._usable().watch_pool(), WatchCursor(request, progress=progress), seconds)

    def lease(
        self, ttl: int, *, on_lost: Callable[[AsyncLease], object] | None = None, timeout: float | None = None
    ) -> AsyncLease:
        """A lease that is kept alive: `async with kv.lease(10) as lease`, or `lease = await kv.lease(10)`."""
        return AsyncLease(self._home, ttl, timeout=self._seconds(timeout), on_lost=on_lost)

    async def leases(self, *, timeout: float | None = None) -> tuple[int, ...]:
        """The ids of all leases there are."""
        return await self._run(lease_calls.leases(), timeout)

    def lock(
        self,
        name: Key,
        *,
        ttl: int = 10,
        timeout: float | None = None,
        lease: AsyncLease | None = None,
        on_lost: Callable[[AsyncLock], object] | None = None,
    ) -> AsyncLock:
        """A lock, in the order in which it was asked for: `async with kv.lock("deploy", ttl=10) as lock`."""
        return AsyncLock(self._home, name, ttl, timeout=self._timeout, wait=timeout, lease=lease, on_lost=on_lost)

    def election(
        self, name: Key, *, ttl: int = 10, on_lost: Callable[[AsyncElection], object] | None = None
    ) -> AsyncElection:
        """An election: `async with kv.election("primary") as election`, then `await election.campaign("10.0.0.7")`."""
        return AsyncElection(self._home, name, ttl, timeout=self._timeout, on_lost=on_lost)

    def txn(self) -> AsyncTxn:
        """Build a transaction: `await kv.txn().when(...).then(...).otherwise(...).commit()`."""
        return AsyncTxn(self)

    def __getitem__(self, key: Key) -> KeyReference:
        """A key for the conditions of a transaction: `kv["config/mode"].value == b"blue"`. Reads nothing."""
        return KeyReference(key)

    async def compact(self, revision: int, *, physical: bool = False, timeout: float | None = None) -> CompactResult:
        """Drop the history before `revision`; with `physical` answer when it is gone from the disk too."""
        return await self._run(calls.compact(revision, physical=physical), timeout)

    async def status(self, endpoint: str | None = None, *, timeout: float | None = None) -> Status:
        """What a member says of itself; without `endpoint` the one this client is connected to."""
        return await self._ask(calls.status(), endpoint, timeout)

    async def members(self, *, linearizable: bool = True, timeout: float | None = None) -> tuple[Member, ...]:
        """The member table."""
        return await self._run(calls.members(linearizable=linearizable), timeout)

    async def hash_kv(
        self, revision: int = 0, *, endpoint: str | None = None, timeout: float | None = None
    ) -> HashResult:
        """A hash of a member's keys and revisions up to `revision` (0: all), equal on all members."""
        return await self._ask(calls.hash_kv(revision), endpoint, timeout)

    async def add_member(self, *peer_urls: str, learner: bool = False, timeout: float | None = None) -> Member:
        """Add a member; then start it with these peer URLs, an empty data directory and --initial-cluster-state existing.

        Raises:
            FailedPrecondition: a URL is taken, or too few members have started.
            Unavailable: a member does not answer ("unhealthy cluster"), or no leader was found in time.
        """
        return await self._run(calls.add_member(peer_urls, learner=learner), timeout)

    async def remove_member(self, member: int, *, timeout: float | None = None) -> tuple[Member, ...]:
        """Remove a member; it stops by itself. Returns those who are left.

        Raises:
            NotFound: there is no such member.
            FailedPrecondition, Unavailable: the others would have no quorum.
        """
        return await self._run(calls.remove_member(member), timeout)

    async def update_member(self, member: int, *peer_urls: str, timeout: float | None = None) -> tuple[Member, ...]:
        """Give a member other peer URLs.

        Raises:
            NotFound: there is no such member.
            FailedPrecondition: a URL is taken.
        """
        return await self._run(calls.update_member(member, peer_urls), timeout)

    async def promote_member(self, member: int, *, timeout: float | None = None) -> tuple[Member, ...]:
        """Have a learner vote.

        Raises:
            FailedPrecondition: it is no learner, or has not caught up yet.
        """
        return await self._run(calls.promote_member(member), timeout)

    async def move_leader(self, member: int, *, endpoint: str, timeout: float | None = None) -> None:
        """Have the leader, which serves clients at `endpoint`, hand over to the member with this id; return when that leads.

        Raises:
            FailedPrecondition: the one asked does not lead, or `member` is no voting member.
        """
        await self._ask(calls.move_leader(member), endpoint, timeout)

    @property
    def maintenance(self) -> AsyncMaintenance:
        """Alarms, defragmentation."""
        return AsyncMaintenance(self)

    async def snapshot(self, target: Target, *, endpoint: str | None = None, timeout: float | None = None) -> int:
        """Save a snapshot of the cluster's data to a path or an open binary file; `raftkv snapshot restore` takes it."""
        return await self.maintenance.snapshot(target, endpoint=endpoint, timeout=timeout)

    async def close(self) -> None:
        """Close the connections. Idempotent; whatever is called afterwards raises `Cancelled`, "the client is closed"."""
        self._closed = True
        self._home.close()
        if self._engine is not None:
            await self._usable().close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __del__(self) -> None:
        if getattr(self, "_engine", None) is not None and not self._closed:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)

    def __repr__(self) -> str:
        return f"<raftkv async client of {', '.join(self.endpoints)}{' (closed)' if self._closed else ''}>"

    def _usable(self) -> Engine:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            if self._loop is not None:
                raise RuntimeError(f"{self!r} belongs to another event loop; make a client for each loop")
            self._loop = loop
        if self._engine is None:
            if self._closed:
                raise closed_error()
            self._engine = Engine(self.endpoints, self._limits)
        return self._engine

    def _seconds(self, timeout: float | None) -> float:
        return self._timeout if timeout is None else checked_timeout(timeout)

    async def _run(self, operation: Operation[T], timeout: float | None) -> T:
        return await self._usable().perform(operation, self._seconds(timeout))

    async def _ask(self, operation: Operation[T], endpoint: str | None, timeout: float | None) -> T:
        if endpoint is None:
            return await self._run(operation, timeout)
        seconds = self._seconds(timeout)
        (address,) = parse_endpoints([endpoint])
        return await self._usable().ask(operation, address, seconds)


class AsyncRange(AsyncIterator[KeyValue]):
    """Iterates over a range; see `Client.range`."""

    def __init__(self, client: AsyncClient, pages: Pages, timeout: float | None) -> None:
        self._client = client
        self._pages = pages
        self._timeout = timeout
        self._items: Iterator[KeyValue] = iter(())

    @property
    def revision(self) -> int:
        """The revision that is read; 0 until the first page of a range "now" is there."""
        return self._pages.revision

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> KeyValue:
        while True:
            for item in self._items:
                return item
            page = self._pages.next_page()
            if page is None:
                raise StopAsyncIteration
            self._items = iter(self._pages.got(await self._client._run(page, self._timeout)))


class AsyncTxn(TxnBuilder):
    """Builds a transaction; see `TxnBuilder`."""

    def __init__(self, client: AsyncClient) -> None:
        super().__init__()
        self._client = client

    async def commit(self, *, timeout: float | None = None) -> TxnResult:
        """Do it: atomically, at one revision."""
        return await self._client._run(calls.txn(self.request), timeout)

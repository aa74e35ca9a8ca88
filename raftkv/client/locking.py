"""A lock for asyncio: a place in a queue, and what its holder may believe.

What may not live here: the queue (`contending`), the lease (`leasing`), threads (`locking_sync`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from raftkv.client.calls import Key
from raftkv.client.contending import Contention, Place
from raftkv.client.leasing import AsyncLease, AsyncLost, Home, checked_wait, not_in_time
from raftkv.client.tenure import Tenure
from raftkv.client.transaction import Condition
from raftkv.errors import Cancelled, RequestError

NOT_HELD = "the lock is not held: enter it, or acquire it"


@dataclass(frozen=True, slots=True)
class _Hold:
    place: Place
    tenure: Tenure


class AsyncLock:
    """A lock; made by `AsyncClient.lock`. See `Client.lock`.

    Attributes:
        name: as given.
        lost: an event: the lease that the lock hangs on is gone, and so is the lock.
    """

    def __init__(
        self,
        home: Home,
        name: Key,
        ttl: int,
        *,
        timeout: float,
        wait: float | None,
        lease: AsyncLease | None = None,
        on_lost: Callable[[AsyncLock], object] | None = None,
    ) -> None:
        """Args:
        home: where calls are made.
        name: of the lock.
        ttl: seconds, of the lease.
        timeout: seconds for each call.
        wait: seconds, for the lock; None: for as long as it takes.
        lease: one that is there already, and is not revoked with the lock.
        on_lost: called when the lease of its own is lost.
        """
        self.name = name
        self._home = home
        self._contention = Contention(home, name, timeout=timeout)
        self._wait = checked_wait(wait)
        self._lends = lease
        self._ttl = ttl
        self._timeout = timeout
        self._on_lost = on_lost
        self._lease = self._make_lease() if lease is None else lease
        self._place: Place | None = None
        self._hold: _Hold | None = None
        self._is_held = False
        self._acquiring: asyncio.Task[Any] | None = None
        self._entering: asyncio.Future[tuple[Place, bytes]] | None = None
        self.lost = AsyncLost(lambda: self.hold.tenure)

    @property
    def hold(self) -> _Hold:
        """What is held, or was last.

        Raises:
            RuntimeError: it has never been held.
        """
        if self._hold is None:
            raise RuntimeError(NOT_HELD)
        return self._hold

    @property
    def key(self) -> bytes:
        """The key that stands for it while it is held."""
        return self.hold.place.key

    @property
    def fencing_token(self) -> int:
        """The create revision of its key: every later holder's is greater. Can be read after the lock was lost, too."""
        return self.hold.place.revision

    @property
    def fence(self) -> Condition:
        """For transactions: this very holder has the lock still."""
        return self.hold.place.is_held

    @property
    def is_held(self) -> bool:
        """Whether the lock is ours, by our own clock. Asks no server."""
        return self._is_held and not self.hold.tenure.is_over

    def require(self) -> None:
        """Return if the lock is ours still, by our own clock.

        Raises:
            LeaseLost: it is not.
        """
        self.hold.tenure.require()

    async def acquire(self, *, timeout: float | None = None) -> None:
        """Queue for it, and wait until it is ours.

        Args:
            timeout: seconds; None: as given when the lock was made.

        Raises:
            DeadlineExceeded: it was not free in time; we do not stand in the queue any more.
            LeaseLost: our lease was lost, so nothing is held.
        """
        if self._is_held:
            raise RuntimeError(f"the lock {self.name!r} is held already: release it first")
        wait = self._wait if timeout is None else checked_wait(timeout)
        self._acquiring = asyncio.current_task()
        try:
            async with asyncio.timeout(wait):
                await self._acquire()
        except TimeoutError:
            await self._give_up()
            raise not_in_time(f"the lock {self.name!r} was not free", wait) from None
        except Cancelled:
            raise  # The client is closed, or has a fork to make: then we go on from our place.
        except BaseException:
            await self._give_up()
            raise
        finally:
            self._acquiring = None

    async def settled(self) -> None:
        """Return when no `acquire` is under way any more, one that was cancelled included."""
        if self._acquiring is not None:
            await asyncio.wait((self._acquiring,))

    async def _acquire(self) -> None:
        lease = self._lease
        await lease.start()
        # To its end, whoever is cancelled: else nobody would know whether a lease that is lent has a key to be deleted.
        self._entering = asyncio.ensure_future(self._contention.enter(lease, b""))
        place, _ = await lease.while_ours(asyncio.shield(self._entering))
        self._place = place
        await self._contention.turn(place, lease)
        self._hold = _Hold(place, lease.tenure)
        self._is_held = True

    async def release(self) -> None:
        """Let the next one have it. Nothing where it is not held.

        Raises:
            RequestError: nobody answered; the lock goes by itself when its lease does.
        """
        if not self._is_held:
            return
        self._is_held = False
        if self._lends is not None:
            await self._contention.leave(self.hold.place)
            return
        lease, self._lease = self._lease, self._make_lease()
        await lease.revoke()

    async def end(self, *, is_quiet: bool) -> None:
        """Of a `with` block: release the lock, or let it go by itself.

        Raises:
            LeaseLost: it was lost meanwhile, unless `is_quiet`.
        """
        if not self._is_held:
            return
        try:
            if not is_quiet:
                self.require()
        finally:
            await self._give_up()

    async def _give_up(self) -> None:
        """Leave the queue, or the lock, as far as that is possible."""
        self._is_held = False
        place, self._place = self._place, None
        entering, self._entering = self._entering, None
        if self._lends is None:
            lease, self._lease = self._lease, self._make_lease()
            await self._contention.give_up(place, lease, owns_lease=True)
        if entering is not None and place is None:
            with contextlib.suppress(RequestError):
                place, _ = await entering
        if self._lends is not None:
            await self._contention.give_up(place, self._lends, owns_lease=False)

    async def __aenter__(self) -> Self:
        await self.acquire()
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
        return f"<raftkv lock {self.name!r}{' (held)' if self.is_held else ''}>"

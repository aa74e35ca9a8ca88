"""A lock for asyncio: whoever comes first in the queue holds it.

What may not live here: standing in the queue (`contender`), threads (`locking_sync`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

from raftkv.client.calls import Key
from raftkv.client.contender import AsyncContender
from raftkv.client.leasing import AsyncLease, Home, checked_wait


class AsyncLock(AsyncContender):
    """A lock; made by `AsyncClient.lock`. See `Client.lock`."""

    NEVER_OURS = "the lock is not held: enter it, or acquire it"

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
        """As of `AsyncContender`, and `wait`: seconds, for the lock; None: for as long as it takes."""
        super().__init__(home, name, ttl, timeout=timeout, lease=lease, on_lost=on_lost)
        self._wait = checked_wait(wait)

    @property
    def is_held(self) -> bool:
        """Whether the lock is ours, by our own clock. Asks no server."""
        return self.is_ours

    async def acquire(self, *, timeout: float | None = None) -> None:
        """Queue for it, and wait until it is ours.

        Args:
            timeout: seconds; None: as given when the lock was made.

        Raises:
            DeadlineExceeded: it was not free in time; we do not stand in the queue any more.
            RequestError: nor could our key be deleted from a lease that goes on: `release` tries that again.
            LeaseLost: our lease was lost, so nothing is held.
        """
        if self._is_ours:
            raise RuntimeError(f"the lock {self.name!r} is held already: release it first")
        wait = self._wait if timeout is None else checked_wait(timeout)
        await self._stand(b"", wait, f"the lock {self.name!r} was not free")

    async def release(self) -> None:
        """Let the next one have it. Nothing where it is not held.

        Raises:
            RequestError: nobody answered; the lock goes by itself when its lease does. On a lease that goes on, release it again.
        """
        await self._let_go()

    async def __aenter__(self) -> Self:
        await self.acquire()
        return self

    def __repr__(self) -> str:
        return f"<raftkv lock {self.name!r}{' (held)' if self.is_held else ''}>"

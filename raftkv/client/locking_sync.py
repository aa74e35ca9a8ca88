"""Locks for threads: the async one, run on the client's loop.

What may not live here: what a lock does (`locking`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

from raftkv.client.calls import Key
from raftkv.client.contender_sync import Contender
from raftkv.client.leasing_sync import Lease, in_a_thread
from raftkv.client.locking import AsyncLock
from raftkv.client.runner import Runner


class Lock(Contender[AsyncLock]):
    """A lock; made by `Client.lock`."""

    def __init__(
        self,
        runner: Runner,
        name: Key,
        ttl: int,
        *,
        timeout: float,
        wait: float | None,
        lease: Lease | None = None,
        on_lost: Callable[[Lock], object] | None = None,
    ) -> None:
        lends = None if lease is None else lease.inner
        told = in_a_thread(on_lost, self)
        super().__init__(runner, AsyncLock(runner, name, ttl, timeout=timeout, wait=wait, lease=lends, on_lost=told))

    @property
    def is_held(self) -> bool:
        """Whether the lock is ours, by our own clock. Asks no server."""
        return self._inner.is_held

    def acquire(self, *, timeout: float | None = None) -> None:
        """Queue for it, and wait until it is ours.

        Args:
            timeout: seconds; None: as given when the lock was made.

        Raises:
            DeadlineExceeded: it was not free in time; we do not stand in the queue any more.
            RequestError: nor could our key be deleted from a lease that goes on: `release` tries that again.
            LeaseLost: our lease was lost, so nothing is held.
        """
        self._stand(lambda: self._inner.acquire(timeout=timeout))

    def release(self) -> None:
        """Let the next one have it. Nothing where it is not held.

        Raises:
            RequestError: nobody answered; the lock goes by itself when its lease does. On a lease that goes on, release it again.
        """
        self._runner.run_anew(lambda _: self._inner.release())

    def __enter__(self) -> Self:
        self.acquire()
        return self

"""Locks for threads: the async one, run on the client's loop.

What may not live here: what a lock does (`locking`).
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

from raftkv.client.calls import Key
from raftkv.client.leasing_sync import Lease, Lost, in_a_thread
from raftkv.client.locking import AsyncLock
from raftkv.client.runner import Runner
from raftkv.client.transaction import Condition
from raftkv.errors import RequestError


class Lock:
    """A lock; made by `Client.lock`. For one thread at a time.

    Attributes:
        name: as given.
        lost: an event with `is_set()` and `wait(timeout)`: the lease that the lock hangs on is gone, and so is the lock. Goes by
            this machine's own clock.
    """

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
        self.name = name
        self._runner = runner
        self._lock = AsyncLock(
            runner,
            name,
            ttl,
            timeout=timeout,
            wait=wait,
            lease=None if lease is None else lease.inner,
            on_lost=in_a_thread(on_lost, self),
        )
        self.lost = Lost(lambda: self._lock.hold.tenure)

    @property
    def key(self) -> bytes:
        """The key that stands for it while it is held."""
        return self._lock.key

    @property
    def fencing_token(self) -> int:
        """The create revision of its key: every later holder's is greater. Can be read after the lock was lost, too."""
        return self._lock.fencing_token

    @property
    def fence(self) -> Condition:
        """For transactions: this very holder has the lock still."""
        return self._lock.fence

    @property
    def is_held(self) -> bool:
        """Whether the lock is ours, by our own clock. Asks no server."""
        return self._lock.is_held

    def require(self) -> None:
        """Return if the lock is ours still, by our own clock.

        Raises:
            LeaseLost: it is not.
        """
        self._lock.require()

    def acquire(self, *, timeout: float | None = None) -> None:
        """Queue for it, and wait until it is ours.

        Args:
            timeout: seconds; None: as given when the lock was made.

        Raises:
            DeadlineExceeded: it was not free in time; we do not stand in the queue any more.
            LeaseLost: our lease was lost, so nothing is held.
        """
        try:
            self._runner.run_anew(lambda _: self._lock.acquire(timeout=timeout))
        except RequestError:
            raise
        except BaseException:  # Of a signal, mostly: not before our place in the queue has been given up.
            self._runner.run_if_open(lambda _: self._lock.settled())
            raise

    def release(self) -> None:
        """Let the next one have it. Nothing where it is not held.

        Raises:
            RequestError: nobody answered; the lock goes by itself when its lease does.
        """
        self._runner.run_anew(lambda _: self._lock.release())

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._runner.is_closed:
            self._runner.run_anew(lambda _: self._lock.end(is_quiet=error is not None))

    def __repr__(self) -> str:
        return repr(self._lock)

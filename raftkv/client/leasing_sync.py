"""Leases for threads: the async one, run on the client's loop.

What may not live here: what a lease does (`leasing`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

from raftkv.client.leasing import AsyncLease
from raftkv.client.operation import SIGNALS_S
from raftkv.client.runner import Runner
from raftkv.client.tenure import Tenure

_GRAIN_S: Final = 0.001


class Lost:
    """Tells that a lease is gone. Like a `threading.Event` that nobody sets by hand."""

    def __init__(self, tenure: Callable[[], Tenure]) -> None:
        self._tenure = tenure

    def is_set(self) -> bool:
        """Whether it is gone, by our own clock; asks no server."""
        return self._tenure().is_over

    def wait(self, timeout: float | None = None) -> bool:
        """Return True when it is gone; or, after `timeout` seconds, whether it is."""
        tenure = self._tenure()
        gone = threading.Event()
        tenure.listen(gone.set)
        end = None if timeout is None else time.monotonic() + timeout
        try:
            # Not for the event alone: the thread that would set it may be the one that hangs.
            while not tenure.is_over:
                left = tenure.remaining() if end is None else min(tenure.remaining(), end - time.monotonic())
                if end is not None and left <= 0:
                    break
                gone.wait(min(max(left, _GRAIN_S), SIGNALS_S))
        finally:
            tenure.ignore(gone.set)
        return tenure.is_over


class Lease:
    """A lease that is kept alive; made by `Client.lease`.

    Attributes:
        lost: an event with `is_set()` and `wait(timeout)`: the lease is gone, because nobody could renew it, or because it was
            revoked. Goes by this machine's own clock.
    """

    def __init__(
        self, runner: Runner, ttl: int, *, timeout: float, on_lost: Callable[[Lease], object] | None = None
    ) -> None:
        self._runner = runner
        self._lease = AsyncLease(runner, ttl, timeout=timeout, on_lost=in_a_thread(on_lost, self))
        self.lost = Lost(lambda: self._lease.tenure)
        runner.run_anew(lambda _: self._lease.start())

    @property
    def id(self) -> int:
        """The lease's id, as other clients see it (in hexadecimal, mostly)."""
        return self._lease.id

    @property
    def ttl(self) -> int:
        """Seconds, as granted: no less than asked for."""
        return self._lease.ttl

    @property
    def inner(self) -> AsyncLease:
        """The one on the loop, for locks that are to hang on it."""
        return self._lease

    def remaining(self) -> float:
        """Seconds for which the lease is surely ours if no renewal comes through from now on. Asks no server."""
        return self._lease.remaining()

    def require(self) -> None:
        """Return if the lease is ours still, by our own clock.

        Raises:
            LeaseLost: it is not.
        """
        self._lease.require()

    def keys(self, *, timeout: float | None = None) -> tuple[bytes, ...]:
        """The keys that hang on it."""
        return self._runner.run_anew(lambda _: self._lease.keys(timeout=timeout))

    def revoke(self, *, timeout: float | None = None) -> None:
        """Give it back: its keys are deleted. Idempotent; nothing where the lease is another process's (after a fork).

        Raises:
            RequestError: nobody answered; the lease is renewed no more, and goes by itself.
        """
        self._runner.run_anew(lambda _: self._lease.revoke(timeout=timeout))

    def __index__(self) -> int:
        """For `put(..., lease=lease)`.

        Raises:
            LeaseLost: it is ours no more.
        """
        return self._lease.__index__()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._runner.is_closed:
            self._runner.run_anew(lambda _: self._lease.release())

    def __repr__(self) -> str:
        return repr(self._lease)


def in_a_thread(callback: Callable[[Any], object] | None, subject: object) -> Callable[[object], object] | None:
    """The callback, called with `subject` on a thread of its own: on the client's it could not call the client."""
    if callback is None:
        return None

    def call(_: object) -> None:
        threading.Thread(target=callback, args=(subject,), name="raftkv-lost", daemon=True).start()

    return call

"""What the owner of a lease may believe, by its own clock.

    granted at most TTL ago, counted from when the request was *sent* ──► ours
    renewed at most TTL ago, counted likewise                         ──► ours
    neither                                                           ──► lost, for good, whatever answers come later

The server counts from a later moment (it grants, or renews, after the request was sent), so while the owner believes in the
lease, so does the server. A process that was stopped, or a machine that slept, finds out before it does anything else:
whether a lease is lost is read off the clock, not told by a task that would have to run first.

What may not live here: I/O, tasks.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from raftkv.errors import LeaseLost

RENEWALS_PER_TTL: Final = 3
"""Two renewals may fail before the lease is in danger."""

_CLOCK: Final[int | None] = getattr(time, "CLOCK_BOOTTIME", None)


def now() -> float:
    """Seconds on a clock that never goes backwards, and where there is one (Linux) goes on while the machine sleeps."""
    return time.monotonic() if _CLOCK is None else time.clock_gettime(_CLOCK)


class Tenure:
    """The time for which a lease is ours. Any thread may ask.

    Attributes:
        lease_id: of the lease.
        granted_ttl: seconds, as the server granted them.
    """

    def __init__(self, lease_id: int, ttl: int, *, sent_at: float, clock: Callable[[], float] = now) -> None:
        self.lease_id = lease_id
        self.granted_ttl = ttl
        self._clock = clock
        self._sent_at = sent_at
        self._expires_at = sent_at + ttl
        self._lock = threading.Lock()  # Who was told that it is over must not see it go on.
        self._end: str | None = None
        self._is_lost = False
        self._listeners: set[Callable[[], None]] = set()

    @property
    def is_over(self) -> bool:
        """Whether it is ours no more: lost, revoked, or left behind."""
        with self._lock:
            return self._check()

    @property
    def is_lost(self) -> bool:
        """Whether it ended without its owner wanting it."""
        return self.is_over and self._is_lost

    def remaining(self) -> float:
        """Seconds for which it is surely ours, without another renewal; 0: it is over."""
        with self._lock:
            return 0.0 if self._check() else self._expires_at - self._clock()

    def renew_in(self) -> float:
        """Seconds until the next renewal is due; never later than the end."""
        due_at = self._sent_at + self.granted_ttl / RENEWALS_PER_TTL
        return max(0.0, min(due_at, self._expires_at) - self._clock())

    def renewed(self, ttl: int, *, sent_at: float) -> None:
        """The server renewed it for `ttl` seconds; the request was sent at `sent_at`."""
        with self._lock:
            if not self._check():
                self._sent_at = sent_at
                self._expires_at = max(self._expires_at, sent_at + ttl)

    def end(self, why: str, *, is_lost: bool) -> None:
        """It is over, if it is not already. Tells the listeners; from now on they are told at once."""
        with self._lock:
            if not self._check():
                self._end, self._is_lost = why, is_lost
            listeners = list(self._listeners)
        for listener in listeners:
            listener()

    def leave_behind(self, why: str) -> None:
        """In a process that was forked: it belongs to the parent. The threads that knew lock and listeners are gone."""
        self._lock = threading.Lock()
        self._listeners.clear()
        if self._end is None:
            self._end, self._is_lost = why, True

    def require(self) -> None:
        """Return if it is ours.

        Raises:
            LeaseLost: it is not; says why.
        """
        if self.is_over:
            raise LeaseLost(f"lease {self.lease_id:016x} is gone: {self._end}")

    def listen(self, listener: Callable[[], None]) -> None:
        """Call it, on whatever thread notices, when the lease is over."""
        self._listeners.add(listener)
        if self._end is not None:
            listener()

    def ignore(self, listener: Callable[[], None]) -> None:
        """Call it no more."""
        self._listeners.discard(listener)

    def _check(self) -> bool:
        if self._end is None and self._clock() >= self._expires_at:
            self._end = f"no renewal was confirmed within its TTL of {self.granted_ttl} s"
            self._is_lost = True
        return self._end is not None

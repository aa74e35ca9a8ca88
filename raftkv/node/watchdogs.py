"""Where the signs come from that a node's health is judged by: the log's thread, the state machine's, the loop, the disk.

What may not live here: the verdict (`health`), and what follows from it (the core).
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from raftkv.node.health import Health, HealthWatch, Signs, Watchdogs
from raftkv.raft import Raft

LOOK_S = 1.0
"""Between two looks at the disk's free space."""


def free_bytes(path: Path) -> int:
    """What we may still write to the file system of a path. Raises OSError."""
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


class DiskSpace:
    """Looks at the free space of a file system, on a thread of its own: on a hung disk even that does not come back.

    Args:
        path: any file or directory on it.
        look: how to ask: bytes that are free there. Raises OSError.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        path: Path,
        *,
        look: Callable[[Path], int] = free_bytes,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._look = look
        self._clock = clock
        self._look_since: float | None = None
        self._is_closed = threading.Event()
        self.free_bytes: int | None = None
        """As of the last look; None before the first one, or if it cannot be told."""
        self._thread = threading.Thread(target=self._run, name="raftkv-space", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """The thread ends by itself, soon; nobody waits for it."""
        self._is_closed.set()

    def look_since(self) -> float | None:
        """When the look began that is under way."""
        return self._look_since

    def _run(self) -> None:
        while not self._is_closed.is_set():
            self._look_since = self._clock()
            try:
                self.free_bytes = self._look(self._path)
            except OSError:
                self.free_bytes = None  # The data directory is gone; the log will say so, louder.
            self._look_since = None
            self._is_closed.wait(LOOK_S)


class Monitor:
    """Gathers the signs with every tick and has them judged.

    Args:
        clock: monotonic seconds; `log_write_since` and `space` use the same.
        log_write_since: when the log write began that is under way (`WalWriter.in_flight_since`).
        space: None where nobody looks.
    """

    def __init__(
        self,
        watchdogs: Watchdogs,
        *,
        clock: Callable[[], float],
        log_write_since: Callable[[], float | None],
        space: DiskSpace | None = None,
    ) -> None:
        self._watch = HealthWatch(watchdogs)
        self._clock = clock
        self._log_write_since = log_write_since
        self._space = space
        self._applied_index = 0
        self._applied_at = clock()

    @property
    def health(self) -> Health:
        """The last verdict."""
        return self._watch.health

    def look(self, raft: Raft, *, apply_queued_index: int, loop_lag_s: float) -> Health:
        """The verdict as of now.

        Args:
            raft: whose applied index is watched.
            apply_queued_index: what the state machine was given.
            loop_lag_s: how late this tick came.
        """
        now = self._clock()
        applied = raft.applied_index
        if applied >= apply_queued_index or applied != self._applied_index:
            self._applied_index, self._applied_at = applied, now
        space = self._space
        signs = Signs(
            log_write_s=_age(self._log_write_since(), now),
            apply_wait_s=now - self._applied_at,
            loop_lag_s=loop_lag_s,
            disk_free_bytes=space.free_bytes if space else None,
            space_look_s=_age(space.look_since(), now) if space else 0.0,
        )
        return self._watch.observe(signs, now)


def _age(since: float | None, now: float) -> float:
    return 0.0 if since is None else max(0.0, now - since)

"""A node's ports in virtual time: the product's queues for log and state machine, carried out when it is their turn.

Everything here belongs to the node's process: it stands still and dies with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from raftkv.node import ApplyQueue
from raftkv.raft import Entry, Save, SavedMark, SnapshotMeta
from raftkv.statemachine import StateMachine
from raftkv.storage import WalQueue

CLOCK_STEP_S = 1e-6
IDLE_WAIT = 50_000
"""How often a state machine without work looks whether a commit or a compaction is due; microseconds."""


JOBS_PER_COMMIT = 3
"""One job of so many waits for a commit first: what it will answer may be foreseen."""


class VirtualLog:
    """The log's thread: a group takes as long as the disk takes."""

    def __init__(self, queue: WalQueue, delay: Callable[[], int]) -> None:
        self._queue = queue
        self._delay = delay
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._since: float | None = None
        self.hangs_until = 0.0

    def save(self, save: Save, done: Callable[[SavedMark], None]) -> None:
        self._queue.save(save, done)
        self._begin()

    def compact(self, base: SnapshotMeta) -> None:
        self._queue.compact(base)
        self._begin()

    def in_flight_since(self) -> float | None:
        return self._since

    @property
    def is_busy(self) -> bool:
        return self._timer is not None

    def hang(self, seconds: float) -> None:
        """Whatever the disk is asked now, it answers no sooner."""
        self.hangs_until = self._loop.time() + seconds

    def recover(self) -> None:
        """The disk answers again."""
        self.hangs_until = 0.0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = self._loop.call_later(self._delay() / 1e6, self._work)

    def _begin(self) -> None:
        if self._timer is None:
            now = self._since = self._loop.time()
            self._timer = self._loop.call_at(max(now + self._delay() / 1e6, self.hangs_until), self._work)

    def _work(self) -> None:
        self._timer = None
        if self.hangs_until - self._loop.time() > CLOCK_STEP_S:
            self._timer = self._loop.call_at(self.hangs_until, self._work)
            return
        self._since = None
        if self._queue.work() and self._queue.backlog:
            self._begin()


class VirtualApplier:
    """The state machine's thread. `looked_at` is called after each job."""

    def __init__(self, queue: ApplyQueue, delay: Callable[[], int], looked_at: Callable[[], None]) -> None:
        self._queue = queue
        self._delay = delay
        self._looked_at = looked_at
        self._loop = asyncio.get_running_loop()
        self._is_busy = False
        self._jobs_begun = 0
        self._commit = ExitStack()
        self._idle_timer = self._loop.call_later(IDLE_WAIT / 1e6, self._keep_house)

    def apply(self, entries: Sequence[Entry]) -> None:
        self._queue.apply(entries)
        self._begin()

    def install(self, path: Path, snapshot: SnapshotMeta) -> None:
        self._queue.install(path, snapshot)
        self._begin()

    def call(self, job: Callable[[StateMachine], Any], done: Callable[[Any], None]) -> None:
        self._queue.call(job, done)
        self._begin()

    def _begin(self) -> None:
        if not self._is_busy:
            self._is_busy = True
            self._jobs_begun += 1
            if self._jobs_begun % JOBS_PER_COMMIT == 0:
                self._commit.enter_context(self._queue.while_committing())
            self._loop.call_later(self._delay() / 1e6, self._work)

    def _work(self) -> None:
        self._is_busy = False
        self._commit.close()
        is_open = self._queue.work(wait_s=0.0)
        self._looked_at()
        if is_open and self._queue.backlog:
            self._begin()

    def _keep_house(self) -> None:
        """As the thread does when nothing comes."""
        if self._is_busy or self._queue.work(wait_s=0.0):
            self._idle_timer = self._loop.call_later(IDLE_WAIT / 1e6, self._keep_house)

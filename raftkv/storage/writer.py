"""The owner of the `Wal`: whatever was queued while the last write ran goes as one write and one sync.

The event loop hands saves over and never waits for the disk; acknowledgements come back in order. The disk may be slow
(`in_flight_since` tells a watchdog) but it is never asked twice: after a failed write or sync nothing is acknowledged.

What is done, group by group, is `WalQueue`'s; `WalWriter` is the thread that does it, and a simulator does it in its own time.

May not live here: bytes, files, and any decision about Raft.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Final

from raftkv.durations import Durations
from raftkv.raft.ready import Save
from raftkv.raft.types import SavedMark, SnapshotMeta
from raftkv.storage.wal import Wal

GROUP_BYTES_MAX: Final = 4 * 1024 * 1024
"""Payload after which a group is closed: more would delay the first of it without saving much on the sync."""

Done = Callable[[SavedMark], None]


@dataclass(frozen=True, slots=True)
class WalStats:
    """Counts since the start. A sync's time covers write and sync of its group, in seconds."""

    saves: int = 0
    groups: int = 0
    bytes_written: int = 0
    syncs: int = 0
    sync_seconds_total: float = 0.0
    sync_seconds_last: float = 0.0
    sync_seconds_max: float = 0.0


class WalQueue:
    """Saves and compactions for a `Wal`, which it owns from now on, up to and including closing it; and their carrying out.

    One thread calls `work`; the others may be called from any. The queue has no bound of its own: the core bounds what can
    be waiting (its uncommitted log as leader, what a leader may have in flight to it as follower), and the caller sees a slow
    disk through `in_flight_since`.

    Args:
        wal: nobody else may touch it again.
        failed: called once, from within `work`, with what went wrong; afterwards nothing is acknowledged, ever.
        clock: monotonic seconds.
    """

    def __init__(
        self, wal: Wal, *, failed: Callable[[BaseException], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._wal = wal
        self._failed = failed
        self._clock = clock
        self._queue: SimpleQueue[tuple[Save, Done] | SnapshotMeta | None] = SimpleQueue()
        self._in_flight_since: float | None = None
        self._stats = WalStats()
        self.sync_durations = Durations()
        """What a sync's time covers: see `WalStats`."""
        self._closing = False

    def save(self, save: Save, done: Done) -> None:
        """Queue a save; returns at once. From any thread, but saves of several threads have no order.

        `done(save.mark)` is called from within `work` once the save and everything before it is durable; a group in
        which nothing `must_sync` is acknowledged when it is written. It must be quick and must not raise.
        """
        assert not self._closing, "a save after close"
        self._queue.put((save, done))

    def compact(self, base: SnapshotMeta) -> None:
        """Queue a compaction: carried out after the saves that were queued before it."""
        assert not self._closing, "a compaction after close"
        self._queue.put(base)

    def in_flight_since(self) -> float | None:
        """When the disk operation began that has not come back yet, in the clock's seconds; None: the disk owes nothing."""
        return self._in_flight_since

    @property
    def stats(self) -> WalStats:
        return self._stats

    @property
    def backlog(self) -> int:
        """Saves and compactions waiting for their turn, roughly."""
        return self._queue.qsize()

    def finish(self) -> None:
        """Nothing is queued after this: when everything is carried out, close the log. Doing it twice is once."""
        if not self._closing:
            self._closing = True
            self._queue.put(None)

    def work(self) -> bool:
        """Wait for something to do, and carry out one group. False: this was the end, by `finish` or by a failure."""
        try:
            if self._step():
                return True
            self._wal.close()
        except BaseException as error:
            # Nothing more is acknowledged; whoever owns the node decides. A bug must not look like a slow disk.
            self._in_flight_since = None
            try:
                self._wal.close()
            finally:
                self._failed(error)
        return False

    def _step(self) -> bool:
        """Wait for work and carry out one group. False: asked to stop."""
        group: list[tuple[Save, Done]] = []
        size = 0
        item = self._queue.get()
        while isinstance(item, tuple):
            group.append(item)
            size += sum(entry.size for entry in item[0].entries)
            if size >= GROUP_BYTES_MAX or self._queue.empty():
                break
            item = self._queue.get()
        if group:
            self._write(group)
        if isinstance(item, SnapshotMeta):
            self._in_flight_since = self._clock()
            self._wal.compact(item)
            self._in_flight_since = None
        return item is not None

    def _write(self, group: list[tuple[Save, Done]]) -> None:
        began = self._in_flight_since = self._clock()
        self._wal.append([save for save, _ in group])
        synced = any(save.must_sync for save, _ in group)
        if synced:
            self._wal.sync()
        seconds = self._clock() - began
        self._in_flight_since = None
        self._count(len(group), seconds if synced else None)
        if synced:
            self.sync_durations.add(seconds)
        for save, done in group:
            done(save.mark)

    def _count(self, saves: int, sync_seconds: float | None) -> None:
        old = self._stats
        self._stats = WalStats(  # One assignment: a reader on another thread sees a whole one.
            saves=old.saves + saves,
            groups=old.groups + 1,
            bytes_written=self._wal.bytes_written,
            syncs=old.syncs + (sync_seconds is not None),
            sync_seconds_total=old.sync_seconds_total + (sync_seconds or 0.0),
            sync_seconds_last=old.sync_seconds_last if sync_seconds is None else sync_seconds,
            sync_seconds_max=max(old.sync_seconds_max, sync_seconds or 0.0),
        )


class WalWriter(WalQueue):
    """Carries it out on a thread of its own, from now on."""

    def __init__(
        self, wal: Wal, *, failed: Callable[[BaseException], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(wal, failed=failed, clock=clock)
        self._thread = threading.Thread(target=self._run, name="wal", daemon=True)
        self._thread.start()

    def close(self, timeout_s: float | None = None) -> bool:
        """Carry out what is queued, close the log, stop the thread.

        Returns:
            True when all that is done, or when an earlier failure ended it; False when the disk did not come back within
            `timeout_s` (the thread is a daemon: the process can exit).
        """
        self.finish()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while self.work():
            pass

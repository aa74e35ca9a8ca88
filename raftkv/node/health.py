"""Whether this node is fit to lead: what its watchdogs saw, weighed into one verdict.

    a log write under way for long ─┐
    nothing applied for long ───────┤
    the event loop held up often ───┼─► HealthWatch ─► Health (severity, reasons) ─► the core, and with it the peers
    little room on the disk ────────┘

Failover systems fail because the sick leader still looks healthy: its process lives and its heartbeats leave, while nothing
moves. So every node judges itself, tells its leader with each heartbeat's answer, and the core of the leader decides (see
`raftkv.raft.leader`): a leader that is worse off than some follower that could take over hands over to it; who is sick
campaigns late; where everybody is equally sick nobody moves, as with a disk that all share.

A sickness begins at once when its threshold is passed and ends only when nothing was wrong for `recovery_s`: leadership must
not go back and forth with a disk that comes and goes.

What may not live here: threads, clocks, files (who asks brings the signs and the time), and what follows from a verdict.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import IntEnum

LAGS_WINDOW_S = 10.0
LAGS_MIN = 3
"""One late tick is an accident; so many within the window say that the loop does not keep up."""


class Severity(IntEnum):
    """How unfit to lead; told to peers as a number, compared by the core. A higher one never leads while a lower one could."""

    WELL = 0
    SLOW = 1
    """It works, late: the loop or the state machine does not keep up."""
    STUCK = 2
    """Something does not come back: a log write, the state machine's thread."""
    FULL = 3
    """There is hardly room for the log: the next write may end this node."""


@dataclass(frozen=True, slots=True)
class Health:
    severity: Severity = Severity.WELL
    reasons: tuple[str, ...] = ()
    """For people, worst first, with figures: "a log write has been under way for 0.41 s"."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Watchdogs:
    """Thresholds; 0 turns a watchdog off."""

    fsync_s: float = 0.3
    """A log write (and sync) that takes longer is stuck. A healthy disk under full load takes some 10 ms, 100 at worst."""
    apply_s: float = 0.5
    """Entries wait to be applied and none was for so long: the state machine's thread is stuck."""
    loop_s: float = 0.25
    """A tick that comes so late counts against the node."""
    disk_free_bytes: int = 64 * 1024 * 1024
    """Free space in the data directory below which the node counts as full: a few segments of the log."""
    recovery_s: float = 10.0
    """How long nothing may be wrong before a sick node counts as well."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Signs:
    """What the node sees of itself at one moment."""

    log_write_s: float = 0.0
    """Age of the log write under way."""
    apply_wait_s: float = 0.0
    """Since something was last applied, while something waits to be."""
    loop_lag_s: float = 0.0
    """How late the last tick came."""
    disk_free_bytes: int | None = None
    """None: not known."""
    space_look_s: float = 0.0
    """Age of the look at the disk's free space that is under way: it can hang, too."""


class HealthWatch:
    """Turns signs into a verdict, with a memory."""

    def __init__(self, watchdogs: Watchdogs) -> None:
        self._watchdogs = watchdogs
        self._late_ticks: deque[float] = deque()
        self._health = Health()
        self._sick_at = 0.0

    @property
    def health(self) -> Health:
        return self._health

    def observe(self, signs: Signs, now_s: float) -> Health:
        """The verdict as of now. Call it with every tick; `now_s` is any monotonic clock's."""
        found = self._symptoms(signs, now_s)
        if found:
            self._sick_at = now_s
            worst = max(severity for severity, _ in found)
            if worst >= self._health.severity:
                self._health = Health(worst, tuple(text for _, text in sorted(found, reverse=True)))
        elif self._health.severity and now_s - self._sick_at >= self._watchdogs.recovery_s:
            self._health = Health()
        return self._health

    def _symptoms(self, signs: Signs, now_s: float) -> list[tuple[Severity, str]]:
        dogs = self._watchdogs
        found: list[tuple[Severity, str]] = []
        free = signs.disk_free_bytes
        if free is not None and free < dogs.disk_free_bytes:
            found.append((Severity.FULL, f"{free >> 20} MiB are free on the disk"))
        write_s = max(signs.log_write_s, signs.space_look_s)
        if 0 < dogs.fsync_s < write_s:
            found.append((Severity.STUCK, f"the disk has not come back for {write_s:.2f} s"))
        if 0 < dogs.apply_s < signs.apply_wait_s:
            found.append((Severity.STUCK, f"nothing was applied for {signs.apply_wait_s:.2f} s"))
        if self._is_late(signs.loop_lag_s, now_s):
            found.append((Severity.SLOW, f"the event loop was held up {len(self._late_ticks)} times"))
        return found

    def _is_late(self, lag_s: float, now_s: float) -> bool:
        late = self._late_ticks
        if 0 < self._watchdogs.loop_s < lag_s:
            late.append(now_s)
        while late and late[0] < now_s - LAGS_WINDOW_S:
            late.popleft()
        return len(late) >= LAGS_MIN

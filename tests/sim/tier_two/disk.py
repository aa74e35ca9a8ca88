"""The fake disk under a real log, and what is known from outside of what it holds.

`Mirror` is told of every save that the log takes, and moves it to the durable part when the disk has synced the file it was
written to. So it knows what must be there after a crash: the durable part, and of what was written later a beginning.

What may not live here: when the disk is asked (`ports`), and faults.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from raftkv.raft import Save, SnapshotMeta
from raftkv.storage import Recovered, Wal
from tests.sim.checkers import Violation
from tests.sim.disk import Disk
from tests.storage.faulty_files import FaultyFiles

Written = Sequence[Save] | SnapshotMeta
"""A group of saves that went as one record, or a compaction."""


class Files(FaultyFiles):
    """Says when a file of the log was synced."""

    def __init__(self) -> None:
        super().__init__()
        self.on_log_synced: Callable[[], None] = lambda: None

    def sync(self, handle: int) -> None:
        _, path = self.handles[handle]
        super().sync(handle)
        if path.parent.name == "wal":
            self.on_log_synced()

    def after_kill(self) -> None:
        """The process is gone, the machine is not: what was written stays readable, its handles and locks are free."""
        for handle in list(self.handles):
            self.close(handle)
        self.crash_at = None
        self.on_log_synced = lambda: None
        self.fail = lambda operation, path: None


class Mirror:
    """What is on a node's disk, seen from outside."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.disk = Disk()
        self._attempted: list[Written] = []
        self._written = 0

    @property
    def unsynced(self) -> int:
        """Groups that a power cut now may take away."""
        return len(self._attempted)

    def attempt(self, what: Written) -> None:
        self._attempted.append(what)

    def written(self) -> None:
        """Everything attempted so far is in the page cache."""
        self._written = len(self._attempted)

    def synced(self) -> None:
        for what in self._attempted[: self._written]:
            _write(self.disk, what)
        del self._attempted[: self._written]
        self._written = 0

    def restarted(self, recovered: Recovered, *, lost_power: bool) -> None:
        """Compare what a restart found with what must be there, and go on from it."""
        disk = Disk(self.disk.base, list(self.disk.entries), self.disk.hard_state)
        at_least = 0 if lost_power else self._written
        for count in range(len(self._attempted) + 1):
            if count >= at_least and _is_same(disk, recovered):
                break
            if count < len(self._attempted):
                _write(disk, self._attempted[count])
        else:
            raise Violation(
                "durable saves survive",
                f"{self._name} finds {recovered.hard_state}, log {recovered.base.index}+{len(recovered.entries)}; "
                f"synced {self.disk.hard_state}, {self.disk.base.index}+{len(self.disk.entries)}, "
                f"and {self._written} of {len(self._attempted)} groups written",
            )
        self.disk = disk
        self._attempted, self._written = [], 0


class MirroredWal(Wal):
    """The real log; a mirror watches."""

    mirror: Mirror

    def append(self, saves: Sequence[Save]) -> None:
        self.mirror.attempt(tuple(saves))
        super().append(saves)
        self.mirror.written()

    def compact(self, base: SnapshotMeta) -> None:
        self.mirror.attempt(base)
        super().compact(base)
        self.mirror.written()
        self.mirror.synced()


def _write(disk: Disk, what: Written) -> None:
    if isinstance(what, SnapshotMeta):
        disk.compact(what)
    else:
        for save in what:
            disk.write(save)


def _is_same(disk: Disk, found: Recovered) -> bool:
    return (disk.hard_state, disk.base, disk.entries) == (found.hard_state, found.base, found.entries)

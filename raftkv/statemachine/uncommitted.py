"""What has been applied since the last commit: the entries themselves, and whether it is time for a commit.

The entries are kept because LMDB may lose a transaction it cannot finish (map or disk full); they are then applied again.
Their bytes are those of the log in memory, so keeping them costs a list.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from raftkv.raft.types import Entry
from raftkv.statemachine.config import StoreLimits


class Uncommitted:
    """Bounded by whoever calls `is_due` after each step, to a step more than the limits."""

    def __init__(self, limits: StoreLimits, clock: Callable[[], float]) -> None:
        self._limits = limits
        self._clock = clock
        self.clear()

    def clear(self) -> None:
        """Everything has been committed."""
        self.entries: list[Entry] = []
        self._operations = self._removals = 0
        self._bytes = 0
        self._since: float | None = None

    def note_change(self, operations: int = 0, *, removals: int = 0) -> None:
        """Something changes, by so many operations. Records removed are counted apart, with the same limit.

        Both change pages of the index, often the same ones: so one commit for both writes much less than two do, and the log
        on the same disk feels that.
        """
        self._operations += operations
        self._removals += removals
        if self._since is None:
            self._since = self._clock()

    def add(self, entries: Sequence[Entry]) -> None:
        """These have been applied."""
        self.entries += entries
        self._bytes += sum(entry.size for entry in entries)

    @property
    def is_empty(self) -> bool:
        return self._since is None

    def is_due(self) -> bool:
        """Whether there is enough of it, or it has waited long enough."""
        if self._since is None:
            return False
        return (
            max(self._operations, self._removals) >= self._limits.commit_operations
            or self._bytes >= self._limits.commit_bytes
            or self._clock() - self._since >= self._limits.commit_interval_s
        )

"""How much of the applied log to keep for followers that lag, in entries and in bytes.

What may not live here: the log itself. This only remembers sizes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from raftkv.raft.types import Entry

STEP_ENTRIES_MIN = 256
"""Compact in steps, not entry by entry: each step costs a record in the log on disk."""


class LogRetention:
    """Sizes of committed entries not yet compacted, oldest first."""

    def __init__(self, entries_retained: int, bytes_retained: int) -> None:
        self._entries_retained = entries_retained
        self._bytes_retained = bytes_retained
        self._sizes: deque[tuple[int, int]] = deque()
        self._bytes = 0

    def add(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self._sizes.append((entry.index, entry.size))
            self._bytes += entry.size

    def reset(self) -> None:
        """A snapshot took the log's place."""
        self._sizes.clear()
        self._bytes = 0

    def compactable(self, durable_index: int, *, at_most: int | None) -> int:
        """The index up to which the log may go now; 0 when it is not worth a step.

        Args:
            durable_index: what the state machine has on disk: the log behind it is needed for a restart.
            at_most: a snapshot on its way to a follower ends here: the follower will need what comes after.
        """
        limit = durable_index if at_most is None else min(durable_index, at_most)
        count, size = len(self._sizes), self._bytes
        index = dropped = 0
        for entry_index, entry_size in self._sizes:
            is_surplus = count > self._entries_retained or size > self._bytes_retained
            if not is_surplus or entry_index > limit:
                break
            index = entry_index
            count, size, dropped = count - 1, size - entry_size, dropped + 1
        if dropped < STEP_ENTRIES_MIN and self._bytes - size < self._bytes_retained // 8:
            return 0
        for _ in range(dropped):
            self._sizes.popleft()
        self._bytes = size
        return index

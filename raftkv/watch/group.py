"""Watchers that are at the same place of the history, found by the keys they watch.

What may not live here: what becomes of what is found.
"""

from __future__ import annotations

from collections.abc import Iterator

from raftkv.watch.interval_index import IntervalIndex
from raftkv.watch.watcher import Watcher


class WatcherGroup:
    """Single keys in a dict, ranges in an interval index: finding costs nothing for those who do not watch the key."""

    def __init__(self) -> None:
        self._all: dict[Watcher, None] = {}
        self._by_key: dict[bytes, dict[Watcher, None]] = {}
        self._by_range: IntervalIndex[Watcher] = IntervalIndex()
        self.previous_count = 0
        """How many of them want previous values."""

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Watcher]:
        return iter(self._all)

    def add(self, watcher: Watcher) -> None:
        """Take a watcher that is in no group."""
        assert watcher.group is None, f"watch {watcher.watch_id} is in a group already"
        watcher.group = self
        self._all[watcher] = None
        self.previous_count += watcher.previous
        if watcher.end is None:
            self._by_key.setdefault(watcher.key, {})[watcher] = None
        elif watcher.key < watcher.end:
            self._by_range.add(watcher.key, watcher.end, watcher)

    def remove(self, watcher: Watcher) -> None:
        """Undo `add`."""
        assert watcher.group is self, f"watch {watcher.watch_id} is not in this group"
        watcher.group = None
        del self._all[watcher]
        self.previous_count -= watcher.previous
        if watcher.end is None:
            same_key = self._by_key[watcher.key]
            del same_key[watcher]
            if not same_key:
                del self._by_key[watcher.key]
        elif watcher.key < watcher.end:
            self._by_range.remove(watcher.key, watcher.end, watcher)

    def take(self) -> Watcher | None:
        """Remove one of them; None when there is none."""
        watcher = next(iter(self._all), None)
        if watcher is not None:
            self.remove(watcher)
        return watcher

    def watching(self, key: bytes) -> Iterator[Watcher]:
        """Those who watch `key`."""
        same_key = self._by_key.get(key)
        if same_key is not None:
            yield from same_key
        if self._by_range:
            yield from self._by_range.at(key)

"""The log in memory: a base, the entries behind it, and how far each of its readers has come.

    base       applied     delivered      commit                      last
     |            |            |             |                          |
     v            v            v             v                          v
    [x] 5 6 7 8 9 10 ... 14 15 16 ... 19 20 21 ... 24 25 26 ... 29 30 31
                                  ^                        ^
                                saved                   handed out

The base is the last entry that is no longer here (a snapshot covers it, or index 0). `delivered` went to the state machine
and `applied` came back; `handed_out` went to storage and `saved` came back. The two pairs move independently: a quorum of
other disks may commit what our own disk does not have yet.

Every access by index is O(1); searches by term are binary. What may not live here: terms of nodes, roles, messages.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from operator import attrgetter

from raftkv.raft.types import Entry

_term_of = attrgetter("term")


class Log:
    """Entries `first_index` .. `last_index`, contiguous, their terms never falling.

    Invariants: base <= applied <= delivered <= commit <= last; saved <= handed_out <= last. `saved` may be below the base
    only while the save that starts the log anew behind a snapshot is in flight.
    """

    __slots__ = (
        "_entries",
        "applied_index",
        "base_index",
        "base_term",
        "bytes",
        "commit_index",
        "delivered_index",
        "handed_out_index",
        "last_index",
        "last_term",
        "saved_index",
        "unapplied_bytes",
    )

    def __init__(self, *, base_index: int, base_term: int, entries: Iterable[Entry]) -> None:
        """`entries` are on disk already: they count as saved."""
        self._entries = list(entries)
        self.base_index = base_index
        self.base_term = base_term
        self.bytes = sum(entry.size for entry in self._entries)
        self.last_index = base_index + len(self._entries)
        self.last_term = self._entries[-1].term if self._entries else base_term
        self.saved_index = self.handed_out_index = self.last_index
        self.applied_index = self.delivered_index = self.commit_index = base_index
        self.unapplied_bytes = 0
        self.check()

    @property
    def first_index(self) -> int:
        """The lowest index whose entry is here, or would be."""
        return self.base_index + 1

    def term_at(self, index: int) -> int | None:
        """The term of the entry at `index`; None where the log does not reach or was compacted."""
        if index == self.last_index:
            return self.last_term
        if self.base_index < index < self.last_index:
            return self._entries[index - self.base_index - 1].term
        return self.base_term if index == self.base_index else None

    def entry(self, index: int) -> Entry:
        assert self.base_index < index <= self.last_index, f"{index} is not in {self.first_index}..{self.last_index}"
        return self._entries[index - self.base_index - 1]

    def slice(self, first: int, last: int, bytes_max: int) -> tuple[Entry, ...]:
        """Entries `first` .. `last`, cut before `bytes_max` is passed, but never to nothing."""
        assert first > self.base_index, f"slice from {first}, but the log begins at {self.first_index}"
        assert last <= self.last_index, f"slice to {last}, but the log ends at {self.last_index}"
        low, high = first - self.base_index - 1, last - self.base_index
        entries = self._entries
        total = 0
        for position in range(low, high):
            total += entries[position].size
            if total > bytes_max and position > low:
                high = position
                break
        return tuple(entries[low:high])

    def is_up_to_date(self, last_index: int, last_term: int) -> bool:
        """Whether a log that ends in `last_index@last_term` may lead over ours (Raft paper §5.4.1)."""
        return (last_term, last_index) >= (self.last_term, self.last_index)

    def last_index_of_term_at_most(self, index: int, term: int) -> int:
        """The highest index <= `index` whose term is <= `term`; one below the base if there is none.

        Both sides use it to skip a whole run of conflicting entries at once. Binary: terms never fall along the log.
        """
        index = min(index, self.last_index)
        if index <= self.base_index or (not self._entries):
            return index if index < self.base_index or self.base_term <= term else self.base_index - 1
        found = bisect_right(self._entries, term, hi=index - self.base_index, key=_term_of)
        if found:
            return self.base_index + found
        return self.base_index if self.base_term <= term else self.base_index - 1

    def first_new(self, entries: Sequence[Entry]) -> int:
        """Position in `entries` of the first one that this log does not have with the same term; their count if none.

        Raft paper §5.3: an existing entry is only removed when it conflicts. A short or delayed append must not cut off
        newer entries.
        """
        if entries and entries[0].index > self.last_index:
            return 0
        for position, entry in enumerate(entries):
            if self.term_at(entry.index) != entry.term:
                return position
        return len(entries)

    def append(self, entries: Sequence[Entry]) -> None:
        """Add entries at the end."""
        last_index, last_term = self.last_index, self.last_term
        size = 0
        for entry in entries:
            last_index += 1
            assert entry.index == last_index, f"append of {entry} where {last_index} is next"
            assert entry.term >= last_term, f"append of {entry} behind term {last_term}"
            last_term = entry.term
            size += entry.size
        self._entries.extend(entries)
        self.last_index, self.last_term = last_index, last_term
        self.bytes += size

    def truncate_from(self, index: int) -> None:
        """Remove the entries from `index` on: they lost a conflict."""
        assert index > self.commit_index, f"truncation from {index} cuts committed entries (commit {self.commit_index})"
        assert index <= self.last_index, f"truncation from {index} beyond last {self.last_index}"
        position = index - self.base_index - 1
        self.bytes -= sum(entry.size for entry in self._entries[position:])
        del self._entries[position:]
        self.last_index = index - 1
        self.last_term = self._entries[-1].term if self._entries else self.base_term
        self.handed_out_index = min(self.handed_out_index, self.last_index)
        self.saved_index = min(self.saved_index, self.last_index)

    def reset(self, index: int, term: int) -> None:
        """Start anew behind a snapshot. It counts as saved only when the save that carries it comes back."""
        assert index > self.commit_index, f"snapshot at {index} is not ahead of commit {self.commit_index}"
        self._entries.clear()
        self.bytes = 0
        self.base_index = self.last_index = self.handed_out_index = index
        self.base_term = self.last_term = term
        self.commit_index = self.delivered_index = self.applied_index = index
        self.unapplied_bytes = 0
        self.saved_index = 0

    def compact(self, index: int) -> None:
        """Forget the entries up to `index`."""
        assert index <= self.applied_index, f"compaction to {index} beyond applied {self.applied_index}"
        index = min(index, self.saved_index)  # What is on its way to our disk may still be asked for by our own acks.
        if index <= self.base_index:
            return
        term = self.term_at(index)
        assert term is not None, f"compaction to {index} outside {self.base_index}..{self.last_index}"
        count = index - self.base_index
        self.bytes -= sum(entry.size for entry in self._entries[:count])
        del self._entries[:count]
        self.base_index, self.base_term = index, term

    def commit_to(self, index: int) -> bool:
        """Raise the commit index; True if it moved. An old message may carry a lower one: it changes nothing."""
        assert index <= self.last_index, f"commit {index} beyond last {self.last_index}"
        if index <= self.commit_index:
            return False
        self.commit_index = index
        return True

    def saved_to(self, index: int) -> None:
        assert index <= self.handed_out_index, f"saved {index} beyond handed out {self.handed_out_index}"
        self.saved_index = max(self.saved_index, index)

    def applied_to(self, index: int) -> None:
        assert index <= self.delivered_index, f"applied {index} beyond delivered {self.delivered_index}"
        first = self.applied_index - self.base_index
        self.unapplied_bytes -= sum(entry.size for entry in self._entries[first : max(first, index - self.base_index)])
        self.applied_index = max(self.applied_index, index)

    def start_at(self, *, commit_index: int, applied_index: int) -> None:
        """Resume after a restart: what was applied is not delivered again."""
        assert applied_index <= self.last_index, f"applied {applied_index} beyond last {self.last_index}"
        assert applied_index >= self.base_index, f"applied {applied_index} before base {self.base_index}"
        self.commit_index = max(applied_index, min(commit_index, self.last_index))
        self.applied_index = self.delivered_index = applied_index

    def take_unsaved(self) -> tuple[Entry, ...]:
        """Hand the entries out that storage has not been given yet."""
        if self.handed_out_index == self.last_index:
            return ()
        entries = tuple(self._entries[self.handed_out_index - self.base_index :])
        self.handed_out_index = self.last_index
        return entries

    def has_committed(self, unapplied_bytes_max: int) -> bool:
        """Whether there is something for the state machine, and it is not too far behind with what it has."""
        return self.delivered_index < self.commit_index and self.unapplied_bytes < unapplied_bytes_max

    def take_committed(self, bytes_max: int, unapplied_bytes_max: int) -> tuple[Entry, ...]:
        """Hand the committed entries out that the state machine has not been given yet."""
        if not self.has_committed(unapplied_bytes_max):
            return ()
        entries = self.slice(self.delivered_index + 1, self.commit_index, bytes_max)
        self.delivered_index = entries[-1].index
        self.unapplied_bytes += sum(entry.size for entry in entries)
        return entries

    def uncommitted_bytes(self) -> int:
        """Sum over the uncommitted tail: for a new leader, once."""
        return sum(entry.size for entry in self._entries[self.commit_index - self.base_index :])

    def check(self) -> None:
        """Every invariant, entry by entry. For tests and the simulator: O(length)."""
        previous_index, previous_term = self.base_index, self.base_term
        for entry in self._entries:
            assert entry.index == previous_index + 1, f"{entry} follows index {previous_index}"
            assert entry.term >= previous_term, f"{entry} follows term {previous_term}"
            previous_index, previous_term = entry.index, entry.term
        assert (self.last_index, self.last_term) == (previous_index, previous_term), "last entry is not the last"
        assert self.bytes == sum(entry.size for entry in self._entries), f"byte count {self.bytes} is off"
        first, last = self.applied_index - self.base_index, self.delivered_index - self.base_index
        unapplied_bytes = sum(entry.size for entry in self._entries[first:last])
        assert self.unapplied_bytes == unapplied_bytes, f"{self.unapplied_bytes} bytes unapplied, not {unapplied_bytes}"
        self.check_cursors()

    def check_cursors(self) -> None:
        """The invariants that cost nothing: after every step, always."""
        assert self.base_index <= self.applied_index, f"base {self.base_index} > applied {self.applied_index}"
        assert self.applied_index <= self.delivered_index, f"applied {self.applied_index} > {self.delivered_index}"
        assert self.delivered_index <= self.commit_index, f"delivered {self.delivered_index} > {self.commit_index}"
        assert self.commit_index <= self.last_index, f"commit {self.commit_index} > last {self.last_index}"
        assert self.saved_index <= self.handed_out_index, f"saved {self.saved_index} > {self.handed_out_index}"
        assert self.handed_out_index <= self.last_index, f"handed out {self.handed_out_index} > {self.last_index}"

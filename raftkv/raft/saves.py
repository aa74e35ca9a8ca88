"""Saves in flight: what storage was given, and what its acknowledgement proves.

Storage works in order and answers in order, so "save n is durable" means: the disk holds the log as it was when save n was
handed out. That may not be the log of now. Suppose 5@2 is handed out (save 1), a new leader replaces it by 5@3 (save 2),
and a third one brings 5@2 back (save 3). Save 1 comes back; index and term fit the log in memory, and yet acknowledging
5@2 would be a lie: save 2 is still to overwrite it. So a truncation lowers what *every* save already in flight can prove;
nothing raises it again. That is exact, where a comparison of terms is not.

What may not live here: what is done about it (`roles`, `leader`, `candidate`).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from raftkv.raft.log import Log
from raftkv.raft.ready import Save
from raftkv.raft.types import HardState, NodeId, SavedMark, SnapshotMeta


@dataclass(slots=True)
class _InFlight:
    mark: SavedMark
    proves_index: int
    hard_state: HardState


class Saves:
    """The queue of saves handed out and not yet acknowledged, and what the acknowledged ones proved.

    Invariants: `sequence` rises by one per save; `durable_term` never falls.
    """

    __slots__ = ("_commit_due", "_handed_out", "_in_flight", "_last_sequence", "durable_term", "durable_vote")

    def __init__(self, durable: HardState) -> None:
        self._in_flight: deque[_InFlight] = deque()
        self._last_sequence = 0
        self._handed_out = durable
        self._commit_due = False
        self.durable_term = durable.term
        self.durable_vote: NodeId = durable.vote

    def __len__(self) -> int:
        return len(self._in_flight)

    def tick(self, commit_index: int) -> None:
        """A commit index is worth a save of its own only at ticks; with other news it travels for nothing."""
        self._commit_due = commit_index > self._handed_out.commit_index

    def is_due(self, log: Log, term: int, vote: NodeId) -> bool:
        return (
            log.handed_out_index < log.last_index
            or self._commit_due
            or term != self._handed_out.term
            or vote != self._handed_out.vote
        )

    def take(self, log: Log, now: HardState, *, install: SnapshotMeta | None, has_promises: bool) -> Save | None:
        """The next save, numbered; None if there is nothing to save and no promise that waits for saves in flight."""
        before = self._handed_out
        entries = log.take_unsaved()
        must_sync = bool(entries) or install is not None or (now.term, now.vote) != (before.term, before.vote)
        if not (must_sync or has_promises or self._commit_due):
            return None
        self._commit_due = False
        self._handed_out = now
        self._last_sequence += 1
        mark = SavedMark(self._last_sequence, log.last_index, log.last_term, now if now != before else None)
        self._in_flight.append(_InFlight(mark, log.last_index, now))
        return Save(mark, entries, mark.hard_state, install, must_sync)

    def truncated_from(self, index: int) -> None:
        """The log in memory lost everything from `index` on: saves in flight prove nothing there any more."""
        for save in self._in_flight:
            save.proves_index = min(save.proves_index, index - 1)

    def completed(self, mark: SavedMark) -> int:
        """The save `mark`, and all before it, are durable. Returns the index up to which the log of now is.

        A mark seen before proves nothing new: 0.
        """
        assert mark.sequence <= self._last_sequence, f"save {mark.sequence} was never handed out"
        proves_index = 0
        while self._in_flight and self._in_flight[0].mark.sequence <= mark.sequence:
            save = self._in_flight.popleft()
            assert save.mark.sequence < mark.sequence or save.mark == mark, f"{mark} is not what was handed out"
            proves_index = save.proves_index
            assert save.hard_state.term >= self.durable_term, f"term {save.hard_state.term} < {self.durable_term}"
            self.durable_term, self.durable_vote = save.hard_state.term, save.hard_state.vote
        return proves_index

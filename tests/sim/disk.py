"""A disk that keeps what was synced, and of the rest a prefix of the saves: what a crash may leave of a log.

Also stands in for the log in `raftkv.node.recovery.recover_raft`, which therefore decides restarts here as it does in the
product.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from raftkv.raft import Entry, HardState, Save, SnapshotMeta
from raftkv.storage import Recovered
from tests.sim.checkers import Violation


@dataclass(slots=True)
class Disk:
    """What is durable. Nothing in it is ever undone, except by the rules of `Save`."""

    base: SnapshotMeta = field(default_factory=SnapshotMeta)
    entries: list[Entry] = field(default_factory=list)
    hard_state: HardState = field(default_factory=HardState)

    @property
    def last_index(self) -> int:
        return self.base.index + len(self.entries)

    def term_at(self, index: int) -> int | None:
        position = index - self.base.index - 1
        if 0 <= position < len(self.entries):
            return self.entries[position].term
        return self.base.term if position == -1 else None

    def holds(self, index: int, term: int) -> bool:
        """Whether the entry is here, or was before a snapshot took its place."""
        return index <= self.base.index or self.term_at(index) == term

    def write(self, save: Save) -> None:
        if save.reset_to is not None:
            self.base, self.entries = save.reset_to, []
        if save.entries:
            keep = save.entries[0].index - self.base.index - 1
            if not 0 <= keep <= len(self.entries):
                raise Violation("log on disk", f"{save.entries[0]} behind {self.base.index}..{self.last_index}: a gap")
            self.entries[keep:] = save.entries
        if save.hard_state is not None:
            new, old = save.hard_state, self.hard_state
            if new.term < old.term:
                raise Violation("durable term", f"{old} became {new}")
            if new.term == old.term and old.vote not in (0, new.vote):
                raise Violation("durable vote", f"{old} became {new}")
            self.hard_state = new

    def compact(self, base: SnapshotMeta) -> None:
        if base.index > self.base.index:
            del self.entries[: base.index - self.base.index]
            self.base = base

    def recovered(self) -> Recovered:
        return Recovered(self.hard_state, self.base, list(self.entries))

    # What `recover_raft` asks of a log.

    def append(self, saves: Sequence[Save]) -> None:
        for save in saves:
            self.write(save)

    def sync(self) -> None:
        pass

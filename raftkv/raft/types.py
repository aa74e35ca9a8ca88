"""The values Raft is made of: entries, votes, memberships, snapshots.

Plain frozen data with its invariants. Nothing here decides anything, and nothing here knows how bytes look on a wire or a
disk (`raftkv.wire` does).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

NodeId = int
"""A member id: an unsigned 64-bit number, never 0."""

NO_NODE: NodeId = 0
"""Stands for "nobody": no vote cast, no leader known."""


class EntryKind(IntEnum):
    """What an entry means. An unknown kind (a newer version wrote it) stops the node: it is never skipped."""

    NOOP = 0
    """The first entry of every term (Raft paper §8): it lets earlier terms' entries commit."""
    COMMANDS = 1
    """`data` is a batch of commands for the state machine; the core never looks inside."""
    MEMBERSHIP = 2
    """`membership` is in force from the moment the entry is appended (dissertation §4.1); `data` is for the state machine."""


@dataclass(frozen=True, slots=True)
class Membership:
    """Who votes, who only listens. With `outgoing_voters`, a joint configuration (dissertation §4.3).

    Invariants: no learner is a voter of either half; `learners_next` are voters of the outgoing half only.
    """

    voters: frozenset[NodeId] = frozenset()
    outgoing_voters: frozenset[NodeId] = frozenset()
    learners: frozenset[NodeId] = frozenset()
    learners_next: frozenset[NodeId] = frozenset()

    @property
    def is_joint(self) -> bool:
        return bool(self.outgoing_voters)

    @property
    def members(self) -> tuple[NodeId, ...]:
        """Everybody who receives the log, in ascending order."""
        return tuple(sorted(self.voters | self.outgoing_voters | self.learners))

    def is_voter(self, node: NodeId) -> bool:
        return node in self.voters or node in self.outgoing_voters

    def check(self) -> None:
        both = self.learners & (self.voters | self.outgoing_voters)
        assert not both, f"learners {sorted(both)} are voters too"
        stray = self.learners_next - (self.outgoing_voters - self.voters)
        assert not stray, f"learners to be {sorted(stray)} are not leaving voters"


@dataclass(frozen=True, slots=True)
class Entry:
    """One slot of the log, written `index@term` in traces."""

    index: int
    term: int
    kind: EntryKind = EntryKind.NOOP
    data: bytes = b""
    membership: Membership | None = None

    @property
    def size(self) -> int:
        """Bytes charged against the flow-control limits: the payload and a fixed overhead."""
        return len(self.data) + ENTRY_OVERHEAD_BYTES

    def __str__(self) -> str:
        return f"{self.index}@{self.term}"


ENTRY_OVERHEAD_BYTES = 32


@dataclass(frozen=True, slots=True)
class Proposal:
    """Something a client wants in the log; it has no index and no term until a leader appends it."""

    data: bytes
    kind: EntryKind = EntryKind.COMMANDS


@dataclass(frozen=True, slots=True)
class HardState:
    """What a node must never forget (Raft paper, figure 2). `commit_index` is a hint that saves time after a restart."""

    term: int = 0
    vote: NodeId = NO_NODE
    commit_index: int = 0


@dataclass(frozen=True, slots=True)
class SnapshotMeta:
    """The state machine's state covers the log up to `index`, whose entry had `term`; `membership` was in force there."""

    index: int = 0
    term: int = 0
    membership: Membership = field(default_factory=Membership)


@dataclass(frozen=True, slots=True)
class SavedMark:
    """How far a save reached. The term of the last entry guards against A-B-A after a truncation.

    `sequence` numbers the saves of one process from 1, in the order they were handed out.
    """

    sequence: int
    last_index: int
    last_term: int
    hard_state: HardState | None

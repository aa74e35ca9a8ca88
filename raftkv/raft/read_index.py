"""Linearizable reads without the log: ReadIndex (dissertation §6.4), the leader's bookkeeping.

A read may use the commit index of the moment it arrived, provided that the node was still leader *after* that moment. The
proof is a round of heartbeats: rounds are numbered within a term, heartbeats carry the number, and answers echo it. A read
waits for the first round that starts after it arrived, so every read of one `Ready` shares one round, and an answer to an
older heartbeat proves nothing for it.

Until the leader has committed an entry of its own term, reads are held back: its commit index may lag its predecessor's.

What may not live here: messages; leader leases (a clock would have to be trusted).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from raftkv.raft.types import NodeId


@dataclass(frozen=True, slots=True)
class PendingRead:
    """`origin` asked with `context`; the leader's own reads have its own id as origin."""

    origin: NodeId
    context: int


class ReadIndexQueue:
    """Reads on their way through: held -> unsent -> waiting for a round -> confirmed.

    Invariant: rounds and indexes in `_waiting` never fall.
    """

    __slots__ = ("_held", "_unsent", "_waiting", "round")

    def __init__(self) -> None:
        self.round = 0
        """The last round started."""
        self._held: list[PendingRead] = []
        self._unsent: list[tuple[PendingRead, int]] = []
        self._waiting: deque[tuple[int, PendingRead, int]] = deque()

    @property
    def wants_round(self) -> bool:
        return bool(self._unsent)

    def hold(self, read: PendingRead) -> None:
        """Nothing is committed in this term yet."""
        self._held.append(read)

    def add(self, read: PendingRead, commit_index: int) -> None:
        self._unsent.append((read, commit_index))

    def release_held(self, commit_index: int) -> None:
        """The first commit of the term happened."""
        self._unsent.extend((read, commit_index) for read in self._held)
        self._held.clear()

    def start_round(self) -> int:
        """All reads that arrived so far wait for the round returned."""
        self.round += 1
        self._waiting.extend((self.round, read, index) for read, index in self._unsent)
        self._unsent.clear()
        return self.round

    def confirm(self, confirmed_round: int) -> list[tuple[PendingRead, int]]:
        """A quorum answered `confirmed_round` or a later one: these reads may go ahead, at these indexes."""
        done = []
        while self._waiting and self._waiting[0][0] <= confirmed_round:
            _, read, index = self._waiting.popleft()
            done.append((read, index))
        return done

    def drain(self) -> list[PendingRead]:
        """Leadership is lost: nothing that is still here can be confirmed."""
        reads = [read for _, read, _ in self._waiting] + [read for read, _ in self._unsent] + self._held
        self._waiting.clear()
        self._unsent.clear()
        self._held.clear()
        return reads

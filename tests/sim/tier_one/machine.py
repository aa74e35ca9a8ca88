"""A state machine that remembers what was applied in what order, and commits to its disk whenever it likes.

It decides with the product's own `Origins` whether a batch takes effect. Its state is one number: a chain over everything
that was applied, so equal numbers mean equal histories.
"""

from __future__ import annotations

from dataclasses import dataclass

from raftkv.pb import store_pb2
from raftkv.raft import Entry, EntryKind, Membership, SnapshotMeta
from raftkv.statemachine.origins import OriginRecord, Origins
from tests.sim.checkers import Checkers, Violation


@dataclass(frozen=True, slots=True)
class Image:
    """A state on disk or in a snapshot."""

    meta: SnapshotMeta
    chain: int
    origins: dict[int, bytes]


@dataclass(frozen=True, slots=True)
class AppliedBatch:
    origin: int
    incarnation: int
    sequence: int
    count: int


class Machine:
    def __init__(self, image: Image, checkers: Checkers) -> None:
        self._checkers = checkers
        self.durable = image
        self._open(image)

    def _open(self, image: Image) -> None:
        self.meta = image.meta
        self.chain = image.chain
        self.origins = Origins({origin: OriginRecord.decode(data) for origin, data in image.origins.items()})
        self._encoded = dict(image.origins)

    @property
    def applied_index(self) -> int:
        return self.meta.index

    @property
    def applied_term(self) -> int:
        return self.meta.term

    @property
    def membership(self) -> Membership:
        return self.meta.membership

    def apply(self, entry: Entry) -> AppliedBatch | None:
        """The batch that took effect with this entry, if one did."""
        if entry.index != self.meta.index + 1:
            raise Violation("applied in order", f"{entry} after {self.meta.index}: skipped or applied twice")
        membership = self.meta.membership if entry.membership is None else entry.membership
        self.meta = SnapshotMeta(entry.index, entry.term, membership)
        batch = None
        if entry.kind is EntryKind.COMMANDS:
            message = store_pb2.CommandBatch.FromString(entry.data)
            if self.origins.admit(message.origin, message.incarnation, message.sequence, message.settled_below):
                batch = AppliedBatch(message.origin, message.incarnation, message.sequence, len(message.commands))
                self._checkers.executed(batch.origin, batch.incarnation, batch.sequence, entry)
        self.chain = hash((self.chain, entry.index, entry.term, entry.data, batch is None))
        self._checkers.state(entry.index, self.chain)
        return batch

    def image(self) -> Image:
        for origin, record in self.origins.take_changed():
            self._encoded[origin] = record.encode()
        return Image(self.meta, self.chain, dict(self._encoded))

    def commit(self) -> None:
        if self.durable.meta.index != self.meta.index:
            self.durable = self.image()

    def install(self, image: Image) -> None:
        """Swapped in atomically and durable at once."""
        if image.meta.index < self.meta.index:
            raise Violation("applied in order", f"snapshot {image.meta.index} replaces the state at {self.meta.index}")
        self._open(image)
        self.durable = image
        self._checkers.state(image.meta.index, self.chain)

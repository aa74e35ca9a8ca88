"""Which batches of commands have been applied: what makes a proposal sent twice take effect once.

A node proposes a batch again when it cannot know whether the first proposal survived an election. Both may then be in the
log. Each batch carries its origin (member id), the origin's incarnation (a number that grows with every start), a sequence
number, and a floor: "every sequence below is settled, I shall not propose it again". So what must be remembered is small:
per origin the sequences applied out of order above the floor.

The records are part of the replicated state: they decide what is applied, and travel in snapshots. No clock drops them.

What may not live here: LMDB.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from raftkv.errors import CorruptionError

_HEAD = struct.Struct(">QQ")


@dataclass(slots=True)
class OriginRecord:
    """What one origin's present incarnation has had applied: everything below `floor`, and `applied`.

    Invariant: `applied` holds no sequence below `floor`.
    """

    incarnation: int = 0
    floor: int = 0
    applied: set[int] = field(default_factory=set)

    def encode(self) -> bytes:
        """Equal records give equal bytes."""
        return _HEAD.pack(self.incarnation, self.floor) + struct.pack(f">{len(self.applied)}Q", *sorted(self.applied))

    @staticmethod
    def decode(data: bytes) -> OriginRecord:
        """The inverse of `encode`.

        Raises:
            CorruptionError
        """
        if len(data) < _HEAD.size or len(data) % 8:
            raise CorruptionError(f"the record of an origin has {len(data)} bytes")
        incarnation, floor = _HEAD.unpack_from(data)
        count = (len(data) - _HEAD.size) // 8
        return OriginRecord(incarnation, floor, set(struct.unpack_from(f">{count}Q", data, _HEAD.size)))


class Origins:
    """The records of all origins, and which of them changed since `take_changed` was last called."""

    def __init__(self, records: dict[int, OriginRecord] | None = None) -> None:
        self._records = {} if records is None else records
        self._changed: set[int] = set()

    def admit(self, origin: int, incarnation: int, sequence: int, settled_below: int) -> bool:
        """Whether a batch is to be applied; if so it counts as applied from now on."""
        record = self._records.get(origin)
        if record is None or record.incarnation < incarnation:
            record = self._records[origin] = OriginRecord(incarnation)
        elif record.incarnation > incarnation:
            return False  # Of an earlier life of that node, which can no longer wait for it.
        self._changed.add(origin)
        applied = record.applied
        if settled_below > record.floor:
            record.floor = settled_below
            record.applied = applied = {one for one in applied if one >= settled_below}
        if sequence < record.floor or sequence in applied:
            return False
        applied.add(sequence)
        while record.floor in applied:  # What is contiguous needs one number, not many.
            applied.remove(record.floor)
            record.floor += 1
        return True

    def copy_of(self, origin: int) -> Origins:
        """The record of one origin alone, to try out what `admit` will say."""
        record = self._records.get(origin)
        if record is None:
            return Origins()
        return Origins({origin: OriginRecord(record.incarnation, record.floor, set(record.applied))})

    def is_applied(self, origin: int, incarnation: int, sequence: int) -> bool:
        """Whether a batch that its origin has not settled has been applied."""
        record = self._records.get(origin)
        if record is None or record.incarnation != incarnation:
            return False
        return sequence < record.floor or sequence in record.applied

    def take_changed(self) -> list[tuple[int, OriginRecord]]:
        """The records that changed, in order of origin."""
        changed = sorted(self._changed)
        self._changed.clear()
        return [(origin, self._records[origin]) for origin in changed]

"""A store in forty lines of plain Python, with no cleverness: what the real one is compared with."""

from __future__ import annotations

from dataclasses import dataclass, field

from raftkv.pb import mvcc_pb2

KeyValue = mvcc_pb2.KeyValue


@dataclass
class Model:
    """Keeps the whole key space at every revision."""

    revision: int = 1
    compact_revision: int = -1
    history: dict[int, dict[bytes, KeyValue]] = field(default_factory=lambda: {1: {}})

    def put(self, key: bytes, value: bytes) -> int:
        state = dict(self.history[self.revision])
        old = state.get(key)
        self.revision += 1
        state[key] = KeyValue(
            key=key,
            value=value,
            create_revision=old.create_revision if old else self.revision,
            mod_revision=self.revision,
            version=old.version + 1 if old else 1,
        )
        self.history[self.revision] = state
        return self.revision

    def delete(self, key: bytes, range_end: bytes) -> int:
        """The number of keys deleted."""
        gone = self.range(key, range_end, 0)
        if gone:
            state = {kv.key: kv for kv in self.range(b"\0", b"\0", 0) if kv not in gone}
            self.revision += 1
            self.history[self.revision] = state
        return len(gone)

    def range(self, key: bytes, range_end: bytes, revision: int) -> list[KeyValue]:
        state = self.history[revision or self.revision]

        def is_inside(one: bytes) -> bool:
            return one >= key and (one < range_end or range_end == b"\0") if range_end else one == key

        return [state[one] for one in sorted(state) if is_inside(one)]

"""The store against a model in plain Python: histories, compaction, commits and crashes in any order."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from raftkv.errors import Compacted
from raftkv.mvcc import commands
from raftkv.mvcc.compaction import compact_some
from raftkv.mvcc.hashing import hash_now
from raftkv.mvcc.reading import read_range, read_range_slices
from raftkv.mvcc.store import Store
from raftkv.pb import rpc_pb2 as rpc
from tests.mvcc.model import Model

KEYS = st.sampled_from([b"a", b"b", b"ba", b"c", b"c\0", b"\xff"])
ENDS = st.sampled_from([b"", b"\0", b"b", b"c", b"d", b"\xff"])


class StoreAgainstModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.path = Path(self.directory.name)
        self.store = Store(self.path, map_bytes=1 << 24)
        self.model = Model()
        self.committed = Model()

    def teardown(self) -> None:
        self.store.close()
        self.directory.cleanup()

    @rule(key=KEYS, value=st.binary(max_size=3))
    def put(self, key: bytes, value: bytes) -> None:
        answer = commands.put(self.store, rpc.PutRequest(key=key, value=value), wanted=True)
        assert answer is not None
        assert answer.header.revision == self.model.put(key, value)

    @rule(key=KEYS, end=ENDS)
    def delete(self, key: bytes, end: bytes) -> None:
        answer = commands.delete_range(
            self.store, rpc.DeleteRangeRequest(key=key, range_end=end, prev_kv=True), wanted=True
        )
        expected = self.model.range(key, end, 0)
        assert answer is not None
        assert list(answer.prev_kvs) == expected
        assert answer.deleted == self.model.delete(key, end) == len(expected)

    @rule(back=st.integers(0, 10))
    def compact(self, back: int) -> None:
        revision = max(0, self.model.revision - back)
        if revision <= self.model.compact_revision:
            return
        before = hash_now(self.store, 0)
        commands.compact(self.store, rpc.CompactionRequest(revision=revision), wanted=False)
        self.model.compact_revision = revision
        assert hash_now(self.store, 0).revision == before.revision

    @rule(records=st.integers(1, 5))
    def remove_some(self, records: int) -> None:
        before = hash_now(self.store, 0)
        compact_some(self.store, records=records)
        assert hash_now(self.store, 0) == before

    @rule(key=KEYS, end=ENDS, back=st.integers(0, 12), slice_keys=st.integers(1, 3))
    def read(self, key: bytes, end: bytes, back: int, slice_keys: int) -> None:
        revision = max(1, self.model.revision - back)
        request = rpc.RangeRequest(key=key, range_end=end, revision=revision)
        if revision < self.model.compact_revision:
            for reading in (read_range, read_range_slices):
                try:
                    reading(self.store, request)
                except Compacted:
                    continue
                raise AssertionError(f"{reading} at {revision} behind {self.model.compact_revision}")
            return
        answer = rpc.RangeResponse.FromString(read_range(self.store, request))
        expected = self.model.range(key, end, revision)
        assert list(answer.kvs) == expected
        assert (answer.count, answer.more) == (len(expected), False)
        assert answer.header.revision == self.model.revision
        sliced = b"".join(read_range_slices(self.store, request, slice_keys=slice_keys))
        assert rpc.RangeResponse.FromString(sliced) == answer

    @rule()
    def commit(self) -> None:
        self.store.commit()
        self.committed = Model(self.model.revision, self.model.compact_revision, dict(self.model.history))

    @rule()
    def abort(self) -> None:
        self.store.abort()
        self.model = Model(self.committed.revision, self.committed.compact_revision, dict(self.committed.history))

    @rule()
    def crash(self) -> None:
        self.store.close()
        self.store = Store(self.path, map_bytes=1 << 24)
        self.model = Model(self.committed.revision, self.committed.compact_revision, dict(self.committed.history))

    @invariant()
    def revisions_agree(self) -> None:
        assert self.store.revision == self.model.revision
        assert self.store.compact_revision == self.model.compact_revision
        assert self.store.removed_revision <= max(0, self.store.compact_revision)


TestStoreAgainstModel = StoreAgainstModel.TestCase
TestStoreAgainstModel.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)

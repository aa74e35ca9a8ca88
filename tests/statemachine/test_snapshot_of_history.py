"""Snapshots of keys that were written again and again: their revisions fill pages of their own in the index."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.statemachine.support import apply, get, open_machine, put


@pytest.mark.parametrize("revisions", [40, 60, 3_000])
def test_a_snapshot_carries_every_revision_of_a_key(tmp_path: Path, revisions: int) -> None:
    """LMDB's binding of version 3.0.0 kills the process when it copies pages of fixed-size duplicates."""
    source = open_machine(tmp_path / "source")
    for number in range(revisions):
        apply(source, put(b"hot", b"%d" % number))
    meta = source.snapshot_to(tmp_path / "snapshot")
    target = open_machine(tmp_path / "target")

    target.install(tmp_path / "snapshot", meta)

    assert target.hash_kv(0) == source.hash_kv(0)
    assert [get(target, b"hot", revision) for revision in (2, revisions // 2, revisions + 1)] == [
        b"%d" % number for number in (0, revisions // 2 - 2, revisions - 1)
    ]
    source.close()
    target.close()

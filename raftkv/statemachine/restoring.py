"""A saved snapshot on its way back: told about, and made the state of a member of a new cluster.

What may not live here: the data directory around the state (`raftkv.server.restoring`).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from raftkv.errors import ConfigError, CorruptionError
from raftkv.mvcc.checking import check_state
from raftkv.mvcc.environment import DATA_FILE
from raftkv.mvcc.sealed import Summary, summarize
from raftkv.mvcc.store import Store
from raftkv.raft.types import SnapshotMeta
from raftkv.statemachine import records
from raftkv.statemachine.config import Bootstrap, StoreLimits
from raftkv.statemachine.export import CHUNK_BYTES, Export, read_export
from raftkv.statemachine.members import MemberTable
from raftkv.statemachine.snapshot import disk_errors, read_seal, sync_directory, verify_snapshot


@dataclass(frozen=True, slots=True)
class SnapshotStatus:
    """What a saved snapshot holds."""

    summary: Summary
    size: int
    """Bytes of the file, without the digest at its end."""


def snapshot_status(path: Path) -> SnapshotStatus:
    """Check a saved snapshot and tell what is in it.

    Raises:
        CorruptionError: truncated, altered, or no snapshot of raftkv.
        StorageError: it cannot be read.
    """
    read_export(path)
    with disk_errors(f"read {path}"):
        check_state(path)
        return SnapshotStatus(summarize(path), path.stat().st_size // 512 * 512)


def restore_state(path: Path, state: Path, bootstrap: Bootstrap, *, skip_hash_check: bool) -> SnapshotMeta:
    """Make the snapshot in `path` the state in the empty directory `state`, durably; where its log is to begin.

    Raises:
        CorruptionError: truncated, altered, or no snapshot of raftkv.
        ConfigError: the new cluster would be taken for the old one.
        DataDirError: of another format.
        DiskFullError, StorageError
    """
    export = read_export(path, skip_hash_check=skip_hash_check)
    data = state / DATA_FILE
    with disk_errors(f"restore {path} to {state}"):
        _copy(export, data)
        if export.is_sealed:
            seal = read_seal(data) if skip_hash_check else verify_snapshot(data)
            os.truncate(data, seal.data_bytes)
        elif not skip_hash_check:
            raise CorruptionError(f"{path} is no snapshot of raftkv, or is truncated")
        check_state(data)
    store = Store(state, map_bytes=StoreLimits().map_bytes)
    try:
        found = records.load(store)
        if found is not None and found.cluster_id == bootstrap.cluster_id:
            raise ConfigError(
                f"--initial-cluster-token: the new cluster would have the id {bootstrap.cluster_id:x} of the one that the snapshot "
                "is of, and their members would take each other for their own: give another token"
            )
        table = MemberTable(tuple(bootstrap.members), bootstrap.removed)
        applied = records.write_new_identity(store, bootstrap.cluster_id, table, bootstrap.membership)
        store.commit()
    finally:
        store.close()
    with disk_errors(f"restore {path} to {state}"):
        sync_directory(state)
    return applied


def _copy(export: Export, to: Path) -> None:
    left = export.data_bytes
    with export.path.open("rb") as source, to.open("wb") as target:
        while left and (chunk := source.read(min(CHUNK_BYTES, left))):
            target.write(chunk)
            left -= len(chunk)
        target.flush()
        os.fsync(target.fileno())
    if left:
        raise CorruptionError(f"{export.path} ends {left} bytes early")

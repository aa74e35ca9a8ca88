"""A data file that nobody writes to, looked into where it lies: what `snapshot status` tells of it.

What may not live here: anything that writes, or takes a lock; and checking the file, which must come first (`checking`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lmdb

from raftkv.errors import CorruptionError
from raftkv.mvcc.environment import lmdb_errors
from raftkv.mvcc.hashing import hash_view
from raftkv.mvcc.schema import COUNTERS, COUNTERS_KEY, unseal


@dataclass(frozen=True, slots=True)
class Summary:
    """`hash` is HashKV's at `revision`; `records` counts every version that is kept of every key."""

    hash: int
    revision: int
    records: int


@dataclass(frozen=True, slots=True)
class _Databases:
    index: Any
    revisions: Any


def summarize(path: Path) -> Summary:
    """Read a file that `check_state` has found sound. What lies behind its last page does not matter.

    Raises:
        CorruptionError: it holds no state.
        StorageError: it cannot be read.
    """
    with (
        lmdb_errors(f"open {path}"),
        lmdb.open(
            str(path), subdir=False, readonly=True, lock=False, create=False, max_dbs=4, map_size=path.stat().st_size
        ) as env,
    ):
        try:
            databases = _Databases(
                env.open_db(b"index", create=False, dupsort=True), env.open_db(b"revisions", create=False)
            )
            meta = env.open_db(b"meta", create=False)
        except lmdb.NotFoundError as error:
            raise CorruptionError(f"{path} holds no state") from error
        with env.begin() as txn:
            found = txn.get(COUNTERS_KEY, db=meta)
            if found is None:
                raise CorruptionError(f"{path} holds no state")
            revision, compact_revision, *_ = COUNTERS.unpack(unseal(COUNTERS_KEY, found, path))
            number = hash_view(txn, databases, revision, compact_revision)
            return Summary(number, revision, txn.stat(databases.revisions)["entries"])

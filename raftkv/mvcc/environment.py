"""One LMDB environment: opening it, growing its map, copying it, and saying in our words what went wrong.

What may not live here: what the records mean (`schema` and `store` know).

The rules of LMDB that this file is there to keep:

- The map must be larger than the file, and can only be enlarged while this process has no transaction open. So readers are
  counted, and `grow` waits for them.
- A write transaction belongs to the thread that began it; a read transaction may wander (`MDB_NOTLS`).
- A killed process leaves its reader slot behind, which pins pages for ever: `commit` clears such slots.
- A page that was allocated and freed in one transaction is never written: at the end of the file, that leaves a healthy
  file shorter than its header says. So the file is as long as the map from the start (sparse: it takes no space), and one
  that is shorter than its header says is torn.
- Every commit is synced. Never `MDB_NOSYNC`, never `MDB_WRITEMAP`.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import lmdb

from raftkv.errors import CorruptionError, DataDirError, DiskFullError, StorageError

DATA_FILE = "data.mdb"
LOCK_FILE = "lock.mdb"
MAP_STEP_BYTES = 1 << 20
GROWTH_FACTOR = 2

_SPACE_TEXTS = tuple(os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
_SHORT_WRITE_TEXT = os.strerror(errno.EIO)
"""What LMDB says when the disk took a part of a write: the rest found no space, as a rule."""
NO_SPACE_BYTES = 64 << 20
"""With less than this left on the disk, a short write is put down to that: a commit may need as much, and gives it back."""
_CORRUPTION = (
    lmdb.CorruptedError,
    lmdb.PageNotFoundError,
    lmdb.InvalidError,
    lmdb.IncompatibleError,
    lmdb.BadDbiError,
)


@contextmanager
def lmdb_errors(what: str, place: Path | int | None = None) -> Iterator[None]:
    """Turn LMDB's exceptions into ours. `MapFullError` passes: it is no failure, whoever writes knows how to go on.

    `place` is where a failed write went (path or descriptor), if something was written.

    Raises:
        DiskFullError: no space, or a quota is used up; nothing of the failed commit is visible.
        CorruptionError: the file is not what LMDB wrote.
        StorageError: anything else the disk did.
    """
    try:
        yield
    except lmdb.MapFullError:
        raise
    except lmdb.VersionMismatchError as error:
        raise DataDirError(f"cannot {what}: written by another version of LMDB") from error
    except _CORRUPTION as error:
        raise CorruptionError(f"cannot {what}: {error}") from error
    except lmdb.Error as error:
        if isinstance(error, lmdb.DiskError) or _means_no_space(str(error), place):
            raise DiskFullError(f"cannot {what}: the disk is full ({error})") from error
        raise StorageError(f"cannot {what}: {error}") from error


def _means_no_space(message: str, place: Path | int | None) -> bool:
    if any(text in message for text in _SPACE_TEXTS):
        return True
    if place is None or _SHORT_WRITE_TEXT not in message:
        return False
    disk = os.statvfs(place)
    return disk.f_bavail * disk.f_frsize < NO_SPACE_BYTES


class Reader:
    """A read transaction that another thread may use. While it is open, pages it can see are kept and the map cannot grow."""

    def __init__(self, environment: Environment, txn: lmdb.Transaction[bytes]) -> None:
        self._environment = environment
        self.txn = txn
        self._open = True

    def close(self) -> None:
        """End the transaction. Doing it twice is harmless."""
        if self._open:
            self._open = False
            self.txn.abort()
            self._environment._reader_closed()

    def __del__(self) -> None:
        self.close()  # Whoever it was made for may have given up, and would leave growing and closing to wait for ever.

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Environment:
    """An open LMDB environment in a directory of its own, with its databases."""

    def __init__(self, path: Path, *, map_bytes: int) -> None:
        """Open, or create, the environment at `path` (an existing directory).

        `map_bytes` is the least size of the map; it is larger where the file needs it. It costs address space, not memory.

        Raises:
            CorruptionError: the file is no LMDB file, or shorter than its own header says.
            StorageError: it cannot be opened.
        """
        self.path = path
        self._readers = 0
        self._readers_changed = threading.Condition()
        data = path / DATA_FILE
        with lmdb_errors(f"open {data}"):
            self._env = lmdb.open(
                str(path),
                map_size=_round_up(max(map_bytes, data.stat().st_size if data.exists() else 0)),
                max_dbs=8,
                subdir=True,
                create=True,
                mode=0o600,
                sync=True,
                metasync=True,
                writemap=False,
                readahead=True,
            )
        try:
            with lmdb_errors(f"open {data}"):
                self._check_length(data)
                if GROWTH_FACTOR * self.committed_bytes > self.map_bytes:
                    self._set_map(GROWTH_FACTOR * self.committed_bytes)
                else:
                    self._set_map(self.map_bytes)
                self._env.reader_check()
                self.revisions = self._env.open_db(b"revisions")
                # Not `dupfixed`, though all its values have one size: it saves nothing here, and lmdb 3.0.0 kills the process
                # when it copies an environment with a key of so many revisions that they fill a page.
                self.index = self._env.open_db(b"index", dupsort=True)
                self.leases = self._env.open_db(b"leases")
                self.lease_deadlines = self._env.open_db(b"lease_deadlines")
                self.lease_keys = self._env.open_db(b"lease_keys", dupsort=True)
                # The last: each is created in a transaction of its own, and `checking` wants all where it finds this one.
                self.meta = self._env.open_db(b"meta")
        except BaseException:
            self._env.close()
            raise

    @property
    def databases(self) -> tuple[lmdb._Database, ...]:
        return self.revisions, self.index, self.meta, self.leases, self.lease_deadlines, self.lease_keys

    def _check_length(self, data: Path) -> None:
        """LMDB maps the file and trusts its header: reading behind the end of a torn file would kill the process."""
        expected = self.committed_bytes
        actual = data.stat().st_size
        if actual < expected:
            raise CorruptionError(f"{data} is torn: {actual} bytes, its header says {expected}")

    # --- transactions -------------------------------------------------------------------------------------------------

    def begin(self) -> lmdb.Transaction[bytes]:
        """Begin the write transaction; it must end on the thread that calls this."""
        with lmdb_errors("begin a transaction"):
            return self._env.begin(write=True)

    def reader(self) -> Reader:
        """Begin a read transaction on what is committed."""
        with self._readers_changed:
            with lmdb_errors("begin a read transaction"):
                txn = self._env.begin(buffers=False)
            self._readers += 1
        return Reader(self, txn)

    def _reader_closed(self) -> None:
        with self._readers_changed:
            self._readers -= 1
            self._readers_changed.notify_all()

    def clear_stale_readers(self) -> int:
        """Free the reader slots of processes that died; says how many there were."""
        return self._env.reader_check()

    # --- size ---------------------------------------------------------------------------------------------------------

    @property
    def map_bytes(self) -> int:
        return self._env.info()["map_size"]

    @property
    def file_bytes(self) -> int:
        """What the file takes on the disk; its length is that of the map."""
        return (self.path / DATA_FILE).stat().st_blocks * 512

    @property
    def page_bytes(self) -> int:
        return self._env.stat()["psize"]

    @property
    def committed_bytes(self) -> int:
        """How much of the map the committed pages take, free ones among them included."""
        return (self._env.info()["last_pgno"] + 1) * self.page_bytes

    def grow(self) -> None:
        """Double the map. Waits for open readers; the caller must not have a write transaction open."""
        with self._readers_changed:
            self._readers_changed.wait_for(lambda: self._readers == 0)
            self._set_map(GROWTH_FACTOR * self.map_bytes)

    def grow_if_half_full(self) -> bool:
        """Grow early and without waiting: with a reader open, or room enough, nothing happens."""
        with self._readers_changed:
            if self._readers or GROWTH_FACTOR * self.committed_bytes < self.map_bytes:
                return False
            self._set_map(GROWTH_FACTOR * self.map_bytes)
            return True

    def _set_map(self, size: int) -> None:
        """File first: at no time may a page be allocated that lies behind its end."""
        size = _round_up(size)
        data = self.path / DATA_FILE
        try:
            if data.stat().st_size < size:
                os.truncate(data, size)
        except OSError as error:
            raise StorageError(f"cannot lengthen {data} to {size} bytes: {error.strerror}") from error
        with lmdb_errors("grow the map"):
            if size > self.map_bytes:
                self._env.set_mapsize(size)

    # --- copies and the end -------------------------------------------------------------------------------------------

    def copy_to(self, descriptor: int, reader: Reader) -> None:
        """Write what `reader` sees to a file, without free pages. Any thread; does not hinder the writer.

        Raises:
            CorruptionError, DiskFullError, StorageError
        """
        with lmdb_errors("copy the state", descriptor):
            self._env.copyfd(descriptor, compact=True, txn=reader.txn)

    def close(self) -> None:
        """Close it, once the last reader is gone."""
        with self._readers_changed:
            self._readers_changed.wait_for(lambda: self._readers == 0)
            self._env.close()


def _round_up(size: int) -> int:
    return -(-size // MAP_STEP_BYTES) * MAP_STEP_BYTES

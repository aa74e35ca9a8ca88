"""The data directory: one process uses it at a time, it belongs to one member of one cluster, and it knows its format.

    <data-dir>/LOCK           flock; holds the pid of the process that uses the directory
               raftkv.json    format, identity, its own id, incarnation, checksum; replaced atomically
               peers.json     what peers have said of their data (`PeerRecords`)
               wal/           the write-ahead log (`Wal`)
               state/         the state machine's, made by it

Creation is atomic: raftkv.json says that it is not complete until everything else is there, and an incomplete directory
is made anew at the next start. A directory that holds data but no raftkv.json, or whose log is gone, is refused: a member
that forgot its votes must not vote again.

May not live here: the log's contents, the state machine's files.
"""

from __future__ import annotations

import errno
import json
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from raftkv.errors import DataDirError, DiskFullError
from raftkv.storage.files import OS_FILES, FileSystem, replace_file
from raftkv.storage.peer_records import DataMark
from raftkv.storage.recovery import SEGMENT_NAME
from raftkv.storage.wal import Wal, WalOptions

FORMAT: Final = 1
FORMAT_FILE: Final = "raftkv.json"
LOCK_FILE: Final = "LOCK"
_TEMPORARY: Final = FORMAT_FILE + ".tmp"
_NOT_DATA: Final = frozenset({LOCK_FILE, _TEMPORARY, "lost+found"})
_FORMAT_FILE_BYTES_MAX: Final = 64 * 1024

RandomBytes = Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose data it is. `name` is for people; the ids decide."""

    cluster_id: int
    member_id: int
    name: str


@dataclass(frozen=True, slots=True)
class _Description:
    """What raftkv.json says."""

    identity: Identity
    data_id: int
    incarnation: int
    complete: bool


class DataDir:
    """An open, locked data directory. Close it last.

    Attributes:
        path: as given.
        identity: whose it is, as stored.
        incarnation: how often it has been opened, from 1; no two runs of the member share one, crash or not.
        mark: what peers are told, so that they notice if the data is lost or replaced.
    """

    def __init__(self, path: Path, files: FileSystem, lock: int, description: _Description, run_id: int) -> None:
        self.path = path
        self.identity = description.identity
        self.incarnation = description.incarnation
        self.mark = DataMark(description.data_id, description.incarnation, run_id=run_id)
        self._files = files
        self._lock: int | None = lock

    @property
    def wal_path(self) -> Path:
        return self.path / "wal"

    @property
    def state_path(self) -> Path:
        return self.path / "state"

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        create: Identity | None,
        wal_options: WalOptions | None = None,
        files: FileSystem = OS_FILES,
        random_bytes: RandomBytes = os.urandom,
    ) -> DataDir:
        """Lock the directory, check that it is ours, and count this run; all of it is durable when it returns.

        Args:
            path: the directory.
            create: who we are; the directory is made for us if there is none, and must be ours if there is one. None:
                take it as it is, whoever it belongs to.
            wal_options: of the log that is created with it.
            files: the disk.
            random_bytes: so many bytes that nobody had before.

        Raises:
            DataDirError: in use, of another member or cluster, of a newer format, damaged, unreadable, disk full. One
                line that names the directory.
        """
        with _data_dir_errors(path):
            if create is None and FORMAT_FILE not in files.listdir(path):
                raise DataDirError(f"{path} is not a data directory of raftkv: it has no {FORMAT_FILE}")
            files.mkdir(path)
            lock = _take_lock(path, files)
            try:
                description = _open_locked(path, create, wal_options, files, random_bytes)
                return cls(path, files, lock, description, run_id=_draw(random_bytes))
            except BaseException:
                files.close(lock)
                raise

    @staticmethod
    def identity_in(path: Path, *, files: FileSystem = OS_FILES) -> Identity | None:
        """Whose data a directory holds; None if there is none, or it was never completely created. Takes no lock.

        Raises:
            DataDirError: unreadable, damaged, or of a newer format.
        """
        if not path.exists():
            return None
        with _data_dir_errors(path):
            if FORMAT_FILE not in files.listdir(path):
                return None
            found = _read(path, files)
            return found.identity if found.complete else None

    def close(self) -> None:
        """Let another process use the directory. Closing twice is once."""
        lock, self._lock = self._lock, None
        if lock is not None:
            self._files.close(lock)


def _open_locked(
    path: Path,
    create: Identity | None,
    wal_options: WalOptions | None,
    files: FileSystem,
    random_bytes: RandomBytes,
) -> _Description:
    names = set(files.listdir(path))
    if FORMAT_FILE in names:
        found = _read(path, files)
        if found.complete:
            return _reopen(path, found, create, files)
    elif strangers := sorted(names - _NOT_DATA):
        raise DataDirError(f"{path} is not empty (it holds {strangers[0]}) and has no {FORMAT_FILE}: not ours to use")
    if create is None:
        raise DataDirError(f"{path} was never completely created; start its member to do that")
    return _create(path, create, wal_options, files, random_bytes)


def _create(
    path: Path,
    identity: Identity,
    wal_options: WalOptions | None,
    files: FileSystem,
    random_bytes: RandomBytes,
) -> _Description:
    """From nothing, or from what an interrupted creation left; the state machine has never seen either."""
    _write(path, _Description(identity, 0, incarnation=0, complete=False), files)
    wal = path / "wal"
    files.mkdir(wal)
    files.mkdir(path / "state")
    for name in files.listdir(wal):
        files.unlink(wal / name)
    files.sync_dir(wal)
    Wal.open(wal, options=wal_options, files=files, new_salt=lambda: random_bytes(8))[0].close()
    description = _Description(identity, _draw(random_bytes), incarnation=1, complete=True)
    _write(path, description, files)
    files.sync_dir(path.parent)
    return description


def _reopen(path: Path, found: _Description, ours: Identity | None, files: FileSystem) -> _Description:
    theirs = found.identity
    if ours is not None and theirs.cluster_id != ours.cluster_id:
        raise DataDirError(
            f"{path} belongs to cluster {theirs.cluster_id:x}, this node is of cluster {ours.cluster_id:x}"
        )
    if ours is not None and theirs.member_id != ours.member_id:
        raise DataDirError(
            f"{path} belongs to member {theirs.member_id:x} ({theirs.name}), "
            f"this node is member {ours.member_id:x} ({ours.name})"
        )
    for name in ("wal", "state"):
        if name not in files.listdir(path):
            raise DataDirError(f"{path} has lost its {name} directory: the member must be removed and added anew")
    if not any(SEGMENT_NAME.fullmatch(name) for name in files.listdir(path / "wal")):
        raise DataDirError(f"{path / 'wal'} has lost its log: the member must be removed and added anew")
    description = _Description(theirs, found.data_id, found.incarnation + 1, complete=True)
    _write(path, description, files)
    return description


def _take_lock(path: Path, files: FileSystem) -> int:
    handle = files.open(path / LOCK_FILE, create=True)
    if not files.lock(handle):
        holder = files.read(handle, 32, 0).decode("ascii", "replace").strip()
        files.close(handle)
        raise DataDirError(f"{path} is in use by process {holder or 'unknown'}")
    try:
        files.write(handle, b"%-20d\n" % os.getpid(), 0)
    except BaseException:
        files.close(handle)
        raise
    return handle


# --- raftkv.json ------------------------------------------------------------------------------------------------------


def _write(path: Path, description: _Description, files: FileSystem) -> None:
    identity = description.identity
    fields: dict[str, Any] = {
        "format": FORMAT,
        "cluster_id": f"{identity.cluster_id:x}",
        "member_id": f"{identity.member_id:x}",
        "name": identity.name,
        "data_id": f"{description.data_id:x}",
        "incarnation": description.incarnation,
        "complete": description.complete,
    }
    fields["checksum"] = _checksum(fields)
    replace_file(files, path, _TEMPORARY, FORMAT_FILE, json.dumps(fields, indent=2).encode() + b"\n")


def _read(path: Path, files: FileSystem) -> _Description:
    file = path / FORMAT_FILE
    handle = files.open(file)
    try:
        data = files.read(handle, _FORMAT_FILE_BYTES_MAX, 0)
    finally:
        files.close(handle)
    try:
        fields = json.loads(data)
        version = fields["format"]
        # Before the checksum, which a newer version may compute in another way.
        if isinstance(version, int) and version > FORMAT:
            raise DataDirError(f"{path} has data format {version}; this version of raftkv reads up to {FORMAT}")
        if fields.pop("checksum") != _checksum(fields):
            raise ValueError("the checksum does not match")
        identity = Identity(int(fields["cluster_id"], 16), int(fields["member_id"], 16), fields["name"])
        return _Description(identity, int(fields["data_id"], 16), fields["incarnation"], fields["complete"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataDirError(f"{file} is damaged: {error}") from error


def _draw(random_bytes: RandomBytes) -> int:
    """A number that no other directory, or run, has; never 0."""
    return int.from_bytes(random_bytes(8), "big") or 1


def _checksum(fields: dict[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(fields, sort_keys=True).encode()):08x}"


@contextmanager
def _data_dir_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except DiskFullError as error:
        raise DataDirError(f"data directory {path} cannot be used: the disk is full") from error
    except FileExistsError as error:
        raise DataDirError(f"{error.filename} is not a directory") from error
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        what = "the disk is full" if full else (error.strerror or str(error))
        where = error.filename or path
        raise DataDirError(f"data directory {path} cannot be used: {where}: {what}") from error

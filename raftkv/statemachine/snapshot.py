"""Snapshot files: a copy of the LMDB file with a seal behind it, and swapping one in.

    ┌──────────────────────────┬──────────────────────┬──────────────────────────────────────────────────────────────┐
    │ LMDB file, without holes │ SnapshotMeta encoded │ 64 bytes: magic, cluster id, lengths of both, sha256 of both │
    └──────────────────────────┴──────────────────────┴──────────────────────────────────────────────────────────────┘

LMDB maps its file and believes it: a torn one kills the process that reads it. So nothing is opened before its seal holds.

Swapping in: the received file is moved into the state directory under another name, loses its seal, is synced, and takes
the data file's place in one rename. A crash at any point leaves the old state or the new one.

What may not live here: the running state machine.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from raftkv.errors import CorruptionError, DiskFullError, StorageError
from raftkv.mvcc.checking import check_state
from raftkv.mvcc.environment import DATA_FILE, Environment, Reader
from raftkv.raft.types import SnapshotMeta
from raftkv.wire import decode_snapshot_meta, encode_snapshot_meta

INCOMING_FILE = "incoming.mdb"

_MAGIC = b"RKVSNAP1"
_SEAL = struct.Struct(">8sQQQ32s")
_CHUNK_BYTES = 1 << 20
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True, slots=True)
class Seal:
    """What a snapshot file says of itself."""

    cluster_id: int
    meta: SnapshotMeta
    data_bytes: int


class PreparedSnapshot:
    """A committed state, held by a read transaction, that any thread can write to a file: `snapshot(path)`.

    While it exists, LMDB keeps every page it needs and the map cannot grow: write it soon, or close it.
    """

    def __init__(self, environment: Environment, reader: Reader, cluster_id: int, meta: SnapshotMeta) -> None:
        self._environment = environment
        self._cluster_id = cluster_id
        self._reader = reader
        self.meta = meta

    def __call__(self, path: Path) -> SnapshotMeta:
        """Write the file, synced, and end the transaction. Blocks for as long as the disk takes.

        Raises:
            DiskFullError, StorageError: no file is left at `path`.
        """
        with self, disk_errors(f"write the snapshot {path}"):
            try:
                self._write(path)
            except BaseException:
                path.unlink(missing_ok=True)
                raise
        return self.meta

    def _write(self, path: Path) -> None:
        # Opened for reading too: the digest is of what was written, read back.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "r+b") as file:
            self._environment.copy_to(file.fileno(), self._reader)
            size = file.seek(0, os.SEEK_END)
            encoded = encode_snapshot_meta(self.meta)
            file.write(encoded)
            file.seek(0)
            digest = _digest(file, size + len(encoded))
            file.write(_SEAL.pack(_MAGIC, self._cluster_id, size, len(encoded), digest))
            file.flush()
            os.fsync(file.fileno())
        sync_directory(path.parent)

    def close(self) -> None:
        self._reader.close()

    def __enter__(self) -> PreparedSnapshot:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_seal(path: Path) -> Seal:
    """What a snapshot file says it is, believed. Any thread.

    Raises:
        CorruptionError: torn, or no snapshot.
        StorageError: unreadable.
    """
    with disk_errors(f"read the snapshot {path}"), path.open("rb") as file:
        return _read_seal(path, file)[0]


def verify_snapshot(path: Path) -> Seal:
    """Read a snapshot file from end to end: is it what was sealed, and was that a sound state? Any thread.

    Raises:
        CorruptionError: torn, or not what was written.
        StorageError: unreadable.
    """
    with disk_errors(f"read the snapshot {path}"), path.open("rb") as file:
        seal, sealed_bytes, digest = _read_seal(path, file)
        file.seek(0)
        if _digest(file, sealed_bytes) != digest:
            raise CorruptionError(f"{path} is damaged: its digest is another")
    check_state(path)  # Its maker may have sealed a state that was damaged while it ran.
    return seal


def _read_seal(path: Path, file: BinaryIO) -> tuple[Seal, int, bytes]:
    """The seal, the number of bytes its digest covers, and the digest."""
    size = file.seek(0, os.SEEK_END)
    if size < _SEAL.size:
        raise CorruptionError(f"{path} is torn: {size} bytes")
    file.seek(size - _SEAL.size)
    magic, cluster_id, data_bytes, meta_bytes, digest = _SEAL.unpack(file.read(_SEAL.size))
    if magic != _MAGIC or data_bytes + meta_bytes != size - _SEAL.size:
        raise CorruptionError(f"{path} is torn, or no snapshot: {size} bytes, no seal at the end")
    file.seek(data_bytes)
    try:
        meta = decode_snapshot_meta(file.read(meta_bytes))
    except ValueError as error:
        raise CorruptionError(f"{path} is damaged: {error}") from error
    return Seal(cluster_id, meta, data_bytes), data_bytes + meta_bytes, digest


def stage(path: Path, state: Path, seal: Seal) -> None:
    """Move a snapshot into the state directory, without its seal, synced; `swap_in` does the rest."""
    incoming = state / INCOMING_FILE
    with disk_errors(f"take over the snapshot {path}"):
        try:
            path.replace(incoming)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            shutil.copyfile(path, incoming)
            path.unlink()
        os.truncate(incoming, seal.data_bytes)
        descriptor = os.open(incoming, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def stage_copy(environment: Environment, reader: Reader, state: Path) -> None:
    """Write what `reader` sees into the state directory, without free pages, checked and synced; `swap_in` does the rest.

    Raises:
        CorruptionError: the copy is not a sound state; nothing is staged.
        DiskFullError, StorageError: nothing is staged.
    """
    incoming = state / INCOMING_FILE
    with disk_errors(f"copy the state in {state}"):
        try:
            descriptor = os.open(incoming, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                environment.copy_to(file.fileno(), reader)
                os.fsync(file.fileno())
            check_state(incoming)
        except BaseException:
            incoming.unlink(missing_ok=True)
            raise


def swap_in(state: Path) -> None:
    """Put the staged file in the data file's place. Nothing may have the environment open."""
    with disk_errors(f"swap in a snapshot in {state}"):
        (state / INCOMING_FILE).replace(state / DATA_FILE)
        sync_directory(state)


def discard_staged(state: Path) -> None:
    """Remove what a crash left between `stage` and `swap_in`."""
    with suppress(FileNotFoundError):
        (state / INCOMING_FILE).unlink()


def sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class disk_errors:  # noqa: N801 - used like a function
    """Turn OSError into `StorageError`, or `DiskFullError` where that is what it means."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, OSError):
            cls = DiskFullError if error.errno in _NO_SPACE else StorageError
            raise cls(f"cannot {self._what}: {error.strerror}") from error


def _digest(file: BinaryIO, size: int) -> bytes:
    """sha256 of the next `size` bytes; the file is behind them afterwards."""
    digest = hashlib.sha256()
    while size > 0:
        chunk = file.read(min(size, _CHUNK_BYTES))
        if not chunk:
            raise CorruptionError(f"a snapshot ends {size} bytes early")
        digest.update(chunk)
        size -= len(chunk)
    return digest.digest()

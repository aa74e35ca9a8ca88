"""The few file operations that storage needs, as one port: the operating system behind it, or a disk that loses and tears.

May not live here: what is written where. Nothing in this package calls `os` for a file but this module.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

from raftkv.errors import DiskFullError, StorageError


class FileSystem(Protocol):
    """What storage asks of a disk. Failures are `OSError`.

    Bytes written are safe after `sync` of the file; names created, renamed or removed are safe after `sync_dir` of their
    directory. Until then a crash may keep all of it, some of it, or nothing.
    """

    def open(self, path: Path, *, create: bool = False) -> int:
        """A handle for reading and writing. With `create` the file is made if it is missing."""
        ...

    def close(self, handle: int) -> None: ...

    def size(self, handle: int) -> int: ...

    def read(self, handle: int, size: int, offset: int) -> bytes:
        """Up to `size` bytes; fewer only at the end of the file."""
        ...

    def write(self, handle: int, data: bytes | bytearray, offset: int) -> None:
        """All of `data`, or an exception."""
        ...

    def allocate(self, handle: int, size: int) -> None:
        """Make the file exactly `size` bytes long, with the space for them reserved where the file system can do that."""
        ...

    def sync(self, handle: int) -> None:
        """Data, and whatever metadata is needed to read it back."""
        ...

    def lock(self, handle: int) -> bool:
        """Lock the file for this handle alone, until it is closed. False: somebody else holds the lock."""
        ...

    def rename(self, source: Path, target: Path) -> None: ...

    def unlink(self, path: Path) -> None: ...

    def mkdir(self, path: Path) -> None:
        """Make the directory and its parents; nothing happens if it is there already."""
        ...

    def listdir(self, path: Path) -> list[str]: ...

    def sync_dir(self, path: Path) -> None: ...


class OsFileSystem:
    """The operating system's files. Source: fdatasync(2), posix_fallocate(3), flock(2)."""

    def open(self, path: Path, *, create: bool = False) -> int:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0), 0o600)

    def close(self, handle: int) -> None:
        os.close(handle)

    def size(self, handle: int) -> int:
        return os.fstat(handle).st_size

    def read(self, handle: int, size: int, offset: int) -> bytes:
        chunks = []
        while size > 0 and (chunk := os.pread(handle, size, offset)):
            chunks.append(chunk)
            size -= len(chunk)
            offset += len(chunk)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def write(self, handle: int, data: bytes | bytearray, offset: int) -> None:
        written = os.pwrite(handle, data, offset)
        while written < len(data):  # A signal or a nearly full disk may cut a write short; the next one says why.
            written += os.pwrite(handle, memoryview(data)[written:], offset + written)

    def allocate(self, handle: int, size: int) -> None:
        os.ftruncate(handle, size)
        if hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(handle, 0, size)
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                    raise

    def sync(self, handle: int) -> None:
        if hasattr(fcntl, "F_FULLFSYNC"):  # macOS: fsync reaches the drive's cache only.
            fcntl.fcntl(handle, fcntl.F_FULLFSYNC)
        else:
            os.fdatasync(handle)

    def lock(self, handle: int) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def rename(self, source: Path, target: Path) -> None:
        os.rename(source, target)

    def unlink(self, path: Path) -> None:
        os.unlink(path)

    def mkdir(self, path: Path) -> None:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def listdir(self, path: Path) -> list[str]:
        return sorted(os.listdir(path))

    def sync_dir(self, path: Path) -> None:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


OS_FILES: Final[FileSystem] = OsFileSystem()


def replace_file(files: FileSystem, directory: Path, temporary: str, name: str, data: bytes) -> None:
    """Write a file that is there before and after a crash, with all of the old or all of the new; durable on return.

    `temporary` is its name until it is complete; a crash may leave that behind.
    """
    handle = files.open(directory / temporary, create=True)
    try:
        files.allocate(handle, len(data))
        files.write(handle, data, 0)
        files.sync(handle)
    finally:
        files.close(handle)
    files.rename(directory / temporary, directory / name)
    files.sync_dir(directory)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn an `OSError` into one of ours that names the path: DiskFullError or StorageError."""
    try:
        yield
    except OSError as error:
        kind = DiskFullError if error.errno in (errno.ENOSPC, errno.EDQUOT) else StorageError
        raise kind(f"{path}: {error.strerror or error}") from error

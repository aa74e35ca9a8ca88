"""A disk in memory that forgets what was not synced, tears what was being written, and fails when told to.

Bytes are durable after `sync` of their file, names after `sync_dir` of their directory. `after_crash` is the disk that the
next start finds: of everything not synced each 64-byte sector and each change of a name survives or not, by the dice.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

SECTOR_BYTES = 64


class Crash(BaseException):
    """The process is gone. Not an Exception: nobody may handle it."""


@dataclass
class File:
    data: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    locked: bool = False


@dataclass
class Directory:
    names: dict[str, File] = field(default_factory=dict)
    durable: dict[str, File] = field(default_factory=dict)
    changes: list[tuple[str, str | None, File]] = field(default_factory=list)
    """Not yet synced: (name, its new name or None if it is gone, file); a new file's name comes from "" """


class FaultyFiles:
    """A `FileSystem`. Operations that change something are counted from 1.

    Attributes:
        crash_at: the operation that never returns; it happens, happens in part, or does not.
        fail: asked before each operation (its name and path); may raise OSError.
        operations: how many there were.
    """

    def __init__(self) -> None:
        self.directories: dict[Path, Directory] = {}
        self.handles: dict[int, tuple[File, Path]] = {}
        self.next_handle = 3
        self.operations = 0
        self.crash_at: int | None = None
        self.fail: Callable[[str, Path], None] = lambda operation, path: None
        self.log: list[str] = []

    # --- faults -------------------------------------------------------------------------------------------------------

    def _change(self, operation: str, path: Path) -> None:
        self.fail(operation, path)
        self.operations += 1
        self.log.append(f"{operation} {path.name}")
        if self.operations == self.crash_at:
            raise Crash(f"at operation {self.operations}: {operation} {path.name}")
        assert self.crash_at is None or self.operations < self.crash_at, "the process is gone"

    def after_crash(self, rng: random.Random) -> FaultyFiles:
        """What a machine finds that lost its power now."""
        mode = rng.choice(("nothing", "everything", "some"))
        keep = {"nothing": lambda: False, "everything": lambda: True, "some": lambda: rng.random() < 0.5}[mode]
        survivor = type(self)()
        copies: dict[int, File] = {}
        for path, directory in self.directories.items():
            names = dict(directory.durable)
            for old, new, file in directory.changes:
                if keep():
                    if names.get(old) is file:
                        del names[old]
                    if new is not None:
                        names[new] = file
            kept = {name: copies.setdefault(id(file), _survive(file, keep)) for name, file in names.items()}
            survivor.directories[path] = Directory(dict(kept), dict(kept))
        return survivor

    # --- the port -----------------------------------------------------------------------------------------------------

    def open(self, path: Path, *, create: bool = False) -> int:
        directory = self._directory(path.parent)
        if path.name not in directory.names:
            if not create:
                raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path))
            self._change("create", path)
            file = directory.names[path.name] = File()
            directory.changes.append(("", path.name, file))
        self.fail("open", path)
        self.next_handle += 1
        self.handles[self.next_handle] = (directory.names[path.name], path)
        return self.next_handle

    def close(self, handle: int) -> None:
        file, _ = self.handles.pop(handle)
        file.locked = False

    def size(self, handle: int) -> int:
        return len(self.handles[handle][0].data)

    def read(self, handle: int, size: int, offset: int) -> bytes:
        file, path = self.handles[handle]
        self.fail("read", path)
        return bytes(file.data[offset : offset + size])

    def write(self, handle: int, data: bytes | bytearray, offset: int) -> None:
        file, path = self.handles[handle]
        try:
            self._change("write", path)
        except Crash:
            _put(file.data, bytes(data), offset)  # The page cache may have it; `after_crash` decides.
            raise
        _put(file.data, bytes(data), offset)

    def allocate(self, handle: int, size: int) -> None:
        file, path = self.handles[handle]
        self._change("allocate", path)
        del file.data[size:]
        file.data.extend(bytes(size - len(file.data)))

    def sync(self, handle: int) -> None:
        file, path = self.handles[handle]
        self._change("sync", path)
        file.durable[:] = file.data

    def lock(self, handle: int) -> bool:
        file, _ = self.handles[handle]
        if file.locked:
            return False
        file.locked = True
        return True

    def rename(self, source: Path, target: Path) -> None:
        assert source.parent == target.parent, "a rename across directories"
        directory = self._directory(source.parent)
        if source.name not in directory.names:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(source))
        file = directory.names[source.name]
        change = (source.name, target.name, file)
        try:
            self._change("rename", source)
        except Crash:
            directory.changes.append(change)
            raise
        del directory.names[source.name]
        directory.names[target.name] = file
        directory.changes.append(change)
        self.handles.update({h: (f, target) for h, (f, _) in self.handles.items() if f is file})

    def unlink(self, path: Path) -> None:
        directory = self._directory(path.parent)
        if path.name not in directory.names:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path))
        change = (path.name, None, directory.names[path.name])
        try:
            self._change("unlink", path)
        except Crash:
            directory.changes.append(change)
            raise
        del directory.names[path.name]
        directory.changes.append(change)

    def mkdir(self, path: Path) -> None:
        """Directories themselves are durable at once: what is in them is the point here."""
        self.fail("mkdir", path)
        self.directories.setdefault(path, Directory())

    def listdir(self, path: Path) -> list[str]:
        self.fail("listdir", path)
        inner = [other.name for other in self.directories if other.parent == path and other != path]
        return sorted([*self._directory(path).names, *inner])

    def sync_dir(self, path: Path) -> None:
        self._change("sync_dir", path)
        if path in self.directories:
            directory = self.directories[path]
            directory.durable = dict(directory.names)
            directory.changes.clear()

    # --- for tests ----------------------------------------------------------------------------------------------------

    def file(self, path: Path) -> bytearray:
        """The bytes of a file, durable and to be edited, as if the node were down."""
        file = self._directory(path.parent).names[path.name]
        file.durable = file.data
        return file.data

    def copy(self) -> FaultyFiles:
        """The same disk, everything on it durable, nothing open."""
        twin = FaultyFiles()
        for path, directory in self.directories.items():
            names = {name: File(bytearray(file.data), bytearray(file.data)) for name, file in directory.names.items()}
            twin.directories[path] = Directory(names, dict(names))
        return twin

    def contents(self) -> dict[str, bytes]:
        return {
            str(path / name): bytes(file.data)
            for path, directory in self.directories.items()
            for name, file in directory.names.items()
        }

    def _directory(self, path: Path) -> Directory:
        if path not in self.directories:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path))
        return self.directories[path]


def _put(into: bytearray, data: bytes, offset: int) -> None:
    if len(into) < offset:
        into.extend(bytes(offset - len(into)))
    into[offset : offset + len(data)] = data


def _survive(file: File, keep: Callable[[], bool]) -> File:
    if len(file.data) != len(file.durable):
        if not keep():
            return File(bytearray(file.durable), bytearray(file.durable))
        durable = file.durable[: len(file.data)].ljust(len(file.data), b"\0")
    else:
        durable = bytearray(file.durable)
    for start in range(0, len(durable), SECTOR_BYTES):
        sector = slice(start, start + SECTOR_BYTES)
        if durable[sector] != file.data[sector] and keep():
            durable[sector] = file.data[sector]
    return File(bytearray(durable), bytearray(durable))

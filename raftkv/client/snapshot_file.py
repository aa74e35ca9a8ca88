"""A snapshot on its way into a file: whole and as it was sent, or not at all.

What may not live here: where it comes from.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

from raftkv.errors import DataLoss

BLOCK_BYTES: Final = 512
DIGEST_BYTES: Final = hashlib.sha256().digest_size


class Writable(Protocol):
    """An open file, or something like it."""

    def write(self, data: bytes, /) -> Any: ...


class SnapshotFile:
    """Writes what a server sends, and holds the digest at its end against it. Not for several threads at once."""

    def __init__(self, file: Writable) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._tail = b""  # What may turn out to be the digest.
        self.size = 0

    def write(self, blob: bytes) -> None:
        """Raises OSError: the file could not be written."""
        self._file.write(blob)
        self.size += len(blob)
        tail = self._tail + blob
        self._digest.update(tail[:-DIGEST_BYTES])
        self._tail = tail[-DIGEST_BYTES:]

    def finish(self) -> int:
        """Nothing more comes; how many bytes it was.

        Raises:
            DataLoss: that was not all of it, or not what was sent.
        """
        if self.size % BLOCK_BYTES != DIGEST_BYTES:
            raise DataLoss(f"sha256 checksum not found [bytes: {self.size}]")
        if self._digest.digest() != self._tail:
            raise DataLoss("the snapshot was damaged on its way: its digest is another")
        return self.size


@contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """A file that takes its name when the block ends well, synced; until then it is called `.part`, and goes if the block fails.

    Whoever reads a snapshot reads every value: the file is its owner's alone.
    """
    part = Path(f"{path}.part")
    try:
        with open(part, "wb", opener=_private) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)

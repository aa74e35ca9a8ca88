"""What `snapshot save` writes: a sealed snapshot, made to look like etcd's to whoever only carries it about.

    ┌─────────────────────────────────┬───────┬─────────────────────────────────────┬───────────────────────────────┐
    │ sealed snapshot (`snapshot`)    │ zeros │ 16 bytes: magic, length of the first │ sha256 of everything before it │
    └─────────────────────────────────┴───────┴─────────────────────────────────────┴───────────────────────────────┘
    0                                          a multiple of 512 up to here ───────►                       32 bytes more

etcdctl accepts a download whose length is a multiple of 512 and 32 bytes; the digest is how etcd's own files end.

What may not live here: making the snapshot, and what becomes of it.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from raftkv.errors import CorruptionError
from raftkv.statemachine.snapshot import disk_errors

CHUNK_BYTES = 256 * 1024
DIGEST_BYTES = hashlib.sha256().digest_size

_MAGIC = b"RKVEXPT1"
_TRAILER = struct.Struct(">8sQ")
_BLOCK_BYTES = 512
_BBOLT_MAGIC = struct.pack("<I", 0xED0CDAED)
_BBOLT_MAGIC_AT = 16
_LMDB_MAGIC = struct.pack("<I", 0xBEEFC0DE)
_LMDB_MAGIC_AT = 16


@dataclass(frozen=True, slots=True)
class Export:
    """What a saved file holds: `data_bytes` of it are the sealed snapshot, or, if it is none, a plain data file."""

    path: Path
    data_bytes: int
    is_sealed: bool


def exported_bytes(sealed_bytes: int) -> int:
    """How long the export of a sealed snapshot is, without its digest."""
    return -(-(sealed_bytes + _TRAILER.size) // _BLOCK_BYTES) * _BLOCK_BYTES


def export_chunks(file: BinaryIO, sealed_bytes: int) -> Iterator[bytes]:
    """The export of a sealed snapshot, from its open file: the data in pieces, then the digest as a piece of its own.

    Raises:
        CorruptionError: the file is shorter than it was.
    """
    digest = hashlib.sha256()
    left = sealed_bytes
    while left:
        chunk = file.read(min(CHUNK_BYTES, left))
        if not chunk:
            raise CorruptionError(f"a snapshot ends {left} bytes early")
        left -= len(chunk)
        digest.update(chunk)
        yield chunk
    zeros = exported_bytes(sealed_bytes) - sealed_bytes - _TRAILER.size
    end = bytes(zeros) + _TRAILER.pack(_MAGIC, sealed_bytes)
    digest.update(end)
    yield end
    yield digest.digest()


def read_export(path: Path, *, skip_hash_check: bool = False) -> Export:
    """Check a saved file from end to end, as far as its digest goes, and find what is in it.

    With `skip_hash_check` its digest may be wrong or missing: a data file out of a data directory will do too.

    Raises:
        CorruptionError: truncated, altered, or no snapshot of raftkv.
        StorageError: it cannot be read.
    """
    with disk_errors(f"open {path}"), path.open("rb") as file:
        head = file.read(_BBOLT_MAGIC_AT + len(_BBOLT_MAGIC))
        size = file.seek(0, 2)
        if head[_BBOLT_MAGIC_AT:] == _BBOLT_MAGIC:
            raise CorruptionError(f"{path} is a snapshot of etcd (a bbolt file): raftkv can restore its own alone")
        if head[_LMDB_MAGIC_AT:] != _LMDB_MAGIC:
            raise CorruptionError(f"{path} is no snapshot of raftkv")
        has_digest = size % _BLOCK_BYTES == DIGEST_BYTES
        if not skip_hash_check:
            if not has_digest:
                raise CorruptionError(f"{path}: snapshot missing hash but --skip-hash-check=false: it is truncated")
            _check_digest(file, path, size - DIGEST_BYTES)
        return _found(file, path, size - (DIGEST_BYTES if has_digest else 0), size)


def _found(file: BinaryIO, path: Path, end: int, size: int) -> Export:
    if end >= _TRAILER.size:
        file.seek(end - _TRAILER.size)
        magic, sealed_bytes = _TRAILER.unpack(file.read(_TRAILER.size))
        if magic == _MAGIC and exported_bytes(sealed_bytes) == end:
            return Export(path, sealed_bytes, is_sealed=True)
    return Export(path, size, is_sealed=False)


def _check_digest(file: BinaryIO, path: Path, size: int) -> None:
    digest = hashlib.sha256()
    file.seek(0)
    left = size
    while left:
        chunk = file.read(min(CHUNK_BYTES, left))
        digest.update(chunk)
        left -= len(chunk)
        if not chunk:
            break
    found = digest.digest()
    if file.read(DIGEST_BYTES) != found:
        raise CorruptionError(f"{path} is damaged: its digest is another")

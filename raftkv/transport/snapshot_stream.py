"""A snapshot on the wire: a header, data chunks, a digest; and on the other end a file that is whole or does not exist.

Disk work runs on worker threads: a slow disk must not stop the loop.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import BinaryIO

from raftkv import wire
from raftkv.errors import PeerError
from raftkv.pb import peer_pb2
from raftkv.raft.messages import InstallSnapshot
from raftkv.raft.types import NodeId
from raftkv.transport.channel import CHUNK_BYTES

INCOMING_PREFIX = "incoming-"


async def send_chunks(
    hello: peer_pb2.Hello, message: InstallSnapshot, path: Path
) -> AsyncIterator[peer_pb2.SnapshotChunk]:
    """The header, then the file in chunks, then the digest of all data."""
    yield peer_pb2.SnapshotChunk(hello=hello, message=wire.encode_message(message))
    digest = hashlib.sha256()
    with await asyncio.to_thread(path.open, "rb") as file:
        while data := await asyncio.to_thread(file.read, CHUNK_BYTES):
            digest.update(data)
            yield peer_pb2.SnapshotChunk(data=data)
    yield peer_pb2.SnapshotChunk(sha256=digest.digest())


async def receive_snapshot(
    chunks: AsyncIterator[peer_pb2.SnapshotChunk],
    directory: Path,
    check_hello: Callable[[peer_pb2.Hello], NodeId],
    verify: Callable[[Path], object],
) -> tuple[InstallSnapshot, Path]:
    """Write what arrives to a new file in `directory`, check its digest, sync it, have it verified.

    Raises:
        PeerError: the peer is a stranger, or the stream is malformed, cut short, or its digest wrong; no file is left.
        CorruptionError: `verify` says that the sender sent what its disk had damaged; no file is left.
        OSError: the file could not be written; no file is left.
    """
    message = _check_header(await anext(chunks, None), check_hello)
    handle, name = await asyncio.to_thread(tempfile.mkstemp, prefix=INCOMING_PREFIX, dir=directory)
    path = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            await _receive_data(chunks, file)
            await asyncio.to_thread(_sync, file)
        await asyncio.to_thread(verify, path)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return message, path


def _check_header(
    first: peer_pb2.SnapshotChunk | None, check_hello: Callable[[peer_pb2.Hello], NodeId]
) -> InstallSnapshot:
    if first is None:
        raise PeerError("a snapshot stream without a first chunk")
    sender = check_hello(first.hello)
    message = wire.decode_message(first.message)
    if not isinstance(message, InstallSnapshot) or message.sender != sender:
        raise PeerError("a snapshot stream must begin with its sender's InstallSnapshot")
    return message


async def _receive_data(chunks: AsyncIterator[peer_pb2.SnapshotChunk], file: BinaryIO) -> None:
    digest = hashlib.sha256()
    async for chunk in chunks:
        if chunk.sha256:
            if chunk.sha256 != digest.digest():
                raise PeerError("a snapshot arrived with a wrong digest")
            return
        digest.update(chunk.data)
        await asyncio.to_thread(file.write, chunk.data)
    raise PeerError("a snapshot stream ended before its digest")


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())

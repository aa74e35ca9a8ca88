"""A snapshot on the wire: a header, data chunks, a digest; and on the other end a file that is whole or does not exist.

Disk work runs on worker threads: a slow disk must not stop the loop.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from pathlib import Path
from typing import BinaryIO

import grpc

from raftkv import wire
from raftkv.errors import PeerError
from raftkv.pb import peer_pb2
from raftkv.raft.messages import InstallSnapshot
from raftkv.raft.types import NodeId
from raftkv.transport.channel import CHANNEL_OPTIONS, CHUNK_BYTES

SNAPSHOT_PATH = "/raftkv.peer.Peer/InstallSnapshot"
INCOMING_PREFIX = "incoming-"
TAKEN_S = 30.0
"""A receiver that has not taken the next chunk by then has a disk that hangs: gRPC answers keepalives for it all the same."""
ANSWER_S = 60.0
STORED_BYTES_PER_S = 10_000_000
"""After the last chunk the receiver writes out all of it and reads it again: on the slowest disk at this pace."""


async def send_snapshot(
    address: str,
    hello: peer_pb2.Hello,
    message: InstallSnapshot,
    path: Path,
    *,
    taken_s: float = TAKEN_S,
    answer_s: float = ANSWER_S,
) -> int:
    """Stream the snapshot in `path` to a peer; return the index up to which that then matches.

    Args:
        address: the peer's, as `host:port`.
        hello: who sends it, and to whom.
        message: what it is.
        path: where it is.
        taken_s: how long the peer may take for one chunk.
        answer_s: how long for its answer after the last one; for each `STORED_BYTES_PER_S` it has a second more.

    Raises:
        PeerError: the peer refused it, the stream broke, or the peer is too slow.
        OSError: the file could not be read.
    """
    answer_s += (await asyncio.to_thread(path.stat)).st_size / STORED_BYTES_PER_S
    async with grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
        call = channel.stream_unary(
            SNAPSHOT_PATH,
            request_serializer=peer_pb2.SnapshotChunk.SerializeToString,
            response_deserializer=peer_pb2.SnapshotResult.FromString,
        )()
        limit_s = taken_s
        try:
            with suppress(asyncio.InvalidStateError):  # The peer has ended the call already: its status says why.
                async with aclosing(_chunks_of(hello, message, path)) as chunks:
                    async for chunk in chunks:
                        async with asyncio.timeout(taken_s):
                            await call.write(chunk)
                await call.done_writing()
            limit_s = answer_s
            async with asyncio.timeout(answer_s):
                result = await call
        except grpc.aio.AioRpcError as error:
            raise PeerError(error.details() or error.code().name) from None
        except TimeoutError:
            raise PeerError(f"it has stood still for {limit_s:g} s") from None
    if not isinstance(result, peer_pb2.SnapshotResult):  # gRPC's word for bytes that cannot be read.
        raise PeerError("its answer cannot be read")
    return int(result.match_index)


async def _chunks_of(
    hello: peer_pb2.Hello, message: InstallSnapshot, path: Path
) -> AsyncGenerator[peer_pb2.SnapshotChunk, None]:
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
    check_hello: Callable[[peer_pb2.Hello], Awaitable[NodeId]],
    verify: Callable[[Path], object],
) -> tuple[InstallSnapshot, Path]:
    """Write what arrives to a new file in `directory`, check its digest, sync it, have it verified.

    Raises:
        PeerError: the peer is a stranger, or the stream is malformed, cut short, or its digest wrong; no file is left.
        CorruptionError: `verify` says that the sender sent what its disk had damaged; no file is left.
        OSError: the file could not be written; no file is left.
    """
    message = await _check_header(await anext(chunks, None), check_hello)
    handle, name = await asyncio.to_thread(tempfile.mkstemp, prefix=INCOMING_PREFIX, dir=directory)
    path, file = Path(name), os.fdopen(handle, "wb")
    try:
        await _receive_data(chunks, file)
        await asyncio.to_thread(_sync_and_close, file)
        await asyncio.to_thread(verify, path)
    except (Exception, asyncio.CancelledError):
        # Closing waits for a write that hangs, and a large file takes its time to be removed. Neither is left undone if gRPC
        # cancels again, as it may.
        await asyncio.shield(asyncio.to_thread(_discard, file, path))
        raise
    return message, path


async def _check_header(
    first: peer_pb2.SnapshotChunk | None, check_hello: Callable[[peer_pb2.Hello], Awaitable[NodeId]]
) -> InstallSnapshot:
    if first is None:
        raise PeerError("a snapshot stream without a first chunk")
    sender = await check_hello(first.hello)
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


def _sync_and_close(file: BinaryIO) -> None:
    with file:
        file.flush()
        os.fsync(file.fileno())


def _discard(file: BinaryIO, path: Path) -> None:
    with suppress(OSError):  # A full disk takes what is left to be written no better now.
        file.close()
    path.unlink(missing_ok=True)

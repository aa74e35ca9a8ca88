"""A snapshot for a client: the state as a file, streamed as etcd streams its own.

The state is copied into a file first, at the disk's pace and not at the client's: a client that reads slowly holds back a file
that has no name any more, and not pages of the store.

What may not live here: how a snapshot is made, and what it looks like (`raftkv.statemachine`).
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from raftkv.errors import TOO_MANY_REQUESTS, DiskFullError, ResourceExhausted
from raftkv.node import Node
from raftkv.pb import rpc_pb2
from raftkv.statemachine import PreparedSnapshot
from raftkv.statemachine.export import export_chunks, exported_bytes

STREAMS_MAX = 2
"""At a time: each takes the size of the state on the disk."""
FREE_BYTES_MIN = 128 << 20
"""What a copy leaves free on the disk: the log needs it more than the client its snapshot."""
PREPARE_S = 30.0
"""For the commit before the copy, behind what the state machine has yet to do."""
NO_ROOM = "etcdserver: not enough room on this node's disk for a copy of its state"


class SnapshotStreams:
    """The snapshots under way to clients of one node."""

    def __init__(self, node: Node, directory: Path) -> None:
        self._node = node
        self._directory = directory
        self._streams = 0
        self._numbers = itertools.count(1)

    async def snapshot(self, _request: rpc_pb2.SnapshotRequest) -> AsyncGenerator[rpc_pb2.SnapshotResponse, None]:
        """The state as of now, in pieces; `remaining_bytes` counts down to 0; the last piece is the digest of the others.

        Raises:
            ResourceExhausted: too many at a time, or no room for the copy.
            Unavailable, DeadlineExceeded: the node stops, or its state machine does not move.
        """
        if self._streams >= STREAMS_MAX:
            raise ResourceExhausted(TOO_MANY_REQUESTS)
        self._streams += 1
        try:
            file = await self._copy()
            try:
                size = os.fstat(file.fileno()).st_size
                remaining = exported_bytes(size)
                chunks = export_chunks(file, size)
                while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
                    remaining = max(0, remaining - len(chunk))
                    yield rpc_pb2.SnapshotResponse(remaining_bytes=remaining, blob=chunk)
            finally:
                # The file has no name: with its last handle goes all of it, which takes its time.
                await asyncio.shield(asyncio.to_thread(file.close))
        finally:
            self._streams -= 1

    async def _copy(self) -> BinaryIO:
        disk = await asyncio.to_thread(os.statvfs, self._directory)
        if disk.f_bavail * disk.f_frsize < self._node.bytes_in_use + FREE_BYTES_MIN:
            raise ResourceExhausted(NO_ROOM)
        prepared = await self._node.read_local(lambda machine: machine.prepare_snapshot(), timeout_s=PREPARE_S)
        path = self._directory / f"client-{next(self._numbers)}.snapshot"
        try:
            return await asyncio.to_thread(_written, prepared, path)
        except DiskFullError:
            raise ResourceExhausted(NO_ROOM) from None


def _written(prepared: PreparedSnapshot, path: Path) -> BinaryIO:
    """The snapshot's file, open; its name is gone, so whatever happens, so is the file when it is closed."""
    try:
        prepared(path)
        return path.open("rb")
    finally:
        with suppress(FileNotFoundError):
            path.unlink()

"""Faults that a node carries out on itself: what is broken right now, and the ports through which that is felt.

    Drill service ──► DrillFaults ◄── asked by ── DrillFiles (the log's files), DrillTransport (messages to peers),
                      one fault,                  `from_peers` (messages from peers)
                      until when

Built only with --enable-drills: without it none of these stands between a node and its disk or its peers. Every fault has an end
in time from its beginning, so that a drill that dies leaves nothing broken.

What may not live here: gRPC (``drill.py``), and the faults that need no port: a crash, a hang.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from raftkv.errors import PeerError
from raftkv.node.ports import TransportPort
from raftkv.node.watchdogs import free_bytes
from raftkv.pb import rpc_pb2
from raftkv.pb.drill_pb2 import Fault
from raftkv.raft.messages import InstallSnapshot, Message
from raftkv.storage.files import OS_FILES, FileSystem

DEAF = frozenset({Fault.CUT, Fault.DEAF})
MUTE = frozenset({Fault.CUT, Fault.MUTE})


class DrillFaults:
    """The one fault of this node, if there is one. Any thread may ask."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._fault: Fault = Fault.NONE
        self._ends_at = 0.0

    @property
    def fault(self) -> Fault:
        """What is broken now."""
        return self._fault if self._clock() < self._ends_at else Fault.NONE

    @property
    def remaining_s(self) -> float:
        """How long it lasts yet, at most."""
        return max(0.0, self._ends_at - self._clock())

    def begin(self, fault: Fault, duration_s: float) -> None:
        """Break something. It is made good after the duration, or by ``heal``."""
        with self._changed:
            self._fault, self._ends_at = fault, self._clock() + duration_s
            self._changed.notify_all()

    def heal(self) -> Fault:
        """Make it good; returns what it was."""
        with self._changed:
            healed, self._fault, self._ends_at = self.fault, Fault.NONE, 0.0
            self._changed.notify_all()
        return healed

    def wait_while(self, fault: Fault) -> None:
        """Block for as long as this is what is broken."""
        with self._changed:
            while self.fault == fault:
                self._changed.wait(self.remaining_s)


def log_files(faults: DrillFaults | None) -> FileSystem:
    """The files of the log: the operating system's own unless drills are enabled."""
    return OS_FILES if faults is None else DrillFiles(OS_FILES, faults)


def to_peers(faults: DrillFaults | None, transport: TransportPort) -> TransportPort:
    """The way to the peers: the transport itself unless drills are enabled."""
    return transport if faults is None else DrillTransport(transport, faults)


def from_peers(
    faults: DrillFaults | None, deliver: Callable[[Sequence[Message]], None]
) -> Callable[[Sequence[Message]], None]:
    """The way from the peers, on which a deaf node hears nothing; ``deliver`` itself unless drills are enabled."""
    if faults is None:
        return deliver

    def deliver_unless_deaf(messages: Sequence[Message]) -> None:
        if faults.fault not in DEAF:
            deliver(messages)

    return deliver_unless_deaf


def free_space(faults: DrillFaults | None) -> Callable[[Path], int]:
    """The free bytes of a path's file system: none while a drill has its disk full."""
    if faults is None:
        return free_bytes
    return lambda path: 0 if faults.fault == Fault.DISK_FULL else free_bytes(path)


class DrillTransport:
    """The way to the peers, on which a mute node's messages are lost. A deaf one gets no answer to a snapshot."""

    def __init__(self, transport: TransportPort, faults: DrillFaults) -> None:
        self._transport = transport
        self._faults = faults

    def send(self, messages: Sequence[Message]) -> None:
        if self._faults.fault not in MUTE:
            self._transport.send(messages)

    async def send_snapshot(self, message: InstallSnapshot, path: Path) -> int:
        if self._faults.fault in DEAF | MUTE:
            raise PeerError("cut off by a drill")
        answer: Awaitable[int] = self._transport.send_snapshot(message, path)
        return await answer

    def set_peers(self, members: Sequence[rpc_pb2.Member]) -> None:
        self._transport.set_peers(members)


class DrillFiles:
    """The log's files on a disk that hangs or is full. Reading works: what matters of it is in memory."""

    def __init__(self, files: FileSystem, faults: DrillFaults) -> None:
        self._files = files
        self._faults = faults

    def open(self, path: Path, *, create: bool = False) -> int:
        if create:
            self._feel()
        return self._files.open(path, create=create)

    def close(self, handle: int) -> None:
        self._files.close(handle)

    def size(self, handle: int) -> int:
        return self._files.size(handle)

    def read(self, handle: int, size: int, offset: int) -> bytes:
        return self._files.read(handle, size, offset)

    def write(self, handle: int, data: bytes | bytearray, offset: int) -> None:
        self._feel(needs_room=offset + len(data) > self._files.size(handle))
        self._files.write(handle, data, offset)

    def allocate(self, handle: int, size: int) -> None:
        self._feel(needs_room=size > self._files.size(handle))
        self._files.allocate(handle, size)

    def sync(self, handle: int) -> None:
        self._feel()
        self._files.sync(handle)

    def lock(self, handle: int) -> bool:
        return self._files.lock(handle)

    def rename(self, source: Path, target: Path) -> None:
        self._feel()
        self._files.rename(source, target)

    def unlink(self, path: Path) -> None:
        self._feel()
        self._files.unlink(path)

    def mkdir(self, path: Path) -> None:
        self._files.mkdir(path)

    def listdir(self, path: Path) -> list[str]:
        return self._files.listdir(path)

    def sync_dir(self, path: Path) -> None:
        self._feel()
        self._files.sync_dir(path)

    def _feel(self, *, needs_room: bool = False) -> None:
        self._faults.wait_while(Fault.DISK_STALL)
        if needs_room and self._faults.fault == Fault.DISK_FULL:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

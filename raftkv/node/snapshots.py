"""Snapshots in both directions: made for followers that are behind the log, and received by such a follower.

The database is the snapshot (`StateMachine.prepare_snapshot`): one consistent copy in a file, streamed by the transport. One
copy serves every follower that asks while it is fresh, and one stream runs at a time: a leader that copies its disk to several
followers at once would be the sick one. So that nobody holds up the others, a stream ends when its receiver takes nothing any
more (the transport sees to that), is no member any more, or when this node leads no more.

What may not live here: the stream itself (transport) and the copying (state machine).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from raftkv.errors import RaftkvError, StorageError
from raftkv.node.events import Failed
from raftkv.node.flight_record import FlightRecord
from raftkv.node.inbox import Inbox
from raftkv.node.ports import ApplierPort, TransportPort
from raftkv.raft import Raft, RoleName
from raftkv.raft.messages import InstallSnapshot
from raftkv.raft.types import NodeId, SnapshotMeta

OUTGOING_FILE = "outgoing.snapshot"
RETRY_S = 1.0
"""After a copy that could not be written, before the next one: a full disk does not empty itself in a moment."""

log = logging.getLogger("raftkv.node")


def empty_directory(path: Path) -> Path:
    """The directory for snapshots on their way, without what a crash left there."""
    path.mkdir(exist_ok=True)
    for leftover in path.iterdir():
        leftover.unlink()
    return path


class SnapshotDuty:
    """Owns the snapshot files on their way in and out, and the tasks that move them."""

    def __init__(
        self,
        raft: Raft,
        applier: ApplierPort,
        transport: TransportPort,
        inbox: Inbox,
        *,
        directory: Path,
        flight: FlightRecord,
    ) -> None:
        self._flight = flight
        self._directory = directory
        self._raft = raft
        self._applier = applier
        self._transport = transport
        self._inbox = inbox
        self._wanted: dict[NodeId, None] = {}
        self._sender: asyncio.Task[None] | None = None
        self._sending: SnapshotMeta | None = None
        self._stream: tuple[NodeId, asyncio.Timeout] | None = None
        """The one under way: to whom, and the time it has left, without an end while the snapshot is wanted there."""
        self._removed: Collection[NodeId] = ()
        self._received: tuple[SnapshotMeta, Path] | None = None
        self._removals: set[asyncio.Task[None]] = set()

    @property
    def oldest_index_in_use(self) -> int | None:
        """The log behind this index must stay: a follower that gets the snapshot goes on from there."""
        return self._sending.index if self._sending else None

    def send_to(self, node: NodeId) -> None:
        """A follower needs a snapshot: make and send one, after those asked for before."""
        self._wanted[node] = None
        if self._sender is None:
            self._start_sender()

    def reconsider(self, removed: Collection[NodeId]) -> None:
        """This node's role or the members have changed, of whom these were removed: what is sent in vain is broken off."""
        self._removed = removed
        if self._stream is not None and not self._is_wanted_by(self._stream[0]):
            self._stream[1].reschedule(asyncio.get_running_loop().time())
            self._stream = None

    def _is_wanted_by(self, node: NodeId) -> bool:
        return self._raft.role is RoleName.LEADER and node not in self._removed

    def offer(self, message: InstallSnapshot, path: Path) -> None:
        """A snapshot has arrived whole. Raft decides whether it is wanted: `install` follows in the same turn, or it goes."""
        self.discard_received()
        self._received = (message.snapshot, path)
        self._raft.step(message)

    def install(self, snapshot: SnapshotMeta) -> None:
        """Raft wants the snapshot that arrived last."""
        assert self._received is not None, f"no snapshot at hand to install {snapshot.index}@{snapshot.term}"
        meta, path = self._received
        assert meta == snapshot, f"holding snapshot {meta.index}@{meta.term}, told to install {snapshot.index}"
        self._received = None
        log.info("installing a snapshot at index %d", snapshot.index)
        self._applier.install(path, snapshot)

    def cancel(self) -> None:
        if self._sender is not None:
            self._sender.cancel()
        self.discard_received()

    def discard_received(self) -> None:
        """Remove the file of a snapshot that nobody wants."""
        if self._received is not None:
            self.remove(self._received[1])
            self._received = None

    def remove(self, path: Path) -> None:
        """Remove a file that arrived for nothing, not on the loop: one as large as the database takes its time."""
        removal = asyncio.get_running_loop().create_task(_remove(path), name="raftkv-snapshot-removal")
        self._removals.add(removal)
        removal.add_done_callback(self._removal_done)

    def _removal_done(self, removal: asyncio.Task[None]) -> None:
        self._removals.discard(removal)
        if not removal.cancelled() and (error := removal.exception()) is not None:
            self._inbox.post(Failed(error))

    def _start_sender(self) -> None:
        self._sender = asyncio.get_running_loop().create_task(self._send_wanted(), name="raftkv-snapshots")
        self._sender.add_done_callback(self._sender_done)

    async def _send_wanted(self) -> None:
        while self._wanted:
            path = self._directory / OUTGOING_FILE
            prepared = await self._call_applier(lambda machine: machine.prepare_snapshot())
            try:
                await self._send_copy(prepared, path)
            except asyncio.CancelledError:
                await self._drop_copy(path)
                raise
            await self._drop_copy(path)

    async def _send_copy(self, prepared: Any, path: Path) -> None:
        """Make one copy, for all who ask while it is fresh."""
        self._sending = prepared.meta
        try:
            await asyncio.to_thread(prepared, path)
        except StorageError as error:
            self._give_up(error)
            await asyncio.sleep(RETRY_S)
            return
        while self._wanted:
            node = next(iter(self._wanted))
            del self._wanted[node]
            await self._send(node, prepared.meta, path)

    async def _drop_copy(self, path: Path) -> None:
        """To the end, even if the node stops meanwhile; the next copy has the same name."""
        try:
            await asyncio.shield(_remove(path))
        finally:
            self._sending = None

    def _give_up(self, error: StorageError) -> None:
        """No copy could be written. The followers ask again; a leader that has room for its log need not stop for it."""
        log.warning("no snapshot could be made: %s", error)
        for node in self._wanted:
            self._raft.snapshot_failed(node)
        self._wanted.clear()
        self._inbox.wake()

    async def _send(self, node: NodeId, snapshot: SnapshotMeta, path: Path) -> None:
        if not self._is_wanted_by(node):
            return
        message = InstallSnapshot(sender=self._raft.node_id, receiver=node, term=self._raft.term, snapshot=snapshot)
        size = path.stat().st_size
        log.info("sending a snapshot at index %d (%d bytes) to %x", snapshot.index, size, node)
        try:
            await self._stream_to(node, message, path)
        except (RaftkvError, OSError) as error:
            reason = str(error) or "it is not wanted any more"
            log.warning("snapshot to %x failed: %s", node, reason)
            self._flight.snapshot("failed", peer=node, index=snapshot.index, reason=reason)
            self._raft.snapshot_failed(node)
        else:
            self._raft.snapshot_sent(node, snapshot.index)
            self._flight.snapshot("sent", peer=node, index=snapshot.index)
        self._inbox.wake()

    async def _stream_to(self, node: NodeId, message: InstallSnapshot, path: Path) -> None:
        """Raises TimeoutError if `reconsider` has broken it off, and what the transport raises."""
        try:
            async with asyncio.timeout(None) as time_left:
                self._stream = (node, time_left)
                await self._transport.send_snapshot(message, path)
        finally:
            self._stream = None

    async def _call_applier(self, job: Callable[[Any], Any]) -> Any:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._applier.call(job, lambda result: None if future.done() else future.set_result(result))
        return await future

    def _sender_done(self, task: asyncio.Task[None]) -> None:
        self._sender = None
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            self._inbox.post(Failed(error))
        elif self._wanted:  # Asked for after the task had looked for the last time.
            self._start_sender()


async def _remove(path: Path) -> None:
    await asyncio.to_thread(path.unlink, missing_ok=True)

"""The streams of one node: dials peers with a larger id, accepts those with a smaller one, and moves snapshots.

What may not live here: Raft. Messages are handed on as they come.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc

from raftkv import wire
from raftkv.config import address_of, are_urls
from raftkv.errors import (
    LEADER_CHANGED,
    CorruptionError,
    Outcome,
    PeerDataError,
    PeerError,
    Unavailable,
)
from raftkv.pb import peer_pb2, rpc_pb2, store_pb2
from raftkv.raft.messages import InstallSnapshot, Message
from raftkv.raft.types import NodeId
from raftkv.transport.channel import CHANNEL_OPTIONS, SERVER_OPTIONS
from raftkv.transport.evidence import has_died
from raftkv.transport.introduction import Introductions
from raftkv.transport.link import PeerAddress, PeerLink, while_alive
from raftkv.transport.listening import add_port
from raftkv.transport.refusals import Refusals
from raftkv.transport.roster import Lead, Rosters, forward_change
from raftkv.transport.snapshot_stream import SNAPSHOT_PATH, receive_snapshot, send_snapshot

log = logging.getLogger("raftkv.transport")

STREAM_PATH = "/raftkv.peer.Peer/Stream"
REDIAL_S = 0.05
REDIAL_MAX_S = 0.5
REFUSED_REDIAL_S = 1.0
"""A peer that said who it is not will not be someone else soon."""
HELLO_WAIT_S = 2.0
CANCEL_AGAIN_S = 0.1
PART_AFTER_S = 0.5
PART_WAIT_S = 0.5


def _crash(error: BaseException) -> None:
    """For whoever does not say what is to be done."""
    raise error


class PeerTransport:
    """Carries messages and snapshots between members. All methods belong to the event loop.

    Args:
        on_messages: called with each frame's messages.
        on_snapshot: called with a received snapshot, verified and on disk; the callee owns the file.
        on_connected: called when a stream to a peer is up.
        on_lost: called with the reason when the live stream to a peer broke.
        on_dead: called with the evidence, after `on_lost`, when there is some that the peer's process is gone.
        on_disowned: called when a peer refuses us because our data is not what it was; says why.
        on_removed: called when a peer says that we are no member any more; says who.
        roster: the member table as this node has applied it.
        lead: carries a change of the members out, if this node leads.
        handlers: of further calls that peers may make, by path.
        on_failed: called when a task of ours has died: a bug, and the node must not go on half deaf.
        forget: called, on another thread, with members that were removed, and with peers known from hearsay that have gone.
        introduction: what peers are told of our data, in a Hello's fields.
        meet: called, on another thread, with what a peer tells of its data before anything else is heard from it;
            raises PeerDataError if that is not what it was.
        verify_snapshot: called, on another thread, with a received file; raises CorruptionError if it is damaged.
    """

    def __init__(
        self,
        *,
        node_id: NodeId,
        cluster_id: int,
        snapshot_dir: Path,
        dial_overrides: dict[str, str],
        on_messages: Callable[[Sequence[Message]], None],
        on_snapshot: Callable[[InstallSnapshot, Path], None],
        on_connected: Callable[[NodeId], None] = lambda _: None,
        on_lost: Callable[[NodeId, str], None],
        on_dead: Callable[[NodeId, str], None],
        on_disowned: Callable[[str], None],
        on_removed: Callable[[str], None] = lambda _: None,
        roster: Callable[[], peer_pb2.Roster] | None = None,
        lead: Lead | None = None,
        handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]] | None = None,
        forget: Callable[[Collection[NodeId]], None] = lambda _: None,
        on_failed: Callable[[BaseException], None] = _crash,
        introduction: peer_pb2.Hello,
        meet: Callable[[peer_pb2.Hello], None],
        verify_snapshot: Callable[[Path], object],
    ) -> None:
        self._node_id = node_id
        self._cluster_id = cluster_id
        self._snapshot_dir = snapshot_dir
        self._dial_overrides = dial_overrides
        self._on_messages = on_messages
        self._on_snapshot = on_snapshot
        self._on_connected = on_connected
        self._on_lost = on_lost
        self._on_dead = on_dead
        self._on_disowned = on_disowned
        self._on_removed = on_removed
        self._on_failed = on_failed
        self._introductions = Introductions(
            node_id=node_id, cluster_id=cluster_id, ours=introduction, meet=meet, forget=forget
        )
        self._verify_snapshot = verify_snapshot
        self._links: dict[NodeId, PeerLink] = {}
        self._members: Sequence[rpc_pb2.Member] = ()
        self._rosters = Rosters(
            node_id=node_id,
            own=roster or (lambda: peer_pb2.Roster(cluster_id=cluster_id)),
            links=self._links.values,
            on_removed=on_removed,
            on_newer=lambda: self.set_peers(self._members),
            lead=lead,
        )
        self._partings: dict[NodeId, asyncio.Task[None]] = {}
        self._asking: asyncio.Task[None] | None = None
        self._refusals = Refusals()
        self._witnesses: set[asyncio.Task[None]] = set()
        self._dialers: dict[NodeId, asyncio.Task[None]] = {}
        self._server = grpc.aio.server(options=SERVER_OPTIONS)
        self._server.add_generic_rpc_handlers((_PeerHandlers(self, {**self._rosters.handlers(), **(handlers or {})}),))

    async def listen(self, urls: Sequence[str]) -> None:
        """Accept peers from now on.

        Raises:
            ListenError: an address cannot be listened on.
        """
        for url in urls:
            add_port(self._server, url, flag="--listen-peer-urls")
        await self._server.start()
        self._asking = self._start(self._rosters.keep_asking(), "raftkv-rosters")

    async def close(self) -> None:
        tasks = {*self._dialers.values(), *self._witnesses, *self._partings.values()}
        if self._asking is not None:
            tasks.add(self._asking)
        self._links.clear()
        while tasks:  # gRPC may turn a cancellation into a status of its call: ask until the task has ended.
            for task in tasks:
                task.cancel()
            _, tasks = await asyncio.wait(tasks, timeout=CANCEL_AGAIN_S)
        await self._server.stop(grace=None)
        self._introductions.close()

    def set_peers(self, members: Sequence[rpc_pb2.Member]) -> None:
        """The other members. Who is gone is told so, and its link is closed after a moment."""
        self._members = members
        known = {member.ID: member for member in members}
        known |= {member.ID: member for member in self._rosters.newcomers(known)}
        hearsay = {member.ID: member for member in self._rosters.hearsay(known)}
        wanted = {node: member for node, member in (known | hearsay).items() if are_urls(member.peerURLs)}
        for node in self._links.keys() - wanted - self._partings.keys():
            self._partings[node] = self._start(self._part(node), f"raftkv-part-{node:x}")
        for node in self._partings.keys() & wanted:
            self._partings.pop(node).cancel()
        for member in wanted.values():
            peer = self._address(member)
            link = self._links.get(member.ID)
            if link is None:
                link = self._links[member.ID] = PeerLink(member.ID, peer)
                if self._node_id < member.ID:
                    self._dialers[member.ID] = self._start(self._keep_dialing(link), f"raftkv-dial-{peer.name}")
            link.peer = peer
            link.is_hearsay = member.ID in hearsay

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_failed(error)

    async def _part(self, node: NodeId) -> None:
        """Give a peer that was removed the time to learn it from the log, then tell it, then close its link."""
        await asyncio.sleep(PART_AFTER_S)
        link = self._links[node]
        if node in self._rosters.removed:
            link.part()
            await self._introductions.forget(node)
            await asyncio.sleep(PART_WAIT_S)
        del self._links[node]
        dialer = self._dialers.pop(node, None)
        if dialer is not None:
            dialer.cancel()
        if link.is_hearsay:  # Who is to be remembered is not for a caller to say. From here on it is not met any more.
            await self._introductions.forget(node)
        del self._partings[node]

    def _address(self, member: rpc_pb2.Member) -> PeerAddress:
        name = member.name or f"{member.ID:x}"
        address = address_of(member.peerURLs[0])
        dial = self._dial_overrides.get(name) or self._dial_overrides.get(address, address)
        return PeerAddress(name, dial, tuple(address_of(url) for url in member.clientURLs))

    def send(self, messages: Sequence[Message]) -> None:
        """Queue messages; what cannot be queued is dropped."""
        for message in messages:
            link = self._links.get(message.receiver)
            if link is not None:
                link.send(message)

    async def send_snapshot(self, message: InstallSnapshot, path: Path) -> int:
        """Stream the snapshot in `path` to its receiver; return the index up to which that then matches.

        Raises:
            PeerError: the peer is unknown, refused it or takes none of it, or the stream broke.
            OSError: the file could not be read.
        """
        link = self._links.get(message.receiver)
        if link is None:
            raise PeerError(f"member {message.receiver:x} is not known")
        try:
            return await send_snapshot(link.address, self._introductions.hello(link.node), message, path)
        except PeerError as error:
            raise PeerError(f"{link.name} at {link.address}: {error}") from None

    def links(self) -> dict[NodeId, str | None]:
        """Every peer: None where a stream is up, else why there is none."""
        return {node: None if link.is_connected else link.error for node, link in self._links.items()}

    async def forward_change(
        self, leader: NodeId, change: store_pb2.MemberChange, timeout_s: float
    ) -> store_pb2.MemberTable:
        """Have the leader carry out a change of the members.

        Raises:
            RequestError: its refusal, or Unavailable.
        """
        link = self._links.get(leader)
        if link is None:
            raise Unavailable(LEADER_CHANGED, outcome=Outcome.NOT_APPLIED)
        return await forward_change(link.address, self._cluster_id, change, timeout_s=timeout_s)

    def addresses(self) -> dict[NodeId, str]:
        """Every peer: where it is dialed."""
        return {node: link.address for node, link in self._links.items()}

    def unreachable(self) -> dict[str, str]:
        """Peers without a stream: name and address, and why."""
        return {
            f"{link.name} ({link.address})": link.error or "" for link in self._links.values() if not link.is_connected
        }

    # Dialing --------------------------------------------------------------------------------------------------------

    async def _keep_dialing(self, link: PeerLink) -> None:
        wait_s = REDIAL_S
        said = ""
        while self._links.get(link.node) is link:
            try:
                await self._dial(link)
                wait_s = REDIAL_S
                continue
            except PeerError as error:
                reason, wait_s = str(error), REFUSED_REDIAL_S
            except grpc.aio.AioRpcError as error:
                reason = error.details() or error.code().name
                refused = error.code() is grpc.StatusCode.FAILED_PRECONDITION
                wait_s = REFUSED_REDIAL_S if refused else min(2 * wait_s, REDIAL_MAX_S)
                if refused and reason != said:
                    log.warning("%s at %s refuses us: %s", link.name, link.address, reason)
            except (OSError, EOFError, TimeoutError, asyncio.InvalidStateError) as error:
                # The last is gRPC's word for a write to a stream that the peer has ended.
                reason, wait_s = str(error), min(2 * wait_s, REDIAL_MAX_S)
            if not link.is_connected:
                link.error = reason
            said = reason
            await asyncio.sleep(wait_s)

    async def _dial(self, link: PeerLink) -> None:
        """One connection, from its Hello to its end. Returns when it ended after it was up."""
        async with grpc.aio.insecure_channel(link.address, options=CHANNEL_OPTIONS) as channel:
            call = channel.stream_stream(
                STREAM_PATH,
                request_serializer=peer_pb2.Frame.SerializeToString,
                response_deserializer=peer_pb2.Frame.FromString,
            )()
            await call.write(peer_pb2.Frame(hello=self._introductions.hello(link.node)))
            async with asyncio.timeout(HELLO_WAIT_S):  # Not wait_for: Python 3.11's may lose a cancellation.
                first = await call.read()
            if not isinstance(first, peer_pb2.Frame):
                raise EOFError("the stream ended before a Hello")
            self._check_not_disowned(link, first)
            self._introductions.check(first.hello, known=self._links, expected=link.node)
            try:
                await self._introductions.make_acquaintance(first.hello)
            except PeerDataError as error:
                self._refusals.tell(log, f"refused {link.name} at {link.address}", error)
                await call.write(peer_pb2.Frame(data_refused=str(error)))
                await call.done_writing()
                async with asyncio.timeout(HELLO_WAIT_S):
                    await call.read()  # Until it has heard.
                raise
            await self._run_stream(link, call, call.read, call.write)

    # Both ends ------------------------------------------------------------------------------------------------------

    async def _run_stream(
        self,
        link: PeerLink,
        stream: object,
        read: Callable[[], Awaitable[Any]],
        write: Callable[[Any], Awaitable[None]],
    ) -> None:
        """Read and write until the stream ends, then report it."""
        link.attach(stream)
        self._on_connected(link.node)
        log.debug("connected with %s", link.name)
        pump = asyncio.create_task(link.pump(stream, write), name=f"raftkv-pump-{link.name}")
        reason = "the connection was closed"
        try:
            async with while_alive(pump):
                while isinstance(frame := await read(), peer_pb2.Frame):
                    self._receive(link, frame)
        except TimeoutError:
            reason = f"nothing can be sent: {pump.exception()!r}"
            log.warning("closing the stream with %s: %s", link.name, reason)
        except grpc.aio.AioRpcError as error:
            reason = error.details() or error.code().name
        except PeerError as error:
            log.warning("closing the stream with %s: %s", link.name, error)
            reason = str(error)
        finally:
            # Nothing is awaited before the loss is reported: gRPC cancels, perhaps twice, whoever serves a broken stream.
            pump.cancel()
            if link.detach(stream, reason):
                self._report_loss(link, reason)
        await asyncio.gather(pump, return_exceptions=True)

    def _report_loss(self, link: PeerLink, reason: str) -> None:
        log.debug("lost %s: %s", link.name, reason)
        self._on_lost(link.node, reason)
        witness = asyncio.create_task(self._look_for_evidence(link), name=f"raftkv-evidence-{link.name}")
        self._witnesses.add(witness)
        witness.add_done_callback(self._witnesses.discard)

    async def _look_for_evidence(self, link: PeerLink) -> None:
        if await has_died(lambda: (link.address, link.peer.clients), lambda: link.is_connected):
            log.info("%s is dead: its stream broke and it refuses connections", link.name)
            self._on_dead(link.node, "it refuses connections")

    def _receive(self, link: PeerLink, frame: peer_pb2.Frame) -> None:
        self._check_not_disowned(link, frame)
        messages = [wire.decode_message(message) for message in frame.messages]
        for message in messages:
            if message.sender != link.node or message.receiver != self._node_id:
                raise PeerError(f"a message from {message.sender:x} to {message.receiver:x} does not belong here")
        self._on_messages(messages)

    def _check_not_disowned(self, link: PeerLink, frame: peer_pb2.Frame) -> None:
        if link.is_hearsay and (frame.data_refused or frame.removed):
            raise PeerError("a peer that is known from hearsay alone disowns this member")
        if frame.data_refused:
            self._on_disowned(f"{link.name} refuses this member: {frame.data_refused}")
            raise PeerError(frame.data_refused)
        if frame.removed:
            self._on_removed(link.name)
            raise PeerError("this member was removed from the cluster")

    async def _check_snapshot_hello(self, hello: peer_pb2.Hello) -> NodeId:
        self._introductions.check(hello, known=self._links)
        await self._introductions.make_acquaintance(hello)
        return hello.sender

    # Accepting ------------------------------------------------------------------------------------------------------

    async def accept_stream(self, _requests: AsyncIterator[peer_pb2.Frame], context: Any) -> None:
        """Serve `Peer/Stream`."""
        first = await context.read()
        if not isinstance(first, peer_pb2.Frame):
            return
        try:
            self._introductions.check(first.hello, known=self._links)
            await self._introductions.make_acquaintance(first.hello)
            self._introductions.check(first.hello, known=self._links)  # The members may have changed meanwhile.
        except PeerError as error:
            if isinstance(error, PeerDataError):
                await context.write(peer_pb2.Frame(data_refused=str(error)))
            elif first.hello.cluster_id == self._cluster_id and first.hello.sender in self._rosters.removed:
                await context.write(peer_pb2.Frame(removed=True))
            self._refusals.tell(log, f"refused a peer from {context.peer()}", error)
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
        link = self._links[first.hello.sender]
        await context.write(peer_pb2.Frame(hello=self._introductions.hello(link.node)))
        await self._run_stream(link, context, context.read, context.write)

    async def accept_snapshot(
        self, chunks: AsyncIterator[peer_pb2.SnapshotChunk], context: Any
    ) -> peer_pb2.SnapshotResult:
        """Serve `Peer/InstallSnapshot`."""
        try:
            message, path = await receive_snapshot(
                chunks, self._snapshot_dir, self._check_snapshot_hello, self._verify_snapshot
            )
        except (PeerError, CorruptionError) as error:
            self._refusals.tell(log, f"refused a snapshot from {context.peer()}", error)
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
        except OSError as error:
            log.warning("a snapshot could not be stored: %s", error)
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
        self._on_snapshot(message, path)
        return peer_pb2.SnapshotResult(match_index=message.snapshot.index)


class _PeerHandlers(grpc.GenericRpcHandler):
    """Routes the RPCs of the peer service."""

    def __init__(self, transport: PeerTransport, others: Mapping[str, grpc.RpcMethodHandler[Any, Any]]) -> None:
        self._handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            STREAM_PATH: grpc.stream_stream_rpc_method_handler(
                transport.accept_stream,
                request_deserializer=peer_pb2.Frame.FromString,
                response_serializer=peer_pb2.Frame.SerializeToString,
            ),
            SNAPSHOT_PATH: grpc.stream_unary_rpc_method_handler(
                transport.accept_snapshot,
                request_deserializer=peer_pb2.SnapshotChunk.FromString,
                response_serializer=peer_pb2.SnapshotResult.SerializeToString,
            ),
            **others,
        }

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        return self._handlers.get(handler_call_details.method)

"""Peers over real gRPC on loopback: who may connect, what arrives, what a broken connection reports."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest

from raftkv.errors import ListenError, PeerDataError, PeerError
from raftkv.pb import peer_pb2, rpc_pb2
from raftkv.raft.messages import HeartbeatRequest, InstallSnapshot, Message
from raftkv.raft.types import Membership, SnapshotMeta
from raftkv.transport import PeerTransport
from raftkv.transport.snapshot_stream import SNAPSHOT_PATH, send_snapshot
from raftkv.transport.transport import STREAM_PATH
from tests.support import WAIT_S, eventually, free_port


@dataclass
class Peer:
    node: int
    port: int
    directory: Path
    cluster_id: int = 7
    received: list[Message] = field(default_factory=list)
    snapshots: list[tuple[InstallSnapshot, Path]] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)
    dead: list[int] = field(default_factory=list)
    disowned: list[str] = field(default_factory=list)
    failed: list[BaseException] = field(default_factory=list)
    met: list[tuple[int, int, int, int]] = field(default_factory=list)
    refuses: bool = False
    before_meeting: Callable[[], object] = lambda: None

    def __post_init__(self) -> None:
        self.transport = PeerTransport(
            node_id=self.node,
            cluster_id=self.cluster_id,
            snapshot_dir=self.directory,
            dial_overrides={},
            on_messages=self.received.extend,
            on_snapshot=lambda message, path: self.snapshots.append((message, path)),
            on_lost=lambda node, _: self.lost.append(node),
            on_dead=lambda node, _: self.dead.append(node),
            on_disowned=self.disowned.append,
            on_failed=self.failed.append,
            introduction=peer_pb2.Hello(data_id=self.node, incarnation=3, run_id=9),
            meet=self.meet,
            verify_snapshot=lambda _: None,
        )

    def meet(self, hello: peer_pb2.Hello) -> None:
        self.before_meeting()
        if self.refuses:
            raise PeerDataError("it has lost its data")
        self.met.append((hello.sender, hello.data_id, hello.incarnation, hello.run_id))

    def member(self) -> rpc_pb2.Member:
        return rpc_pb2.Member(ID=self.node, name=f"n{self.node}", peerURLs=[self.url])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@asynccontextmanager
async def peers(directory: Path, **overrides: int) -> AsyncIterator[tuple[Peer, Peer]]:
    """Nodes 1 and 2, listening, each told of the other; node 2 may claim another cluster."""
    one = Peer(1, free_port(), directory)
    two = Peer(2, free_port(), directory, **overrides)
    for peer in (one, two):
        await peer.transport.listen([peer.url])
    one.transport.set_peers([two.member()])
    two.transport.set_peers([one.member()])
    try:
        yield one, two
    finally:
        await one.transport.close()
        await two.transport.close()


FRAMES = {
    "request_deserializer": peer_pb2.Frame.FromString,
    "response_serializer": peer_pb2.Frame.SerializeToString,
}


@asynccontextmanager
async def served(handlers: dict[str, grpc.RpcMethodHandler[Any, Any]], port: int) -> AsyncIterator[None]:
    """A peer that answers as a test says."""
    server = grpc.aio.server()
    server.add_registered_method_handlers(
        "raftkv.peer.Peer", {path.rpartition("/")[2]: handler for path, handler in handlers.items()}
    )
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield
    finally:
        await server.stop(None)


def heartbeat(sender: int, receiver: int, commit_index: int) -> HeartbeatRequest:
    return HeartbeatRequest(sender=sender, receiver=receiver, term=1, commit_index=commit_index)


async def connected(*both: Peer) -> None:
    await eventually(lambda: not any(peer.transport.unreachable() for peer in both))


async def test_peers_tell_each_other_which_data_they_have_before_anything_else(tmp_path: Path) -> None:
    async with peers(tmp_path) as (one, two):
        await connected(one, two)

        assert one.met == [(2, 2, 3, 9)]
        assert two.met == [(1, 1, 3, 9)]


@pytest.mark.parametrize("refusing", [0, 1], ids=["the one who dials refuses", "the one who is dialed refuses"])
async def test_a_peer_that_has_lost_its_data_is_told_so_and_not_heard(tmp_path: Path, refusing: int) -> None:
    async with peers(tmp_path) as both:
        refuser, refused = both[refusing], both[1 - refusing]
        await connected(*both)
        refuser.refuses = True
        refused.received.clear()
        for peer in both:  # As after a restart: both must introduce themselves again.
            peer.transport.set_peers([])
        await eventually(lambda: refused.lost or refuser.lost)
        for peer, other in zip(both, reversed(both), strict=True):
            peer.transport.set_peers([other.member()])

        await eventually(lambda: refused.disowned)

        assert refused.disowned[0] == f"n{refuser.node} refuses this member: it has lost its data"
        assert not refuser.disowned
        refused.transport.send([heartbeat(refused.node, refuser.node, 1)])
        assert not refuser.received


async def test_a_refused_peer_that_goes_away_meanwhile_harms_nobody(tmp_path: Path) -> None:
    """Between its Hello and our refusal lies a look at the disk."""
    is_gone, dials = threading.Event(), 0

    async def hello_and_goodbye(_requests: object, context: Any) -> None:
        nonlocal dials
        dials += 1
        await context.read()
        hello = peer_pb2.Hello(protocol_version=1, cluster_id=7, sender=2, receiver=1, data_id=2)
        await context.write(peer_pb2.Frame(hello=hello))

    one, two = Peer(1, free_port(), tmp_path), Peer(2, free_port(), tmp_path)
    one.refuses, one.before_meeting = True, lambda: is_gone.wait(WAIT_S)
    async with served({STREAM_PATH: grpc.stream_stream_rpc_method_handler(hello_and_goodbye, **FRAMES)}, two.port):
        one.transport.set_peers([two.member()])
        await eventually(lambda: dials and not any(awaits_its_status(task) for task in asyncio.all_tasks()))
        is_gone.set()

        await eventually(lambda: dials == 2 or one.failed)

    assert one.failed == []
    await one.transport.close()


def awaits_its_status(task: asyncio.Task[Any]) -> bool:
    """Whether it is the one that gRPC keeps for each call whose end it has not heard of."""
    return "_handle_status_once_received" in repr(task)


async def test_messages_arrive_in_order_in_both_directions_over_one_stream(tmp_path: Path) -> None:
    async with peers(tmp_path) as (one, two):
        await connected(one, two)

        one.transport.send([heartbeat(1, 2, index) for index in range(500)])
        two.transport.send([heartbeat(2, 1, index) for index in range(500)])

        await eventually(lambda: len(one.received) == len(two.received) == 500)
        assert [message.commit_index for message in two.received] == list(range(500))
        assert [message.commit_index for message in one.received] == list(range(500))


async def test_a_broken_stream_is_reported_and_dialed_again(tmp_path: Path) -> None:
    async with peers(tmp_path) as (one, two):
        await connected(one, two)

        await two.transport.close()
        await eventually(lambda: one.lost == [2])
        await eventually(lambda: one.dead == [2])
        assert "n2" in next(iter(one.transport.unreachable()))

        again = Peer(2, two.port, tmp_path)
        again.transport.set_peers([one.member()])
        await again.transport.listen([again.url])
        await connected(one, again)
        one.transport.send([heartbeat(1, 2, 1)])
        await eventually(lambda: again.received)
        await again.transport.close()


@pytest.mark.parametrize("mute", [0, 1], ids=["the one who dials", "the one who is dialed"])
async def test_a_stream_on_which_nothing_can_be_sent_ends(tmp_path: Path, mute: int) -> None:
    """It hears on, and would look connected."""
    async with peers(tmp_path) as both:
        sender, receiver = both[mute], both[1 - mute]
        await connected(*both)

        sender.transport.send([Unspeakable(receiver.node)])
        await eventually(lambda: sender.lost == [receiver.node])

        await connected(*both)
        sender.transport.send([heartbeat(sender.node, receiver.node, 1)])
        await eventually(lambda: receiver.received)


@dataclass
class Unspeakable:
    """There is no form for it on the wire."""

    receiver: int


async def test_peers_meet_though_every_thread_for_common_work_is_busy(tmp_path: Path) -> None:
    busy, is_done = ThreadPoolExecutor(1), threading.Event()
    asyncio.get_running_loop().set_default_executor(busy)
    busy.submit(is_done.wait)
    try:
        async with peers(tmp_path) as (one, two):
            await connected(one, two)
    finally:
        is_done.set()


async def test_messages_to_a_peer_without_a_stream_are_dropped_not_kept(tmp_path: Path) -> None:
    one = Peer(1, free_port(), tmp_path)
    one.transport.set_peers([Peer(2, free_port(), tmp_path).member()])

    one.transport.send([heartbeat(1, 2, index) for index in range(100_000)])

    assert one.transport.unreachable()
    await one.transport.close()


async def test_a_peer_of_another_cluster_is_refused(tmp_path: Path) -> None:
    async with peers(tmp_path, cluster_id=8) as (one, two):
        await eventually(lambda: "cluster id 7" in str(one.transport.unreachable()))

        assert not two.received


@pytest.mark.parametrize(
    ("hello", "reason"),
    [
        (peer_pb2.Hello(protocol_version=99, cluster_id=7, sender=1, receiver=2), "protocol version 99"),
        (peer_pb2.Hello(protocol_version=1, cluster_id=7, sender=1, receiver=3), "looks for member 3"),
        (peer_pb2.Hello(protocol_version=1, cluster_id=7, sender=9, receiver=2), "member 9 is not in this cluster"),
        (peer_pb2.Hello(protocol_version=1, cluster_id=7, sender=1, receiver=2), "does not say which data it has"),
        (peer_pb2.Hello(), "protocol version 0"),
    ],
)
async def test_a_stranger_is_refused_with_the_reason(tmp_path: Path, hello: peer_pb2.Hello, reason: str) -> None:
    async with peers(tmp_path) as (_, two), grpc.aio.insecure_channel(f"127.0.0.1:{two.port}") as channel:
        call = channel.stream_stream(
            STREAM_PATH,
            request_serializer=peer_pb2.Frame.SerializeToString,
            response_deserializer=peer_pb2.Frame.FromString,
        )()
        await call.write(peer_pb2.Frame(hello=hello))

        assert await call.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert reason in await call.details()


async def test_random_bytes_on_the_peer_port_harm_nobody(tmp_path: Path) -> None:
    async with peers(tmp_path) as (one, two):
        await connected(one, two)
        reader, writer = await asyncio.open_connection("127.0.0.1", two.port)
        writer.write(bytes(range(256)) * 64)
        await writer.drain()
        await reader.read()
        writer.close()

        one.transport.send([heartbeat(1, 2, 5)])

        await eventually(lambda: two.received)


async def test_a_message_in_somebody_elses_name_closes_the_stream(tmp_path: Path) -> None:
    async with peers(tmp_path) as (one, two), grpc.aio.insecure_channel(f"127.0.0.1:{two.port}") as channel:
        await connected(one, two)
        call = channel.stream_stream(
            STREAM_PATH,
            request_serializer=peer_pb2.Frame.SerializeToString,
            response_deserializer=peer_pb2.Frame.FromString,
        )()
        hello = peer_pb2.Hello(protocol_version=1, cluster_id=7, sender=1, receiver=2, data_id=1)
        await call.write(peer_pb2.Frame(hello=hello))
        await call.read()
        forged = peer_pb2.Message(sender=3, receiver=2, term=1, timeout_now=peer_pb2.TimeoutNow())
        await call.write(peer_pb2.Frame(messages=[forged]))

        assert await call.read() is grpc.aio.EOF
        assert not two.received


async def test_a_port_in_use_is_one_clear_error(tmp_path: Path) -> None:
    async with peers(tmp_path) as (one, _):
        intruder = Peer(3, one.port, tmp_path)

        with pytest.raises(ListenError, match="--listen-peer-urls: cannot listen on"):
            await intruder.transport.listen([intruder.url])
        await intruder.transport.close()


def install(index: int) -> InstallSnapshot:
    meta = SnapshotMeta(index, 1, Membership(frozenset({1, 2})))
    return InstallSnapshot(sender=1, receiver=2, term=1, snapshot=meta)


async def test_a_snapshot_arrives_whole_and_is_handed_over_as_a_file(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(bytes(range(256)) * 8192)
    async with peers(tmp_path) as (one, two):
        match_index = await one.transport.send_snapshot(install(42), source)

        assert match_index == 42
        ((message, path),) = two.snapshots
        assert message == install(42)
        assert path.read_bytes() == source.read_bytes()


def chunks(*middle: peer_pb2.SnapshotChunk) -> Sequence[peer_pb2.SnapshotChunk]:
    from raftkv import wire

    hello = peer_pb2.Hello(protocol_version=1, cluster_id=7, sender=1, receiver=2, data_id=1)
    return [peer_pb2.SnapshotChunk(hello=hello, message=wire.encode_message(install(5))), *middle]


@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        (chunks(peer_pb2.SnapshotChunk(data=b"abc"), peer_pb2.SnapshotChunk(sha256=b"x" * 32)), "wrong digest"),
        (chunks(peer_pb2.SnapshotChunk(data=b"abc")), "ended before its digest"),
        ([peer_pb2.SnapshotChunk(sha256=hashlib.sha256().digest())], "protocol version 0"),
        ([], "without a first chunk"),
    ],
)
async def test_a_damaged_snapshot_is_refused_and_leaves_no_file(
    tmp_path: Path, stream: Sequence[peer_pb2.SnapshotChunk], reason: str
) -> None:
    async with peers(tmp_path) as (_, two), grpc.aio.insecure_channel(f"127.0.0.1:{two.port}") as channel:
        rpc: Callable[..., Awaitable[object]] = channel.stream_unary(
            SNAPSHOT_PATH,
            request_serializer=peer_pb2.SnapshotChunk.SerializeToString,
            response_deserializer=peer_pb2.SnapshotResult.FromString,
        )

        with pytest.raises(grpc.aio.AioRpcError, match=reason):
            await rpc(iter(stream))

        assert not two.snapshots
        assert not list(tmp_path.iterdir())


async def test_a_snapshot_to_an_unreachable_peer_fails_with_its_name(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"data")
    one = Peer(1, free_port(), tmp_path)
    one.transport.set_peers([Peer(2, free_port(), tmp_path).member()])

    with pytest.raises(PeerError, match="n2 at"):
        await one.transport.send_snapshot(install(1), source)
    await one.transport.close()


async def takes_nothing_after_the_first_chunk(chunks: AsyncIterator[peer_pb2.SnapshotChunk], _: object) -> None:
    await anext(chunks)
    await asyncio.get_running_loop().create_future()


async def takes_all_and_never_answers(chunks: AsyncIterator[peer_pb2.SnapshotChunk], _: object) -> None:
    async for _chunk in chunks:
        pass
    await asyncio.get_running_loop().create_future()


@pytest.mark.parametrize(
    ("receive", "limits"),
    [
        (takes_nothing_after_the_first_chunk, {"taken_s": 0.1, "answer_s": WAIT_S}),
        (takes_all_and_never_answers, {"taken_s": WAIT_S, "answer_s": 0.1}),
    ],
)
async def test_a_receiver_whose_disk_hangs_is_given_up(
    tmp_path: Path, receive: Callable[..., Awaitable[object]], limits: dict[str, float]
) -> None:
    """gRPC answers for it that it is alive."""
    source = tmp_path / "source"
    with source.open("wb") as file:
        file.truncate(8 << 20)
    port = free_port()
    handler = grpc.stream_unary_rpc_method_handler(
        receive,
        request_deserializer=peer_pb2.SnapshotChunk.FromString,
        response_serializer=peer_pb2.SnapshotResult.SerializeToString,
    )
    async with served({SNAPSHOT_PATH: handler}, port):
        with pytest.raises(PeerError, match="has stood still"):
            await send_snapshot(f"127.0.0.1:{port}", peer_pb2.Hello(), install(1), source, **limits)


async def test_a_snapshot_that_cannot_be_read_is_an_error_and_no_cancellation(tmp_path: Path) -> None:
    async with peers(tmp_path) as (one, two):
        with pytest.raises(IsADirectoryError):
            await one.transport.send_snapshot(install(1), tmp_path)

        assert not two.snapshots

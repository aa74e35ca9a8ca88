"""One peer, as this node talks to it: two bounded queues, and at most one live stream.

Heartbeats and votes overtake entries: a follower that is sent much must not take its leader for dead.

What may not live here: dialing and accepting (`transport.py` owns the streams' lifetimes).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from raftkv import wire
from raftkv.pb import peer_pb2
from raftkv.raft.messages import AppendRequest, Message, ProposeRequest
from raftkv.raft.types import NodeId

QUEUE_MESSAGES_MAX = 4096
MUTE_S = 0.5
"""For the stream to end by itself, as it does when it broke and nothing can be sent for that reason."""
FRAME_BYTES_MAX = 1024 * 1024
"""Payload in one frame, after which no further message goes into it. What is urgent waits for one frame at most."""

Write = Callable[[peer_pb2.Frame], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class PeerAddress:
    """Where a member is: its name, the `host:port` it is dialed at, and those at which it serves clients."""

    name: str
    dial: str
    clients: tuple[str, ...] = ()


class PeerLink:
    """Messages to one peer. With no stream they are dropped at once: Raft sends anew, and old news is no help."""

    def __init__(self, node: NodeId, peer: PeerAddress) -> None:
        self.node = node
        self.peer = peer
        self.dropped_count = 0
        self.error: str | None = "not connected yet"
        """Why there is no stream; None while there is one."""
        self.is_hearsay = False
        """Whether only a caller has told of this peer, who may be anybody: it cannot disown us."""
        self._urgent: deque[Message] = deque()
        self._bulk: deque[Message] = deque()
        """What carries payload, in order. Nothing else waits behind it."""
        self._has_messages = asyncio.Event()
        self._stream: object | None = None
        self._is_parting = False

    @property
    def name(self) -> str:
        return self.peer.name

    @property
    def address(self) -> str:
        return self.peer.dial

    @property
    def is_connected(self) -> bool:
        return self._stream is not None

    def send(self, message: Message) -> None:
        queue = self._bulk if isinstance(message, AppendRequest | ProposeRequest) else self._urgent
        if self._stream is None or len(queue) >= QUEUE_MESSAGES_MAX:
            self.dropped_count += 1
            return
        queue.append(message)
        self._has_messages.set()

    def part(self) -> None:
        """The peer is no member any more: it is told so after what is queued, and nothing else follows."""
        self._is_parting = True
        self._has_messages.set()

    def attach(self, stream: object) -> None:
        """A stream is up. It takes the place of an older one: the peer has dialed anew, so the older one is dead."""
        self._stream = stream
        self.error = None
        self._clear()

    def detach(self, stream: object, error: str) -> bool:
        """A stream ended. True if it was the live one."""
        if self._stream is not stream:
            return False
        self._stream = None
        self.error = error
        self._clear()
        self._has_messages.set()
        return True

    async def pump(self, stream: object, write: Write) -> None:
        """Write what is queued, frame by frame, as long as `stream` is the live one."""
        while self._stream is stream:
            if not (self._urgent or self._bulk):
                if self._is_parting:
                    await write(peer_pb2.Frame(removed=True))
                    return
                self._has_messages.clear()
                await self._has_messages.wait()
                continue
            await write(self._next_frame())

    def _clear(self) -> None:
        self._urgent.clear()
        self._bulk.clear()

    def _next_frame(self) -> peer_pb2.Frame:
        """Whatever is urgent, then as much of the rest as fits: a heartbeat waits for one frame, never for a backlog."""
        frame = peer_pb2.Frame()
        while self._urgent:
            frame.messages.append(wire.encode_message(self._urgent.popleft()))
        size = 0
        while self._bulk and size < FRAME_BYTES_MAX:
            message = self._bulk.popleft()
            frame.messages.append(wire.encode_message(message))
            size += _payload_bytes(message)
        return frame


@asynccontextmanager
async def while_alive(pump: asyncio.Task[None]) -> AsyncIterator[None]:
    """A moment after a failure of the pump, end what is done within by a TimeoutError: a peer that is not spoken to is not connected."""
    loop = asyncio.get_running_loop()
    is_inside = True
    async with asyncio.timeout(None) as left:

        def ended(pump: asyncio.Task[None]) -> None:
            if is_inside and not pump.cancelled() and pump.exception() is not None:
                left.reschedule(loop.time() + MUTE_S)

        pump.add_done_callback(ended)
        try:
            yield
        finally:
            is_inside = False


def _payload_bytes(message: Message) -> int:
    match message:
        case AppendRequest(entries=entries):
            return sum(entry.size for entry in entries)
        case ProposeRequest(proposals=proposals):
            return sum(len(proposal.data) for proposal in proposals)
        case _:
            return 0

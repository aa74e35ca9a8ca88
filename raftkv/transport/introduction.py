"""The first words between two nodes: who each is, of which cluster, and which data it has. Strangers are kept out by them.

What may not live here: streams, and what becomes of a node that is refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor

from raftkv.errors import PeerError
from raftkv.pb import peer_pb2
from raftkv.raft.types import NodeId

PROTOCOL_VERSION = 1


class Introductions:
    """What this node says of itself, and what it makes of what others say.

    Args:
        ours: what peers are told of our data, in a Hello's fields.
        meet: called, on another thread, with what a peer tells of its data; raises PeerDataError if that is not what it was.
        forget: called, on the same thread, with peers that need not be known any more.
    """

    def __init__(
        self,
        *,
        node_id: NodeId,
        cluster_id: int,
        ours: peer_pb2.Hello,
        meet: Callable[[peer_pb2.Hello], None],
        forget: Callable[[Collection[NodeId]], None],
    ) -> None:
        self._node_id = node_id
        self._cluster_id = cluster_id
        self._ours = ours
        self._meet = meet
        self._forget = forget
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="raftkv-meet")
        """Who is met is written down by a thread of its own: a peer must not wait for what keeps the others busy."""

    def hello(self, receiver: NodeId) -> peer_pb2.Hello:
        hello = peer_pb2.Hello(
            protocol_version=PROTOCOL_VERSION,
            cluster_id=self._cluster_id,
            sender=self._node_id,
            receiver=receiver,
        )
        hello.MergeFrom(self._ours)
        return hello

    def check(self, hello: peer_pb2.Hello, *, known: Collection[NodeId], expected: NodeId | None = None) -> None:
        """Raises PeerError unless the other side is who it should be, or one of those who are known."""
        if hello.protocol_version != PROTOCOL_VERSION:
            raise PeerError(f"peer protocol version {hello.protocol_version}, this node speaks {PROTOCOL_VERSION}")
        if hello.cluster_id != self._cluster_id:
            raise PeerError(f"cluster id {hello.cluster_id:x}, this node is of cluster {self._cluster_id:x}")
        if hello.receiver != self._node_id:
            raise PeerError(f"the peer looks for member {hello.receiver:x}, this is member {self._node_id:x}")
        if expected is not None and hello.sender != expected:
            raise PeerError(f"member {expected:x} expected, but it says it is {hello.sender:x}")
        if hello.sender not in known:
            raise PeerError(f"member {hello.sender:x} is not in this cluster's member list")
        if not hello.data_id:
            raise PeerError(f"member {hello.sender:x} does not say which data it has")

    async def make_acquaintance(self, hello: peer_pb2.Hello) -> None:
        """Raises PeerDataError: the peer's data is not what it was."""
        await asyncio.get_running_loop().run_in_executor(self._writer, self._meet, hello)

    async def forget(self, node: NodeId) -> None:
        await asyncio.get_running_loop().run_in_executor(self._writer, self._forget, [node])

    def close(self) -> None:
        """Wait for nobody."""
        self._writer.shutdown(wait=False, cancel_futures=True)

"""One node's way into the fake network: messages that may be lost, and snapshot streams that may break.

What may not live here: which links are cut (`World.cut`, the nemesis).
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from raftkv.errors import CorruptionError, PeerError
from raftkv.pb import rpc_pb2
from raftkv.raft import InstallSnapshot, Message
from raftkv.statemachine import verify_snapshot
from tests.sim.checkers import Violation
from tests.sim.swarm import MS

if TYPE_CHECKING:
    from tests.sim.tier_two.member import Member

STREAM_PATIENCE = 100 * MS
"""Until a stream that nobody answers counts as broken."""


class Link:
    """What the node has for a transport, for as long as its process lives."""

    def __init__(self, member: Member) -> None:
        self._member = member
        self._world = member.world
        self.peers: frozenset[int] = frozenset()
        self._introduced: set[int] = set()
        self._received = 0

    @property
    def connected(self) -> set[int]:
        """Peers with whom there is a stream now."""
        others, cut = self._member.members, self._world.cut
        return {
            node
            for node in self.peers | self._introduced
            if others[node].is_up and (node, self._member.id) not in cut and (self._member.id, node) not in cut
        }

    def hears(self, node: int) -> bool:
        """Whether a peer is listened to: one that knows us is believed to be a member, unless we know better."""
        if node in self.peers:
            return True
        other = self._member.members[node]
        if node in self._member.node.removed or not other.is_up or self._member.id not in other.link.peers:
            return False
        self._introduced.add(node)
        return True

    def send(self, messages: Sequence[Message]) -> None:
        for message in messages:
            self._member.checkers.sending(self._member, message)
            if message.receiver in self.peers or message.receiver in self._introduced:
                self._world.send(message)

    def set_peers(self, members: Sequence[rpc_pb2.Member]) -> None:
        self.peers = frozenset(member.ID for member in members)
        self._introduced -= self._member.node.removed

    async def send_snapshot(self, message: InstallSnapshot, path: Path) -> int:
        """As the real stream: it arrives whole and verified, or not at all; and who sent it may not learn which."""
        world, afflictions = self._world, self._member.afflictions
        sender, receiver = self._member.id, self._member.members[message.receiver]
        breaks = world.is_hostile and world.rng.random() < afflictions.stream_breaks
        arrives = not breaks or world.rng.random() < 0.5
        await asyncio.sleep(world.about(3 * world.swarm.delay if world.is_hostile else MS) / 1e6)
        if not arrives or (sender, receiver.id) in world.cut or not receiver.is_up or receiver.is_paused:
            await asyncio.sleep(STREAM_PATIENCE / 1e6)
            raise PeerError(f"the stream to {receiver} broke")
        receiver.link.receive_snapshot(message, path)
        await asyncio.sleep(world.about(MS) / 1e6)
        if breaks or (receiver.id, sender) in world.cut:
            await asyncio.sleep(STREAM_PATIENCE / 1e6)
            raise PeerError(f"the stream to {receiver} broke when it was done")
        return message.snapshot.index

    def receive_snapshot(self, message: InstallSnapshot, path: Path) -> None:
        """The other end's side of it."""
        member = self._member
        self._received += 1
        copy = member.snapshot_dir / f"incoming-{self._received}"
        shutil.copyfile(path, copy)
        try:
            verify_snapshot(copy)
        except CorruptionError as error:
            raise Violation("snapshots are whole", f"{member} received a bad one: {error}") from error
        member.snapshot_received(message, copy)

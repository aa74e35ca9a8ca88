"""Owners of leases: some keep theirs alive for a while, some fall silent at once, some give theirs back. And what must hold.

No lease ends before its TTL has passed since its owner asked for the last renewal that was answered. None outlives its TTL by
more than `OUTLIVES` once everybody is well and nobody renews.

Looked at from outside: a lease has ended when the first node to get so far has none of it any more. What may not live here: how
nodes count time.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from functools import partial
from typing import Any

from raftkv.errors import RequestError
from raftkv.pb import rpc_pb2 as rpc
from raftkv.pb import store_pb2
from raftkv.statemachine import StateMachine
from tests.sim.checkers import Violation
from tests.sim.swarm import MS
from tests.sim.tier_two.loop import VirtualLoop
from tests.sim.tier_two.member import Member
from tests.sim.tier_two.rpc import call
from tests.sim.tier_two.swarm import Leasing
from tests.sim.world import World

TTL_S = 1
TTL = TTL_S * 1000 * MS
OUTLIVES = 1500 * MS
"""Half a second by which a leader may be ahead, a quarter until it says so, and what a change of leaders costs."""
TIMEOUT_S = 0.3
ID_MAX = 2**63 - 1


@dataclass(slots=True)
class Held:
    """A lease, as its owner knows it."""

    asked_at: int
    """When the last request that was answered was sent; microseconds."""
    is_given_back: bool = False


class LeaseWatch:
    """Which leases there are, by the state machine that is furthest along."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._index = 0
        self._alive: frozenset[int] = frozenset()
        self.held: dict[int, Held] = {}
        self.ended = 0

    @property
    def alive(self) -> frozenset[int]:
        return self._alive

    def look(self, machine: StateMachine) -> None:
        """A job is done."""
        if machine.applied_index <= self._index:
            return
        self._index = machine.applied_index
        now_alive = frozenset(status.ID for status in machine.leases.list().leases)
        for lease in self._alive - now_alive:
            self.ended += 1
            self._may_be_gone(lease, "ended")
        self._alive = now_alive

    def told_gone(self, lease: int) -> None:
        """An answer says so."""
        self._may_be_gone(lease, "is told to be gone")

    def _may_be_gone(self, lease: int, how: str) -> None:
        held = self.held.get(lease)
        if held is not None and not held.is_given_back and self._world.now < held.asked_at + TTL:
            elapsed = (self._world.now - held.asked_at) // MS
            raise Violation("no lease is cut", f"{lease:x} {how} {elapsed} ms after its last renewal was asked for")


class LeaseOwners:
    """The clients that hold leases."""

    def __init__(
        self, world: World, loop: VirtualLoop, members: dict[int, Member], leasing: Leasing, watch: LeaseWatch
    ) -> None:
        self._world = world
        self._members = members
        self._has_keys = leasing.has_keys
        self._watch = watch
        self._rng = random.Random(leasing.seed)
        self.is_active = True
        self.tasks = [loop.create_task(self._own()) for _ in range(leasing.owners)]

    async def _own(self) -> None:
        """One lease after the other."""
        rng = self._rng
        while self.is_active:
            await asyncio.sleep(rng.random() * 0.1)
            if not self.is_active:
                return
            lease = rng.randrange(1, ID_MAX)
            if not await self._grant(lease):
                continue
            for _ in range(rng.choice((0, 0, 3, 30))):
                await asyncio.sleep(rng.uniform(0.02, 0.4))
                if not self.is_active or not await self._renew(lease):
                    break
            if rng.random() < 0.3:
                await self._give_back(lease)

    async def _grant(self, lease: int) -> bool:
        command = store_pb2.Command(lease_grant=rpc.LeaseGrantRequest(ID=lease, TTL=TTL_S))
        asked_at = self._world.now
        if await self._write(command) is None:
            return False
        self._watch.held[lease] = Held(asked_at)
        if self._has_keys:
            for name in ("one", "two")[: self._rng.randrange(3)]:
                put = rpc.PutRequest(key=f"lease/{lease:x}/{name}".encode(), value=b"held", lease=lease)
                await self._write(store_pb2.Command(put=put))
        return True

    async def _renew(self, lease: int) -> bool:
        """False: it is gone. An answer that does not come says nothing."""
        asked_at = self._world.now
        if self._rng.random() < 0.2:
            return await self._look(lease)
        answer = await self._write(store_pb2.Command(lease_renew=rpc.LeaseKeepAliveRequest(ID=lease)))
        if answer is None:
            return True
        if answer.TTL == 0:
            self._watch.told_gone(lease)
            return False
        self._watch.held[lease].asked_at = asked_at
        return True

    async def _look(self, lease: int) -> bool:
        request = rpc.LeaseTimeToLiveRequest(ID=lease, keys=True)
        read = partial(_read, lambda machine: machine.leases.time_to_live(request))
        try:
            answer = await call(self._world, self._any_member(), read, TIMEOUT_S)
        except RequestError:
            return True
        if answer.TTL == -1:
            self._watch.told_gone(lease)
            return False
        if not 0 <= answer.TTL <= TTL_S:
            raise Violation("time to live is what is left", f"{lease:x} has {answer.TTL} s of {TTL_S}")
        return True

    async def _give_back(self, lease: int) -> None:
        self._watch.held[lease].is_given_back = True
        await self._write(store_pb2.Command(lease_revoke=rpc.LeaseRevokeRequest(ID=lease)))

    async def _write(self, command: store_pb2.Command) -> Any:
        """The answer; None: it is not known, or an error."""
        commands = store_pb2.CommandBatch(commands=[command]).SerializeToString()
        try:
            (answer,) = await call(self._world, self._any_member(), partial(_submit, commands), TIMEOUT_S)
        except RequestError:
            return None
        return None if isinstance(answer, RequestError) else answer

    def _any_member(self) -> Member:
        return self._members[self._rng.choice(sorted(self._members))]


async def _submit(commands: bytes, member: Member) -> Any:
    return await member.node.submit(commands, 1, timeout_s=TIMEOUT_S)


async def _read(job: Any, member: Member) -> Any:
    return await member.node.read(job, timeout_s=TIMEOUT_S)

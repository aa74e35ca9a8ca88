"""Clients of tier two: they ask real nodes over a network that loses connections, and write down what they saw.

A client whose write has an unknown outcome is never heard of again; another takes its place. What may not live here: what
they ask for (`operations`), and whether the answers were right (`raftkv.lab.linearizability`).
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from raftkv.errors import Outcome, RequestError
from raftkv.lab.history import Recorder
from raftkv.pb import store_pb2
from tests.sim.calls import Call
from tests.sim.checkers import Violation
from tests.sim.swarm import MS
from tests.sim.tier_two.loop import VirtualLoop
from tests.sim.tier_two.member import Member
from tests.sim.tier_two.operations import ALL_PROBES, Asked, Menu, answer_to
from tests.sim.tier_two.rpc import call
from tests.sim.tier_two.sessions import Session
from tests.sim.tier_two.swarm import Afflictions
from tests.sim.tier_two.watch import StateWatch
from tests.sim.world import World

TIMEOUTS_S = (0.05, 0.3, 1.5)
LOCAL_TIMEOUT_S = 0.3


class Clients:
    """All clients of one run, and the history of what they saw."""

    def __init__(
        self,
        world: World,
        loop: VirtualLoop,
        members: dict[int, Member],
        afflictions: Afflictions,
        states: StateWatch,
    ) -> None:
        self._world = world
        self._members = members
        self._pause = afflictions.client_pause
        self._states = states
        self._names = 0
        self.recorder = Recorder(loop.time)
        self.menu = Menu(world.rng, states.told)
        self.is_active = True
        self._in_flight: dict[str, tuple[float, Asked]] = {}
        self.acknowledged = 0
        self.reads = 0
        self.revision = 1
        """The highest that any answer carried."""
        self.tasks = [loop.create_task(self._work(number)) for number in range(afflictions.clients)]
        self.tasks.append(loop.create_task(self._read_locally()))

    async def _work(self, number: int) -> None:
        """One client after the other. Some keep to one node: they are the ones that meet a deposed leader."""
        rng, nodes = self._world.rng, sorted(self._members)
        bound = rng.choice(nodes) if number % 2 else 0
        name, session = self._new_name(), self._new_session(number)
        while True:
            await asyncio.sleep(self._world.seldom(self._pause) / 1e6)
            if not self.is_active:
                return
            member = self._members[bound or rng.choice(nodes)]
            asked = self.menu.draw()
            error = await self._perform(name, member, asked, rng.choice(TIMEOUTS_S), session)
            if _is_unknown(asked, error):  # The client id is spent.
                name, session = self._new_name(), self._new_session(number)

    def _new_session(self, number: int) -> Session | None:
        """For every third client, which sends a write again until it knows what became of it."""
        return Session(self.write, self._members, self._world.rng) if number % 3 == 2 else None

    async def _perform(
        self, name: str, member: Member, asked: Asked, timeout_s: float, session: Session | None = None
    ) -> RequestError | None:
        """Do and record it."""
        begun = self.recorder.now()
        self._in_flight[name] = (begun, asked)
        try:
            answer = await self.ask(member, asked, timeout_s, session)
            if not isinstance(answer, asked.answer):
                raise Violation("everybody gets an answer to what was asked", f"{asked.op}: {type(answer).__name__}")
            result = asked.told(answer)
        except RequestError as error:
            if _is_unknown(asked, error):
                asked.group.unknown += 1
                self.recorder.never_returned(name, begun, asked.op, asked.args)
            else:
                self.recorder.refused(name, begun, asked.op, asked.args, str(error))
            return error
        finally:
            del self._in_flight[name]
        self.recorder.returned(name, begun, asked.op, asked.args, result)
        self.revision = max(self.revision, result["revision"])
        if asked.command is not None:
            self.acknowledged += 1
        else:
            self.reads += 1
        return None

    async def ask(self, member: Member, asked: Asked, timeout_s: float, session: Session | None = None) -> Any:
        """One request to one node; of a session, to several perhaps. Raises RequestError."""
        if asked.command is not None:
            answer = await (session or self).write(member, asked.command, timeout_s)
            if isinstance(answer, RequestError):
                raise answer
            return answer
        assert asked.request is not None
        read = answer_to(asked.request)
        return await call(self._world, member, lambda it: it.node.read(read, timeout_s=timeout_s), timeout_s)

    async def write(self, member: Member, command: store_pb2.Command, timeout_s: float) -> Any:
        commands = store_pb2.CommandBatch(commands=[command]).SerializeToString()
        job = partial(_submit, commands, timeout_s)
        return (await call(self._world, member, job, timeout_s))[0]

    async def put_once(self, put: Call, member: Member, asked: Asked, timeout_s: float) -> None:
        name = self._new_name()
        error = await self._perform(name, member, asked, timeout_s)
        put.set_result([] if error is None else error)

    def abandon(self) -> None:
        """The run ends while some still wait: what came of it, nobody knows."""
        for name, (begun, asked) in self._in_flight.items():
            self.recorder.never_returned(name, begun, asked.op, asked.args)

    async def read_everything(self, member: Member, timeout_s: float) -> None:
        """What was acknowledged is there, or was overwritten. Raises RequestError."""
        name = self._new_name()
        for group in self.menu.groups:
            asked = self.menu.range(group)
            begun = self.recorder.now()
            answer = await self.ask(member, asked, timeout_s)
            if not isinstance(answer, asked.answer):
                raise Violation("everybody gets an answer to what was asked", f"{asked.op}: {type(answer).__name__}")
            result = asked.told(answer)
            self.recorder.returned(name, begun, asked.op, asked.args, result)
        begun, read = self.recorder.now(), answer_to(ALL_PROBES)
        found = await call(self._world, member, lambda it: it.node.read(read, timeout_s=timeout_s), timeout_s)
        for args, result in self.menu.probes_told(found):
            self.recorder.returned(self._new_name(), begun, "get", args, result)

    async def _read_locally(self) -> None:
        """Reads of a node's own state may be old, but not wrong, and no node's go back in time."""
        rng, nodes = self._world.rng, sorted(self._members)
        seen: dict[tuple[int, int], int] = {}
        while True:
            await asyncio.sleep(self._world.seldom(30 * MS) / 1e6)
            if not self.is_active:
                return
            member = self._members[rng.choice(nodes)]
            life = (member.id, member.incarnation)
            request = self.menu.range(rng.choice(self.menu.groups)).request
            assert request is not None
            read = answer_to(request)
            try:
                found = await call(self._world, member, partial(_read_local, read), LOCAL_TIMEOUT_S)
            except RequestError:
                continue
            self._states.read_locally(life, seen, found)

    def _new_name(self) -> str:
        self._names += 1
        return f"c{self._names}"


async def _submit(commands: bytes, timeout_s: float, member: Member) -> Any:
    return await member.node.submit(commands, 1, timeout_s=timeout_s)


async def _read_local(read: Any, member: Member) -> Any:
    return await member.node.read_local(read, timeout_s=LOCAL_TIMEOUT_S)


def _is_unknown(asked: Asked, error: RequestError | None) -> bool:
    """Whether it may have been done, or may still be."""
    return error is not None and asked.command is not None and error.outcome is not Outcome.NOT_APPLIED

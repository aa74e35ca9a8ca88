"""A run of tier one: bare cores, and clients that are a few lines each.

What may not live here: how nodes work, and what counts as wrong.
"""

from __future__ import annotations

from raftkv.node.proposals import Submission
from raftkv.pb import rpc_pb2, store_pb2
from raftkv.raft import Membership, Message
from tests.sim.calls import Call
from tests.sim.scenario import Scenario
from tests.sim.schedule import Schedule
from tests.sim.tier_one.member import Member

OUTSTANDING_MAX = 30
"""Calls that one node is given before earlier ones are answered."""


class Run(Scenario):
    events_max = 100_000

    def __init__(self, seed: int, *, trace: list[str] | None = None, schedule: Schedule | None = None) -> None:
        super().__init__(seed, trace=trace, schedule=schedule)
        self.populate()
        self._calls: dict[int, list[Call]] = {node: [] for node in self.members}
        self._puts = 0
        self.world.after(0, self._put)
        self.world.after(0, self._read)

    def new_member(self, node: int, initial: Membership, tick: int) -> Member:
        return Member(node, self.world, self.checkers, initial, self.members, tick)

    def deliver(self, message: Message) -> None:
        self.members[message.receiver].receive(message)

    def judge(self) -> None:
        """Every answer was judged when it was given."""

    # Clients

    def _put(self) -> None:
        if self.has_clients:
            self.world.after(self.world.seldom(self.swarm.put_interval), self._put)
            member = self.world.rng.choice(list(self.members.values()))
            if self._may_call(member):
                self.put(member)

    def put(self, member: Member) -> Call:
        self._puts += 1
        value = b"x" * self.world.rng.choice((1, 1, 50))
        command = store_pb2.Command(put=rpc_pb2.PutRequest(key=b"%d" % self._puts, value=value))
        call = Call(self.checkers.last_committed)
        self._calls[member.id].append(call)
        commands = store_pb2.CommandBatch(commands=[command]).SerializeToString()
        member.submit(Submission(commands, 1, call))  # type: ignore[arg-type]
        return call

    def _read(self) -> None:
        if self.has_clients:
            self.world.after(self.world.seldom(self.swarm.read_interval), self._read)
            member = self.world.rng.choice(list(self.members.values()))
            if self._may_call(member):
                call = Call(self.checkers.last_committed)
                self._calls[member.id].append(call)
                member.read(call)

    def _may_call(self, member: Member) -> bool:
        if not member.is_up or member.is_paused:
            return False
        calls = self._calls[member.id] = [call for call in self._calls[member.id] if not call.is_done]
        if calls and self.world.rng.random() < 0.05:
            calls.pop(0).give_up()
        return len(calls) < OUTSTANDING_MAX

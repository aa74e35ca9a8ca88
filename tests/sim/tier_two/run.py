"""A run of tier two: the product's nodes in virtual time, real clients' histories, and the verdict on them.

What may not live here: how nodes are put together, and what clients do.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from raftkv.errors import RequestError
from raftkv.lab.linearizability import CheckLimits, check
from raftkv.pb import rpc_pb2, store_pb2
from raftkv.raft import Membership, Message
from tests.sim.calls import Call
from tests.sim.checkers import Violation
from tests.sim.scenario import Result, Scenario
from tests.sim.schedule import Schedule
from tests.sim.swarm import ELECTION_TIMEOUT
from tests.sim.tier_two.clients import Clients
from tests.sim.tier_two.leases import OUTLIVES, TTL, LeaseOwners, LeaseWatch
from tests.sim.tier_two.loop import VirtualLoop
from tests.sim.tier_two.member import Member
from tests.sim.tier_two.nemesis import NodeNemesis
from tests.sim.tier_two.operations import compaction
from tests.sim.tier_two.roster import carry_out, draw_change, row
from tests.sim.tier_two.swarm import draw_afflictions, draw_extra_faults, draw_leasing
from tests.sim.tier_two.watch import StateWatch
from tests.support import memory_directory

PUT_TIMEOUT_S = 1.5
READ_TIMEOUT_S = 1.0
JUDGE_LIMITS = CheckLimits(seconds=30.0, states_max=400_000)


class Run(Scenario):
    events_max = 400_000

    def __init__(self, seed: int, *, trace: list[str] | None = None, schedule: Schedule | None = None) -> None:
        super().__init__(seed, trace=trace, schedule=schedule)
        self.checkers.groups_saves = True
        self.afflictions = draw_afflictions(self.rng)
        self.settling_time += int(1e6 * self.afflictions.recovery_s) + 3 * ELECTION_TIMEOUT
        """Who was sick counts as well only then, and another may lead until then."""
        self._extra_faults = draw_extra_faults(self.rng)
        self.loop = VirtualLoop(self.world, lambda: self.world.about(self.afflictions.job_delay))
        self.leasing = draw_leasing(seed)
        self.leases = LeaseWatch(self.world)
        self.states = StateWatch(self.checkers, self.leases)
        if trace is not None:
            trace.append(f"{self.afflictions} {self._extra_faults} {self.leasing}")

    def run(self) -> Result:
        """Raises Violation, or whatever a node asserts."""
        with memory_directory("raftkv-sim-") as self._directory, self.loop.running(), _quiet():
            try:
                self.populate()
                self.clients = Clients(self.world, self.loop, self.members, self.afflictions, self.states)
                self.owners = LeaseOwners(self.world, self.loop, self.members, self.leasing, self.leases)
                return super().run()
            finally:
                self.loop.end()
                for member in self.members.values():
                    member.end()

    def new_member(self, node: int, initial: Membership, tick: int) -> Member:
        return Member(
            node,
            world=self.world,
            loop=self.loop,
            checkers=self.checkers,
            states=self.states,
            afflictions=self.afflictions,
            initial=initial,
            table=self._told(node),
            members=self.members,
            tick=tick,
            directory=self._directory,
        )

    def new_nemesis(self) -> NodeNemesis:
        change_members = self._change_members if self.afflictions.is_managed else None
        return NodeNemesis(
            self.world, self.members, self.schedule, self._extra_faults, self._compact_keys, change_members
        )

    def _told(self, node: int) -> list[rpc_pb2.Member]:
        """The members that a node is told of when it is made: all there will ever be, unless the log is to tell of them."""
        last = self.swarm.voters if self.afflictions.is_managed else self.swarm.voters + self.swarm.spares
        return [row(one) for one in sorted({*range(1, last + 1), node})]

    def _change_members(self) -> None:
        up = [member for _, member in sorted(self.members.items()) if member.is_up and not member.is_paused]
        if not up:
            return
        asked = self.rng.choice(up)
        change = draw_change(self.rng, asked, self.members)
        if change is not None:
            if self.world.trace is not None:
                self.world.say("--", f"{asked} is asked to {str(change).split()[0].rstrip(':')}: {_subject(change)}")
            self.loop.create_task(carry_out(self.world, asked, change))

    def deliver(self, message: Message) -> None:
        self.members[message.receiver].receive(message)

    # Clients

    def share_a_sickness(self) -> None:
        """Nodes that watch over their own health get well by themselves."""

    def put(self, member: Member) -> Call:
        """A write of a key of its own."""
        call = Call(self.checkers.last_committed)
        self.loop.create_task(self.clients.put_once(call, member, self.clients.menu.probe(), PUT_TIMEOUT_S))
        return call

    def _compact_keys(self) -> None:
        """All but the last few revisions."""
        revision = self.clients.revision - self.rng.randrange(20)
        if revision > 0:
            member = self.members[self.rng.choice(sorted(self.members))]
            self.loop.create_task(self._compact(member, revision))

    async def _compact(self, member: Member, revision: int) -> None:
        try:
            await self.clients.write(member, compaction(revision), READ_TIMEOUT_S)
        except RequestError:
            return

    def clients_end(self) -> None:
        super().clients_end()
        self.clients.is_active = self.owners.is_active = False

    def _stay_quiet(self) -> None:
        """Nobody renews a lease any more: first all of them end, and then no time passes by the log either."""
        if self.leasing.owners:
            owners = self.owners.tasks
            self.world.run_until(
                self.world.now + TTL + OUTLIVES, lambda: not self.leases.alive and all(owner.done() for owner in owners)
            )
            if self.leases.alive:
                raise Violation("no lease outlives its owner", f"{len(self.leases.alive)} live on")
        super()._stay_quiet()

    # The verdict

    def judge(self) -> None:
        """Read everything once more; then a sequential store must be able to explain all that clients saw."""
        leader = self._leader()
        assert leader is not None, "somebody led a moment ago"
        task = self.loop.create_task(self.clients.read_everything(leader, READ_TIMEOUT_S))
        self.world.run_until(self.world.now + 3 * ELECTION_TIMEOUT, task.done)
        if not task.done():
            raise Violation("reads succeed after healing", f"at {leader}")
        task.result()
        for client in self.clients.tasks + self.owners.tasks:
            if client.done() and (error := client.exception()) is not None:
                raise error
        for complaint in self.loop.complaints:
            raise Violation("nothing fails unnoticed", f"{complaint}") from complaint.get("exception")
        self.clients.abandon()
        verdict = check(
            self.clients.recorder.operations, limits=JUDGE_LIMITS, sole_writer=not self.leasing.makes_revisions
        )
        if not verdict.ok:
            raise Violation("linearizable", str(verdict))
        self.checkers.acknowledged = self.clients.acknowledged
        self.checkers.reads = self.clients.reads


def _subject(change: store_pb2.MemberChange) -> int:
    return change.add.ID or change.remove or change.promote


@contextmanager
def _quiet() -> Iterator[None]:
    """What the nodes would log is in the trace, where it is wanted."""
    log: Any = logging.getLogger("raftkv")
    before = log.disabled, log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        log.setLevel(before[1])

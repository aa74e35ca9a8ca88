"""One seed: a cluster, a time in which anything may break, and then the proof that it comes back. Both tiers go through this.

What may not live here: how nodes work, what clients do, and what counts as wrong in a step (`checkers`).
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from raftkv.raft import LogLostError, Membership, RoleName
from tests.sim.calls import Call
from tests.sim.checkers import Checkers, Violation, is_quorum
from tests.sim.nemesis import Nemesis
from tests.sim.schedule import Schedule
from tests.sim.swarm import ELECTION_TIMEOUT, SAFETY_TIME, TICK, Swarm, draw
from tests.sim.world import TooManyEvents, World

QUORUM_TIME = 40 * ELECTION_TIMEOUT
"""Within this a healed quorum has elected a leader and committed something."""
CATCH_UP_TIME = 60 * ELECTION_TIMEOUT
QUIET_TIME = 7 * ELECTION_TIMEOUT
CHECK_INTERVAL = 5 * TICK


@dataclass(frozen=True, slots=True)
class Result:
    """What a run amounted to; equal for equal seeds."""

    seed: int
    fingerprint: int
    events: int
    terms_led: int
    committed: int
    acknowledged: int
    reads: int
    changes: int
    installs: int
    quorum_ticks: int
    """From the healing of a quorum to the first write that it acknowledged."""
    catch_up_ticks: int


class Scenario(ABC):
    """The phases of a run. A tier says what a member is, and what clients do."""

    settling_time = 3 * ELECTION_TIMEOUT
    """Until whoever was removed has noticed the silence."""
    events_max: int
    """Far more than any run needs: beyond it, messages beget messages."""

    def __init__(self, seed: int, *, trace: list[str] | None = None, schedule: Schedule | None = None) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.schedule = schedule or Schedule()
        self.swarm: Swarm = self.schedule.spare(draw(self.rng))
        self.world = World(self.rng, self.swarm, self.deliver, events_max=self.events_max)
        self.nemesis: Nemesis | None = None
        self.world.trace = trace
        self.members: dict[int, Any] = {}
        self.checkers = Checkers(self.members)
        self.has_clients = True
        if trace is not None:
            trace.append(f"seed {seed}: {self.swarm}")

    def populate(self) -> None:
        """Start the members, and what breaks them."""
        initial = Membership(voters=frozenset(range(1, self.swarm.voters + 1)))
        for node in range(1, self.swarm.voters + self.swarm.spares + 1):
            membership = initial if node in initial.voters else Membership()
            tick = int(TICK * (1 + self.swarm.skew * self.rng.random()))
            self.members[node] = self.new_member(node, membership, tick)
        self.nemesis = self.new_nemesis()
        self.world.after(CHECK_INTERVAL, self._check)

    @abstractmethod
    def new_member(self, node: int, initial: Membership, tick: int) -> Any:
        """A member, started."""

    def new_nemesis(self) -> Nemesis:
        return Nemesis(self.world, self.members, self.schedule)

    @abstractmethod
    def deliver(self, message: Any) -> None:
        """A message has come through the network."""

    @abstractmethod
    def put(self, member: Any) -> Call:
        """A client writes through this member."""

    def clients_end(self) -> None:
        """Nobody is to begin anything any more."""
        self.has_clients = False

    @abstractmethod
    def judge(self) -> None:
        """What can only be said at the end."""

    @property
    def strikes(self) -> int:
        """How many faults there were."""
        return self.nemesis.strikes if self.nemesis is not None else 0

    def run(self) -> Result:
        """Raises Violation, or whatever a core asserts."""
        try:
            self.world.run_until(SAFETY_TIME)
            assert self.nemesis is not None, "nobody lives here"
            self.nemesis.is_active = False
            self.clients_end()
            quorum_ticks = self._heal_a_quorum()
            catch_up_ticks = self._heal_everything()
            self._stay_quiet()
            self.judge()
        except TooManyEvents as error:
            raise Violation("bounded traffic", str(error)) from error
        except LogLostError as error:
            raise Violation("no disk lost anything", str(error)) from error
        checkers = self.checkers
        return Result(
            self.seed,
            self.world.fingerprint,
            self.world.events,
            checkers.terms_led,
            len(checkers.committed),
            checkers.acknowledged,
            checkers.reads,
            checkers.changes,
            checkers.installs,
            quorum_ticks,
            catch_up_ticks,
        )

    def _check(self) -> None:
        for member in self.members.values():
            if member.is_up:
                self.checkers.invariants(member)
        self.world.after(CHECK_INTERVAL, self._check)

    # Coming back

    def _heal_a_quorum(self) -> int:
        """A quorum is well, the rest is dead, cut off or half-deaf: the quorum must get something committed."""
        world, rng = self.world, self.world.rng
        core = self._pick_core()
        world.is_hostile = False
        world.cut.clear()
        for node in sorted(core):
            self.members[node].recover()
        for node in sorted(set(self.members) - core):
            self._spoil(self.members[node], core)
        self.share_a_sickness()
        if world.trace is not None:
            world.say("==", f"HEALED: {sorted(core)}; cut: {sorted(world.cut)}")
        start, before = world.now, self.checkers.last_committed
        calls: list[Call] = []

        def has_committed() -> bool:
            return any(call.is_done and isinstance(call.outcome, list) for call in calls)

        while world.now < start + QUORUM_TIME:
            leaders = [m for m in self.members.values() if m.is_up and m.raft.role is RoleName.LEADER]
            calls += [self.put(rng.choice(leaders))] if leaders else []
            if world.run_until(world.now + TICK, has_committed):
                return (world.now - start) // TICK
        raise Violation("a healed quorum commits", f"{sorted(core)}: nothing in {QUORUM_TIME // TICK} ticks, {before}")

    def _pick_core(self) -> set[int]:
        """Few nodes, yet a quorum by every configuration that may still decide something."""
        configurations = self._live_configurations()
        core = set(self.members)
        leaders = [node for node, m in self.members.items() if m.is_up and m.raft.role is RoleName.LEADER]
        leaves = sorted(self.members)
        self.world.rng.shuffle(leaves)
        if leaders and self.world.rng.random() < 0.5:
            leaves = leaders + leaves  # The one that leads is the most interesting one to lose.
        for node in leaves:
            rest = core - {node}
            if all(is_quorum(membership, rest.__contains__) for membership in configurations):
                core = rest
        return core

    def _live_configurations(self) -> set[Membership]:
        """The last committed one, and all that were ever written behind it: a log may hold it, or a message under way."""
        since = max((c.entry.index for c in self.checkers.committed if c.entry.membership is not None), default=0)
        configurations: set[Membership] = set()
        if since:
            configurations.add(self.checkers.committed[since - 1].entry.membership or Membership())
        else:
            configurations.add(Membership(voters=frozenset(range(1, self.swarm.voters + 1))))
        written = (entry for _, entry in self.checkers.names.values())
        return configurations | {e.membership for e in written if e.membership is not None and e.index > since}

    def _spoil(self, member: Any, core: set[int]) -> None:
        """Whoever is not of the healed quorum stays in its way as well as it can."""
        others = [node for node in self.members if node != member.id]
        outgoing = {(member.id, node) for node in others}
        incoming = {(node, member.id) for node in others}
        match self.world.rng.randrange(5):
            case 0 if member.is_up:
                member.crash()
            case 1:
                self.world.cut |= outgoing
            case 2:
                self.world.cut |= incoming
            case 3:
                one = self.world.rng.choice(sorted(core))
                self.world.cut |= {link for link in outgoing | incoming if one not in link}
            case _:
                self.world.cut |= outgoing | incoming

    def _heal_everything(self) -> int:
        """Everybody is well, and no word from the bad times arrives any more: all members come to hold the same, and
        nobody waits for an answer.
        """
        world = self.world
        world.cut.clear()
        for member in self.members.values():
            member.recover()
        if world.trace is not None:
            world.say("==", "HEALED: everything")
        world.run_until(world.now)  # What paused nodes still had in their buffers.
        world.forget_messages()
        self.share_a_sickness()
        start = world.now
        while world.now < start + CATCH_UP_TIME:
            world.run_until(world.now + TICK)
            if self._is_level():
                return (world.now - start) // TICK
        states = ", ".join(
            f"{m}: {m.raft.role.value} {m.raft.term} {m.raft.applied_index}" if m.is_up else f"{m}: down"
            for m in self._all()
        )
        raise Violation("everybody catches up", f"not within {CATCH_UP_TIME // TICK} ticks: {states}")

    def share_a_sickness(self) -> None:
        """Everybody is well, or everybody is equally unfit to lead: then somebody leads all the same, and nobody hands over."""
        severity = self.world.rng.choice((0, 0, 1, 3))
        for member in self.members.values():
            if member.is_up:
                member.raft.set_severity(severity)

    def _all(self) -> list[Any]:
        return list(self.members.values())

    def _leader(self) -> Any | None:
        leaders = [member for member in self._all() if member.is_up and member.raft.role is RoleName.LEADER]
        return max(leaders, key=lambda member: member.raft.term) if leaders else None

    def _is_level(self) -> bool:
        leader = self._leader()
        if leader is None or leader.raft.membership.is_joint:
            return False
        last = leader.raft.last_index
        members = [self.members[node] for node in leader.raft.membership.members]
        return all(
            member.is_up
            and (member.raft.term, member.raft.leader) == (leader.raft.term, leader.id)
            and member.machine.applied_index == member.raft.commit_index == last
            and member.state == leader.state
            and member.is_idle
            for member in members
        )

    def _stay_quiet(self) -> None:
        """Nothing is wrong any more: no election, a write at every member succeeds, and nobody else fills the log."""
        self.world.run_until(self.world.now + self.settling_time)
        leader = self._leader()
        if leader is None:
            raise Violation("quiet after healing", "nobody leads any more")
        term, before = leader.raft.term, leader.raft.last_index
        calls = [self.put(self.members[node]) for node in leader.raft.membership.members]
        self.world.run_until(self.world.now + QUIET_TIME)
        self._check()
        if leader.raft.term != term or leader.raft.role is not RoleName.LEADER:
            raise Violation("quiet after healing", f"{leader} led term {term}, now it is {leader.raft.term}")
        if leader.raft.last_index > before + 2 * len(calls):
            raise Violation("quiet after healing", f"{len(calls)} writes, {leader.raft.last_index - before} entries")
        if not all(call.is_done_for for call in calls) or not self._is_level():
            raise Violation("writes succeed after healing", f"in term {term} under {leader}")

"""Who breaks things: one fault after the other, each drawn by the weights of the swarm.

A fault is a method of the same name. What may not live here: anything that a cluster is not meant to survive.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from raftkv.raft import MembershipChange, MembershipChangeRefused, NotLeader, RoleName
from tests.sim.schedule import Schedule
from tests.sim.swarm import ELECTION_TIMEOUT, MS, Swarm
from tests.sim.world import World


class Nemesis:
    def __init__(
        self,
        world: World,
        members: dict[int, Any],
        schedule: Schedule,
        *,
        extra: tuple[tuple[str, float], ...] = (),
    ) -> None:
        self._world = world
        self._schedule = schedule
        self.strikes = 0
        self._members = members
        self._swarm: Swarm = world.swarm
        faults = self._swarm.faults + extra
        self._names = [name for name, _ in faults]
        self._weights = [weight for _, weight in faults]
        self.is_active = True
        if self._names:
            world.after(world.seldom(self._swarm.fault_interval), self._strike)

    def _strike(self) -> None:
        if not self.is_active:
            return
        name = self._world.rng.choices(self._names, self._weights)[0]
        self.strikes += 1
        if self._schedule.allows(name, self.strikes):
            getattr(self, name)()
        self._world.after(self._world.seldom(self._swarm.fault_interval), self._strike)

    def _say(self, text: str) -> None:
        if self._world.trace is not None:
            self._world.say("--", text)

    def _up(self) -> list[Any]:
        return [member for member in self._members.values() if member.is_up]

    def _leaders(self) -> list[Any]:
        return [member for member in self._up() if member.raft.role is RoleName.LEADER]

    # Processes

    def crash(self) -> None:
        self._crash_one(self._up())

    def crash_leader(self) -> None:
        self._crash_one(self._leaders())

    def _crash_one(self, candidates: list[Any]) -> None:
        if not candidates:
            return
        member = self._world.rng.choice(candidates)
        member.crash()
        self._world.after(self._world.seldom(ELECTION_TIMEOUT), self._restart, member)

    def _restart(self, member: Any) -> None:
        if self.is_active and not member.is_up:
            member.start()

    def pause(self) -> None:
        self._pause_one(self._up())

    def pause_leader(self) -> None:
        self._pause_one(self._leaders())

    def _pause_one(self, candidates: list[Any]) -> None:
        if candidates:
            member = self._world.rng.choice(candidates)
            duration = self._world.seldom(2 * ELECTION_TIMEOUT)
            self._say(f"{member} stops for {duration // MS} ms")
            member.pause(duration)

    def slow_disk(self) -> None:
        member = self._world.rng.choice(list(self._members.values()))
        member.slow_disk = 1 if member.slow_disk > 1 else self._world.rng.choice((5, 20))
        self._say(f"the disk of {member} is {member.slow_disk} times as slow")

    # Links

    def isolate(self) -> None:
        one = self._world.rng.choice(sorted(self._members))
        self.cut_off({one})

    def isolate_leader(self) -> None:
        """Its last words are still under way."""
        leaders = self._leaders()
        if leaders:
            self.cut_off({self._world.rng.choice(leaders).id})

    def split(self) -> None:
        nodes = sorted(self._members)
        self.cut_off(set(self._world.rng.sample(nodes, self._world.rng.randrange(1, len(nodes) + 1))))

    def cut_off(self, group: set[int]) -> None:
        """Nothing passes between a group and the rest."""
        self._say(f"cut: {sorted(group)} from the rest")
        self._world.cut |= {(a, b) for a in self._members for b in self._members if (a in group) != (b in group)}

    def bridge(self) -> None:
        """Two groups that share one node."""
        nodes = sorted(self._members)
        self._world.rng.shuffle(nodes)
        middle = len(nodes) // 2
        left, right = nodes[:middle], nodes[middle + 1 :]
        self._say(f"cut: {left} from {right}, {nodes[middle]} sees both")
        self._world.cut |= {(a, b) for a in left for b in right} | {(b, a) for a in left for b in right}

    def cut_one_way(self) -> None:
        """All that one node sends, or all that it would hear, or a single link."""
        nodes = sorted(self._members)
        one = self._world.rng.choice(nodes)
        others = [node for node in nodes if node != one]
        kind = self._world.rng.randrange(3)
        if kind == 0:
            cut = {(one, other) for other in others}
        elif kind == 1:
            cut = {(other, one) for other in others}
        else:
            cut = {(one, self._world.rng.choice(others))} if others else set()
        self._say(f"cut: {sorted(cut)}")
        self._world.cut |= cut

    def heal(self) -> None:
        self._say("all links heal")
        self._world.cut.clear()

    # What operators and connections do

    def member(self) -> None:
        """Any change at all, asked of whoever thinks it leads: most are refused."""
        leaders = self._leaders()
        if not leaders:
            return
        leader, rng = self._world.rng.choice(leaders), self._world.rng
        now, nodes = leader.raft.membership, sorted(self._members)
        voters, learners = set(now.voters), set(now.learners | now.learners_next)
        outside = [node for node in nodes if node not in voters | learners]
        kind = rng.randrange(5)
        if kind == 0 and outside:
            learners.add(rng.choice(outside))
        elif kind == 1 and learners:
            learners.discard(one := rng.choice(sorted(learners)))
            voters.add(one)
        elif kind == 2:
            one = rng.choice(sorted(voters | learners))
            voters.discard(one)
            learners.discard(one)
        elif kind == 3 and outside:
            voters.add(rng.choice(outside))
        else:
            voters = set(rng.sample(nodes, rng.randrange(1, len(nodes) + 1)))
            learners = {node for node in nodes if node not in voters and rng.random() < 0.5}
        change = MembershipChange(voters=frozenset(voters), learners=frozenset(learners))
        with suppress(MembershipChangeRefused, NotLeader):
            leader.change_membership(change)
            self._say(f"{leader} takes up: voters {sorted(voters)}, learners {sorted(learners)}")

    def transfer(self) -> None:
        up = self._up()
        if up:
            member = self._world.rng.choice(up)
            target = self._world.rng.choice([0, *sorted(self._members)])
            self._say(f"{member} is to have {target} lead")
            member.transfer_leadership(target)

    def unreachable(self) -> None:
        up = self._up()
        if up:
            member = self._world.rng.choice(up)
            member.peer_lost(self._world.rng.choice(sorted(self._members)))

    def sicken(self) -> None:
        """A node finds itself unfit to lead, or fit again. It may be wrong: that costs a hand-over."""
        up = self._up()
        if up:
            member = self._world.rng.choice(up)
            severity = self._world.rng.choice((0, 1, 1, 2, 3))
            self._say(f"{member} finds itself unfit to lead: {severity}")
            member.raft.set_severity(severity)

    def leader_gone(self) -> None:
        """The evidence may be wrong, or late: that may cost an election, nothing else."""
        up = self._up()
        if up:
            member = self._world.rng.choice(up)
            self._say(f"{member} believes its leader dead")
            member.leader_gone()

    def compact(self) -> None:
        up = self._up()
        if up:
            self._world.rng.choice(up).compact_now()

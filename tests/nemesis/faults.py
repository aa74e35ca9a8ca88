"""What is done to a cluster of three, and how everything is made good again.

A plan is a few faults, each held for a while; the next one comes on top of it, or after everything was made good. Which faults, and
for how long, follows from the seed. Which node leads then does not, so a seed repeats a plan and not a run.

Not here: a full disk and power cuts, which need disks of their own (`tests/storage_faults`).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import raftkv
from raftkv.errors import RequestError
from raftkv.lab.cluster import LocalCluster
from raftkv.lab.links import Mode, Rule
from tests.nemesis import disks
from tests.nemesis.members import Slots

HOLD_S = (0.2, 2.5)
COMPACT_TIMEOUT_S = 2.0
MOVE_TIMEOUT_S = 2.0


@dataclass(frozen=True, kw_only=True)
class Step:
    """One fault of a plan. ``alone``: everything is made good before it."""

    fault: str
    hold_s: float
    alone: bool


def draw_plan(rng: random.Random, *, faults: list[str] | None = None, single: bool = False) -> list[Step]:
    """One to three faults, or a single one."""
    names = faults or list(FAULTS)
    count = 1 if single else rng.choice([1, 1, 2, 2, 3])
    return [Step(fault=rng.choice(names), hold_s=rng.uniform(*HOLD_S), alone=rng.random() < 0.5) for _ in range(count)]


class Nemesis:
    """Breaks one cluster. Every fault says what it did, or that there was nothing left to break."""

    def __init__(self, cluster: LocalCluster, rng: random.Random) -> None:
        self.cluster = cluster
        self.rng = rng
        self.slots = Slots(cluster)
        self.tracers = disks.Tracers()

    def do(self, fault: str) -> str:
        """Raises LabError."""
        return FAULTS[fault](self)

    def restore(self) -> None:
        """Make everything good: wake, heal, start, in some order. Raises LabError: a node does not come back."""
        self.tracers.release()
        wake, dead = self._names_that_are("paused"), [name for name in self._dead() if name not in self.slots.away]
        steps: list[Callable[[], None]] = [
            lambda: self.cluster.resume(*wake) if wake else None,
            self.cluster.heal,
            lambda: self.cluster.start(dead, wait=False) if dead else None,
        ]
        self.rng.shuffle(steps)
        for step in steps:
            step()
        self.cluster.wait_ready([name for name in self.cluster.names if name not in self.slots.away])
        self.slots.make_whole()

    def release(self) -> None:
        """Let go of what this process holds; the cluster may stay broken."""
        self.tracers.release()

    def crashed(self) -> list[str]:
        """Nodes that have ended by themselves: never right, but for a member that was removed."""
        return [name for name in self._names_that_are("crashed") if name not in self.slots.away]

    # Processes.

    def kill_one(self) -> str:
        return self._kill(self._some(1))

    def kill_leader(self) -> str:
        return self._kill([self._leader()])

    def kill_majority(self) -> str:
        return self._kill(self._some(2))

    def kill_all(self) -> str:
        return self._kill(self.cluster.names)

    def kill_and_start(self) -> str:
        """Faster than anybody needs to notice."""
        name = self._leader() if self.rng.random() < 0.5 else self._some(1)[0]
        said = self._kill([name])
        self.cluster.start([name])
        return f"{said} and started it again"

    def pause_one(self) -> str:
        return self._pause(self._some(1))

    def pause_leader(self) -> str:
        return self._pause([self._leader()])

    def pause_majority(self) -> str:
        return self._pause(self._some(2))

    def stop_leader(self) -> str:
        leader = self._leader()
        if self.cluster.process_state(leader) != "running":
            return "no leader to stop"
        self.cluster.stop(leader)
        return f"stopped the leader {leader}"

    # Links.

    def cut_off_leader(self) -> str:
        return self._cut_off(self._leader(), Mode.CUT)

    def cut_off_one(self) -> str:
        return self._cut_off(self._some(1)[0], Mode.CUT)

    def reset_leader(self) -> str:
        return self._cut_off(self._leader(), Mode.RESET)

    def shatter(self) -> str:
        self.cluster.partition([[name] for name in self.cluster.names])
        return "cut every link"

    def leader_is_deaf(self) -> str:
        leader = self._leader()
        self.cluster.cut_one_way(self._others(leader), [leader])
        return f"the leader {leader} sends and does not hear"

    def leader_is_mute(self) -> str:
        leader = self._leader()
        self.cluster.cut_one_way([leader], self._others(leader))
        return f"the leader {leader} hears and cannot send"

    def one_way(self) -> str:
        source, target = self._some(2)
        self.cluster.cut_one_way([source], [target])
        return f"nothing gets from {source} to {target}"

    def bridge(self) -> str:
        left, right = self._some(2)
        self.cluster.set_rules({(left, right): Rule(mode=Mode.CUT), (right, left): Rule(mode=Mode.CUT)})
        return f"{left} and {right} see only the third"

    def delay(self) -> str:
        seconds = self.rng.choice([0.005, 0.03, 0.1])
        self.cluster.delay(seconds)
        return f"every byte comes {seconds * 1000:.0f} ms late"

    def flap(self) -> str:
        """Cut and heal a node so often that nobody is ever sure."""
        name = self._leader()
        for _ in range(6):
            self._cut_off(name, self.rng.choice([Mode.CUT, Mode.RESET]))
            self.cluster.heal()
        return f"cut off {name} six times for a moment"

    # Disks.

    def slow_disk(self) -> str:
        return self._slow_down(self.rng.choice([0.02, 0.1, 0.4]))

    def hung_disk(self) -> str:
        return self._slow_down(disks.HANG_S)

    # Members and leadership.

    def replace_one(self) -> str:
        return self.slots.replace(self._some(1)[0])

    def replace_leader(self) -> str:
        return self.slots.replace(self._leader())

    def learner(self) -> str:
        return self.slots.replace(self._some(1)[0], learner=True)

    def remove_one(self) -> str:
        return self.slots.remove(self._some(1)[0])

    def move_leader(self) -> str:
        """Ask the leader to hand over, to somebody who may be dead."""
        leader = self._leader()
        successor = self.rng.choice(self._others(leader))
        try:
            with raftkv.connect(",".join(self.cluster.endpoints.values())) as kv:
                target = self.slots.id_of(successor)
                kv.move_leader(target, endpoint=self.cluster.endpoint(leader), timeout=MOVE_TIMEOUT_S)
        except (RequestError, KeyError) as error:
            return f"asked {leader} in vain to hand over to {successor}: {error}"
        return f"had {leader} hand over to {successor}"

    # Data.

    def compact(self) -> str:
        """Drop some or all of the history, while it is read."""
        revisions = [getattr(status.answer, "revision", 0) for status in self.cluster.status(deadline_s=0.3)]
        revision = max(*revisions, 2) - self.rng.choice([0, 1, 50, 500])
        with raftkv.connect(",".join(self.cluster.endpoints.values())) as kv, suppress(RequestError):
            kv.compact(max(revision, 1), physical=self.rng.random() < 0.5, timeout=COMPACT_TIMEOUT_S)
        return f"compacted at {revision}"

    # Helpers.

    def _leader(self) -> str:
        return self.cluster.leader(deadline_s=0.2) or self._some(1)[0]

    def _some(self, count: int) -> list[str]:
        return self.rng.sample(self.cluster.names, count)

    def _others(self, name: str) -> list[str]:
        return [other for other in self.cluster.names if other != name]

    def _names_that_are(self, state: str) -> list[str]:
        return [name for name in self.cluster.names if self.cluster.process_state(name) == state]

    def _dead(self) -> list[str]:
        return [name for name in self.cluster.names if self.cluster.pid(name) is None]

    def _kill(self, names: list[str]) -> str:
        alive = {name: pid for name in names if (pid := self.cluster.pid(name)) is not None}
        if not alive:
            return "nobody left to kill"
        for pid in alive.values():
            self.tracers.abandon(pid)
        self.cluster.kill(*alive)
        return f"killed {', '.join(alive)}"

    def _pause(self, names: list[str]) -> str:
        running = [name for name in names if self.cluster.process_state(name) == "running"]
        if not running:
            return "nobody left to pause"
        self.cluster.pause(*running)
        return f"paused {', '.join(running)}"

    def _slow_down(self, delay_s: float) -> str:
        if not disks.is_possible():
            return "no strace: the disk stays as it is"
        name = self._leader() if self.rng.random() < 0.5 else self._some(1)[0]
        pid = self.cluster.pid(name)
        if pid is None:
            return f"{name} is dead, and so is its disk"
        self.tracers.slow_down(pid, delay_s)
        return f"hung the disk of {name}" if delay_s == disks.HANG_S else f"slowed the disk of {name} by {delay_s:g} s"

    def _cut_off(self, name: str, mode: Mode) -> str:
        self.cluster.partition([[name], self._others(name)], mode=mode)
        return f"{'cut off' if mode is Mode.CUT else 'reset all links of'} {name}"


FAULTS: dict[str, Callable[[Nemesis], str]] = {
    "kill-one": Nemesis.kill_one,
    "kill-leader": Nemesis.kill_leader,
    "kill-majority": Nemesis.kill_majority,
    "kill-all": Nemesis.kill_all,
    "kill-and-start": Nemesis.kill_and_start,
    "pause-one": Nemesis.pause_one,
    "pause-leader": Nemesis.pause_leader,
    "pause-majority": Nemesis.pause_majority,
    "stop-leader": Nemesis.stop_leader,
    "cut-off-leader": Nemesis.cut_off_leader,
    "cut-off-one": Nemesis.cut_off_one,
    "reset-leader": Nemesis.reset_leader,
    "shatter": Nemesis.shatter,
    "leader-is-deaf": Nemesis.leader_is_deaf,
    "leader-is-mute": Nemesis.leader_is_mute,
    "one-way": Nemesis.one_way,
    "bridge": Nemesis.bridge,
    "delay": Nemesis.delay,
    "flap": Nemesis.flap,
    "compact": Nemesis.compact,
    "slow-disk": Nemesis.slow_disk,
    "hung-disk": Nemesis.hung_disk,
    "replace-one": Nemesis.replace_one,
    "replace-leader": Nemesis.replace_leader,
    "learner": Nemesis.learner,
    "remove-one": Nemesis.remove_one,
    "move-leader": Nemesis.move_leader,
}

SCENARIOS: dict[str, list[str]] = {
    "kill": ["kill-one", "kill-leader", "kill-and-start"],
    "kill-majority": ["kill-majority", "kill-all"],
    "hang": ["pause-one", "pause-leader", "pause-majority"],
    "stop": ["stop-leader"],
    "partition": ["cut-off-leader", "cut-off-one", "shatter", "reset-leader"],
    "one-way": ["leader-is-deaf", "leader-is-mute", "one-way"],
    "bridge": ["bridge", "flap"],
    "delay": ["delay"],
    "disk": ["slow-disk", "hung-disk"],
    "members": ["replace-one", "replace-leader", "learner", "remove-one"],
    "leadership": ["move-leader"],
    "compaction": ["compact"],
}
"""Each fault by itself: a scenario's round breaks one thing once, while clients work."""

"""What tier two's nodes suffer besides what those of tier one do: sick disks, and compactions of the key space.

What may not live here: anything that a cluster is not meant to survive.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.sim.nemesis import Nemesis
from tests.sim.schedule import Schedule
from tests.sim.swarm import ELECTION_TIMEOUT, MS
from tests.sim.world import World


class NodeNemesis(Nemesis):
    def __init__(
        self,
        world: World,
        members: dict[int, Any],
        schedule: Schedule,
        extra: tuple[tuple[str, float], ...],
        compact_keys: Callable[[], None],
        change_members: Callable[[], None] | None,
    ) -> None:
        super().__init__(world, members, schedule, extra=extra)
        self._compact_keys = compact_keys
        self._change_members = change_members

    def member(self) -> None:
        """By the book, or any change at all."""
        if self._change_members is None:
            super().member()
        else:
            self._change_members()

    def disk_error(self) -> None:
        """Fails once and for all: the process stops by itself, and is started again."""
        up = self._up()
        if up:
            member = self._world.rng.choice(up)
            self._say(f"the disk of {member} fails")
            member.disk_fails()
            self._world.after(self._world.seldom(4 * ELECTION_TIMEOUT), self._restart, member)

    def sicken(self) -> None:
        """These nodes know best how they are."""
        self.disk_hangs()

    def disk_hangs(self) -> None:
        up = self._up()
        if up:
            member = self._world.rng.choice(up)
            duration = self._world.seldom(2 * ELECTION_TIMEOUT)
            self._say(f"the disk of {member} hangs for {duration // MS} ms")
            member.disk_hangs(duration)

    def crash_installing(self) -> None:
        """One that lags dies when its snapshot has come."""
        up = self._up()
        if up:
            member = min(up, key=lambda member: member.raft.last_index)
            self._say(f"{member} will die of its next snapshot")
            member.dies_installing = True
            self._world.after(self._world.seldom(4 * ELECTION_TIMEOUT), self._restart, member)

    def compact_keys(self) -> None:
        """A client compacts the key space."""
        self._compact_keys()

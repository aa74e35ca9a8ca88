"""Bugs that were once in the shipped code, and that the simulator found: number 0. See `known_bugs`."""

from __future__ import annotations

from typing import Any

from raftkv.node.recovery import recover_raft
from raftkv.raft import Raft, Save, SavedMark, SnapshotMeta
from tests.sim.planting import Planter, bug
from tests.sim.tier_one import member


@bug(0, seed=3)
def joining_node_empties_its_log_in_a_restart(plant: Planter) -> None:
    def recover(config: Any, disk: Any, recovered: Any, machine: Any, rng: Any) -> Raft:
        if not recovered.base.membership.voters:
            base = SnapshotMeta(0, 0, machine.membership)
            disk.write(Save(SavedMark(0, 0, 0, None), reset_to=base))
        return recover_raft(config, disk, recovered, machine, rng)

    plant(member, "recover_raft", recover)

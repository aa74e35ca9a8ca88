"""recovery of a node that joined a cluster which was there before: its first membership is in its log, not in its state."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from raftkv.node.recovery import recover_raft
from raftkv.raft import Entry, EntryKind, HardState, Membership, RaftConfig, Save, SavedMark
from tests.sim.disk import Disk


@dataclass
class State:
    """What recovery asks of a state machine."""

    applied_index: int = 0
    applied_term: int = 0
    membership: Membership = field(default_factory=Membership)


def test_a_joining_node_keeps_its_log_in_a_restart() -> None:
    """It starts without a membership, and its first one is in the log itself: that log is not a new one."""
    membership = Membership(voters=frozenset({1}), learners=frozenset({2}))
    entries = (Entry(1, 1), Entry(2, 1, EntryKind.MEMBERSHIP, b"", membership))
    disk = Disk()
    disk.write(Save(SavedMark(1, 2, 1, None), entries, HardState(1, 0, 0)))

    raft = recover_raft(RaftConfig(node_id=2), disk, disk.recovered(), State(), random.Random(1))

    assert raft.last_index == disk.last_index == 2
    assert raft.membership == membership

"""What a restart makes of the log and the state machine: cases beyond those that whole nodes go through."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from raftkv.node.recovery import recover_raft
from raftkv.raft import Entry, EntryKind, HardState, Membership, RaftConfig, Save, SavedMark, SnapshotMeta
from raftkv.storage import Recovered
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


def test_a_new_log_begins_with_the_first_membership() -> None:
    membership = Membership(voters=frozenset({1, 2, 3}))
    disk = Disk()

    raft = recover_raft(RaftConfig(node_id=2), disk, disk.recovered(), State(membership=membership), random.Random(1))

    assert raft.membership == membership
    assert disk.recovered() == Recovered(HardState(), SnapshotMeta(0, 0, membership), [])

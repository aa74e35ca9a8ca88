"""A frozen picture of one node, for operators, dashboards and tests. Nothing decides by it inside the core."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from raftkv.raft.progress import ProgressState
from raftkv.raft.ready import RoleName
from raftkv.raft.types import Membership, NodeId


@dataclass(frozen=True, slots=True)
class FollowerStatus:
    """What the leader knows about one follower."""

    match_index: int
    next_index: int
    state: ProgressState
    recent_active: bool
    """It answered within the last election timeout."""
    in_flight_count: int
    is_learner: bool
    severity: int | None = None
    """How unfit to lead it says it is; None: it has not said yet in this term."""


@dataclass(frozen=True, slots=True)
class RaftStatus:
    node_id: NodeId
    term: int
    vote: NodeId
    role: RoleName
    leader: NodeId
    first_index: int
    last_index: int
    commit_index: int
    applied_index: int
    saved_index: int
    log_bytes: int
    membership: Membership
    saves_in_flight: int
    severity: int = 0
    """How unfit to lead this node is; see `Raft.set_severity`."""
    is_cut_off: bool = False
    transfer_target: NodeId = 0
    """Leader only: to whom leadership is being handed over."""
    uncommitted_bytes: int = 0
    """Leader only."""
    followers: Mapping[NodeId, FollowerStatus] = field(default_factory=dict)
    """Leader only, ascending."""

"""What a state machine is created from, and its limits."""

from __future__ import annotations

from dataclasses import dataclass

from raftkv.pb import rpc_pb2
from raftkv.raft.types import Membership


@dataclass(frozen=True, kw_only=True, slots=True)
class Bootstrap:
    """What a new cluster starts from: state at index 0, the same on every node."""

    cluster_id: int
    members: list[rpc_pb2.Member]
    membership: Membership


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreLimits:
    """When to commit, and how much to do at a time."""

    map_bytes: int = 256 << 20
    """LMDB's map at the start; it doubles when half full. Address space and the length of a sparse file, not memory."""
    commit_interval_s: float = 1.0
    """A synced commit makes the disk slow for the log beside it: seldom is better. The log covers what is not committed."""
    commit_operations: int = 10_000
    commit_bytes: int = 32 << 20
    """Payload applied between two commits; it is kept in memory, in case the map fills and it must be applied again."""
    compact_records: int = 500
    """Records one `compact_some` looks at: about 5 ms."""

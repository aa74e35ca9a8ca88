"""What a state machine is created from, and its limits."""

from __future__ import annotations

from dataclasses import dataclass

from raftkv.pb import rpc_pb2
from raftkv.raft.types import Membership


@dataclass(frozen=True, kw_only=True, slots=True)
class Bootstrap:
    """What a node starts from: state at index 0.

    Of a new cluster it is the same on every node. A node that joins starts from the members it was told and from no membership;
    the log, or a snapshot, brings both to where they are.
    """

    cluster_id: int
    members: list[rpc_pb2.Member]
    membership: Membership
    removed: frozenset[int] = frozenset()


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreLimits:
    """When to commit, and how much to do at a time."""

    map_bytes: int = 256 << 20
    """LMDB's map at the start; it doubles when half full. Address space and the length of a sparse file, not memory."""
    commit_interval_s: float = 1.0
    """A synced commit makes the disk slow for the log beside it: seldom is better. The log covers what is not committed."""
    commit_operations: int = 8_000
    """Applied between two commits, or removed by compaction: the pages of so many are kept in memory."""
    commit_bytes: int = 32 << 20
    """Payload applied between two commits; it is kept in memory, in case the map fills and it must be applied again."""
    compact_records: int = 100
    """Records one `compact_some` looks at: about 1 ms, for which a job may have to wait."""

"""The knobs of the core. Time is counted in ticks; what a tick is worth in seconds is the shell's business."""

from __future__ import annotations

from dataclasses import dataclass

from raftkv.raft.types import NodeId


@dataclass(frozen=True, kw_only=True, slots=True)
class RaftConfig:
    """Frozen configuration of one `Raft`.

    Raises:
        ValueError: a value is out of range, or two values contradict each other; the message names both.
    """

    node_id: NodeId
    election_timeout_ticks: int = 30
    """Silence after which a follower campaigns: drawn anew from [this, 2 x this) each time, in ticks."""
    heartbeat_interval_ticks: int = 5
    append_bytes_max: int = 1024 * 1024
    """Payload of one AppendRequest; a single larger entry still goes, alone."""
    inflight_appends_max: int = 64
    """AppendRequests on their way to one follower before the leader waits for an answer."""
    inflight_bytes_max: int = 16 * 1024 * 1024
    uncommitted_bytes_max: int = 64 * 1024 * 1024
    """Payload the leader holds uncommitted before it refuses proposals: a slow quorum must not eat the memory."""
    committed_bytes_max: int = 4 * 1024 * 1024
    """Payload of `Ready.committed`: more comes with the next Ready."""
    unapplied_bytes_max: int = 64 * 1024 * 1024
    """Payload delivered to the state machine and not applied yet, after which no more is: it waits in the log, not twice."""

    def __post_init__(self) -> None:
        if not 0 < self.node_id < 2**64:
            raise ValueError(f"node_id {self.node_id} is not in 1 .. 2**64-1")
        if self.heartbeat_interval_ticks < 1:
            raise ValueError(f"heartbeat_interval_ticks {self.heartbeat_interval_ticks} is below 1")
        if self.election_timeout_ticks <= self.heartbeat_interval_ticks:
            raise ValueError(
                f"election_timeout_ticks {self.election_timeout_ticks} must exceed "
                f"heartbeat_interval_ticks {self.heartbeat_interval_ticks}"
            )
        for name in (
            "append_bytes_max",
            "inflight_appends_max",
            "inflight_bytes_max",
            "uncommitted_bytes_max",
            "unapplied_bytes_max",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} is below 1")

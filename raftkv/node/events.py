"""What the node's threads and streams report to the loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raftkv.lease.clock import ClockView
from raftkv.raft.messages import InstallSnapshot, Message
from raftkv.raft.types import NodeId, SavedMark, SnapshotMeta


@dataclass(frozen=True, slots=True)
class Received:
    """Messages from one peer, in the order it sent them."""

    messages: Sequence[Message]


@dataclass(frozen=True, slots=True)
class SnapshotReceived:
    """A whole, verified snapshot lies in `path`."""

    message: InstallSnapshot
    path: Path


@dataclass(frozen=True, slots=True)
class PeerConnected:
    """A stream to a peer is up."""

    node: NodeId


@dataclass(frozen=True, slots=True)
class PeerLost:
    """The stream to a peer broke: what was on its way may be gone."""

    node: NodeId
    reason: str = ""


@dataclass(frozen=True, slots=True)
class PeerDead:
    """There is evidence that a peer's process is gone, not merely silent."""

    node: NodeId
    evidence: str = ""


@dataclass(frozen=True, slots=True)
class Saved:
    """A save is durable."""

    mark: SavedMark


@dataclass(frozen=True, slots=True)
class Applied:
    """The state machine has applied everything up to `index`."""

    index: int
    batches: Sequence[Any]
    members_changed: bool
    clock: ClockView
    """The time by the log, there."""


@dataclass(frozen=True, slots=True)
class Committing:
    """The state machine's thread is in a commit, and jobs wait for it."""

    foresee: Callable[[], None]
    """Reports, as `Foreseen`, what some of them will be answered."""


@dataclass(frozen=True, slots=True)
class Foreseen:
    """These batches of ours are not applied yet, but nothing can change what they will be answered."""

    batches: Sequence[Any]


@dataclass(frozen=True, slots=True)
class Durable:
    """The state machine's state up to `index` is on disk: the log before it is needed for followers only."""

    index: int
    bytes_on_disk: int
    bytes_in_use: int


@dataclass(frozen=True, slots=True)
class Called:
    """A job given to the state machine's thread is done; `result` may be an exception."""

    done: Callable[[Any], None]
    result: Any


@dataclass(frozen=True, slots=True)
class Installed:
    """The state machine's state is now that of the snapshot."""

    snapshot: SnapshotMeta


@dataclass(frozen=True, slots=True)
class Failed:
    """A thread cannot go on: the node stops."""

    error: BaseException


Event = (
    Received
    | SnapshotReceived
    | PeerConnected
    | PeerLost
    | PeerDead
    | Saved
    | Applied
    | Committing
    | Foreseen
    | Durable
    | Called
    | Installed
    | Failed
)

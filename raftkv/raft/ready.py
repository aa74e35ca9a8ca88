"""What the core wants done: plain values, handed out by `Raft.ready()` and carried out by the shell.

The contract, in full:

1. `messages` may leave at once.
2. `save` goes to stable storage; saves are carried out in the order they were handed out, and several may be in flight.
   When one is durable the shell first sends the `messages_after_save` of the same Ready, then calls `Raft.saved(mark)`.
   `messages_after_save` are promises about our own disk. A Ready that has some always has a `save` (perhaps an empty one,
   which then only waits its turn behind the saves before it).
3. `committed` goes to the state machine, in order; the shell calls `Raft.applied(index)` afterwards. Entries may be
   committed by a quorum of others before our own disk has them.
4. `install`: the snapshot whose data the shell already holds becomes the state; nothing of `committed` precedes it in the
   same Ready. `save.reset_to` names the same snapshot: the log on disk starts anew behind it.
5. `read_states` are answered once the state machine has applied their index.
6. `snapshots_wanted`: these followers need a snapshot. The shell makes one, streams it with an `InstallSnapshot` message
   that names what it really holds, and calls `Raft.snapshot_sent(node, index)` or `Raft.snapshot_failed(node)`.
7. `notices` explain decisions to people. The shell may record or ignore them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from raftkv.raft.messages import Message
from raftkv.raft.notices import Notice
from raftkv.raft.types import Entry, HardState, NodeId, SavedMark, SnapshotMeta


class RoleName(Enum):
    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre-candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"


@dataclass(frozen=True, slots=True)
class ReadState:
    """The answer to `Raft.read_index(context)`. `index` None: it could not be confirmed, ask again."""

    context: int
    index: int | None


@dataclass(frozen=True, slots=True)
class Save:
    """One append to stable storage, in this order: `reset_to`, `entries`, `hard_state`.

    `entries` replace everything from the first one's index on. `must_sync` is False when losing this save costs nothing
    but time (only the commit index moved).
    """

    mark: SavedMark
    entries: tuple[Entry, ...] = ()
    hard_state: HardState | None = None
    reset_to: SnapshotMeta | None = None
    must_sync: bool = True


@dataclass(frozen=True, slots=True)
class SoftState:
    """Who leads and what we are; lost in a restart. Present in a Ready when it changed."""

    leader: NodeId
    role: RoleName
    term: int
    is_cut_off: bool = False
    """It cannot take part in what the cluster does: whoever waits here for an answer should ask another node."""


@dataclass(frozen=True, slots=True)
class Ready:
    messages: tuple[Message, ...] = ()
    messages_after_save: tuple[Message, ...] = ()
    save: Save | None = None
    committed: tuple[Entry, ...] = ()
    install: SnapshotMeta | None = None
    read_states: tuple[ReadState, ...] = ()
    snapshots_wanted: tuple[NodeId, ...] = ()
    soft_state: SoftState | None = None
    proposals_rejected: bool = False
    """A leader refused proposals that this node passed on: propose again what is unresolved, after a pause."""
    notices: tuple[Notice, ...] = ()

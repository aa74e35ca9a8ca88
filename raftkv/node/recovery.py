"""From what a crash left on disk to a Raft core that may go on from it.

The log and the state machine are two files of one truth, synced at different times. What may be found:

    log      base ├──────────────┤ last
    state             ▲ applied            usual: apply the rest again
    state                              ▲   the state is ahead: entries may be applied once a quorum *elsewhere* has them
    state   ▲                              the state is behind the log's beginning: somebody put an older copy back

In the second case what the log lacks is committed and contained in the state, so the log starts anew behind it, as after a
snapshot. In the third, entries are missing for good: the node refuses to start.

What may not live here: opening files (the caller does), and the rules of Raft.
"""

from __future__ import annotations

import random

from raftkv.errors import CorruptionError
from raftkv.raft import Raft, RaftConfig
from raftkv.raft.ready import Save
from raftkv.raft.types import NO_NODE, HardState, SavedMark, SnapshotMeta
from raftkv.statemachine import StateMachine
from raftkv.storage import Recovered, Wal


def recover_raft(config: RaftConfig, wal: Wal, recovered: Recovered, machine: StateMachine, rng: random.Random) -> Raft:
    """Build the core. If the log must start anew behind the state machine, that is on disk when this returns.

    Raises:
        CorruptionError: the state machine is older than the beginning of the log.
    """
    base, entries, hard_state = recovered.base, recovered.entries, recovered.hard_state
    if base.index == 0 and not entries and not base.membership.voters:  # A log that was just created.
        # (Not so if it has entries: a node that joins gets its first membership from the log itself.)
        base = SnapshotMeta(0, 0, machine.membership)
        _start_log_anew(wal, base, hard_state)
    if machine.applied_index < base.index:
        raise CorruptionError(
            f"the log begins after index {base.index}, but the state machine has applied only {machine.applied_index}: "
            "the state is older than the log. Put the matching one back, or start with an empty data directory as a new member"
        )
    if not _log_holds(base, recovered, machine):
        base = SnapshotMeta(machine.applied_index, machine.applied_term, machine.membership)
        hard_state = _raised(hard_state, base)
        entries = []
        _start_log_anew(wal, base, hard_state)
    return Raft(
        config,
        hard_state=hard_state,
        snapshot=base,
        entries=entries,
        applied_index=machine.applied_index,
        rng=rng,
    )


def _start_log_anew(wal: Wal, base: SnapshotMeta, hard_state: HardState) -> None:
    mark = SavedMark(0, base.index, base.term, hard_state)
    wal.append([Save(mark, hard_state=hard_state, reset_to=base)])
    wal.sync()


def _log_holds(base: SnapshotMeta, recovered: Recovered, machine: StateMachine) -> bool:
    """Whether the log contains what the state machine applied last: the same entry, not one that was to be replaced."""
    applied = machine.applied_index
    if applied == base.index:
        return True
    position = applied - base.index - 1
    return position < len(recovered.entries) and recovered.entries[position].term == machine.applied_term


def _raised(hard_state: HardState, base: SnapshotMeta) -> HardState:
    """A term that was seen must not be forgotten; a vote in a later term was synced before it was given."""
    if base.term > hard_state.term:
        return HardState(base.term, NO_NODE, base.index)
    return HardState(hard_state.term, hard_state.vote, max(hard_state.commit_index, base.index))

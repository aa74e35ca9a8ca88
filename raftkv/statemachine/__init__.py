"""The replicated state machine: the log's entries go in, in order; what they make of the store can be read.

       committed entries                 reads (ReadIndex has already waited for their index)
              │                                        │
              ▼                                        ▼
    apply ─► parse batch ─► seen before? ─► mvcc ──► one open LMDB write transaction ──► answers
                       (origins, sessions)             │
                                                       │  commit, about once a second: counters, applied index, member
                                                       ▼  table, origins and sessions go with the data they belong to
                                              state/data.mdb ──► snapshot file (sealed) ──► another node: install

What is applied but not committed is lost in a crash, and is in the log: a restarted node replays it from the applied index
it finds. What is committed need not be in this node's log: entries are applied when a quorum has them, and our own disk
may not be among it.

The entries since the last commit are kept, so that a transaction that LMDB could not finish (the map is full, the disk is
full) is made again from the last commit: nobody above notices more than a delay.

Apply is deterministic: no clock, no randomness, no iteration over a set decides what is stored. Equal applied index, equal
state: `StateMachine.hash_kv` is how the nodes check that.

    machine      StateMachine                        origins      batches applied before: exactly once
    application  what one entry does                 records      the machine's own records in LMDB
    answers      one command to its answer           uncommitted  what came since the last commit
    sessions     clients' writes, each once          config       Bootstrap, StoreLimits
    snapshot     sealed files, swapping one in       members      the member table
    export       a sealed file for a client          alarms       what is wrong with a member
    restoring    and back: the state of a new cluster
    pacing       when what was compacted is removed, between the jobs of clients
    outlook      what plain puts will be answered, told while a commit holds them up

Not done: auth (it will be records here); a bound on the number of origins remembered (some
bytes for every member there ever was); a snapshot of a large state copies all of it, never a difference.
"""

from raftkv.statemachine.alarms import Alarm, Alarms
from raftkv.statemachine.answers import Answer, AppliedBatch
from raftkv.statemachine.config import Bootstrap, StoreLimits
from raftkv.statemachine.machine import StateMachine
from raftkv.statemachine.members import MemberTable
from raftkv.statemachine.snapshot import PreparedSnapshot, Seal, read_seal, verify_snapshot

__all__ = [
    "Alarm",
    "Alarms",
    "Answer",
    "AppliedBatch",
    "Bootstrap",
    "MemberTable",
    "PreparedSnapshot",
    "Seal",
    "StateMachine",
    "StoreLimits",
    "read_seal",
    "verify_snapshot",
]

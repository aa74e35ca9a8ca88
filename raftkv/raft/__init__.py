"""Raft, the pure part: one node of a cluster as a value that is stepped.

A cluster keeps equal copies of a state machine by feeding each copy the same log. Raft makes one node the *leader* of a
*term*; it alone appends to the log, and an entry on a majority of disks is *committed*: it will be in the log of every
leader to come. When the leader falls silent, the others elect a new one in a higher term, and only a node whose log has
every committed entry can win.

Nothing in this package knows a clock, a socket, a disk or a random number of its own. Whoever owns a `Raft` pushes inputs
in and pulls one `Ready` out; same inputs and same seed, same outputs, byte for byte:

      tick()   step(message)   propose()   read_index()   saved(mark)   applied(index)
        |           |              |            |              |              |
        v           v              v            v              v              v
    +-----------------------------------------------------------------------------+
    |  Raft: terms, votes, transitions                                            |
    |    role:   Follower | PreCandidate | Candidate | Leader (+ Replication)     |
    |    shared: State = Log + MembershipHistory + Saves + Outbox                 |
    +-----------------------------------------------------------------------------+
                                        | ready()
        +-------------------+-----------+------------+---------------------+
        v                   v                        v                     v
    messages             save                    committed            read_states
    may leave now        to stable storage,      to the state         answer them once
                         then                    machine, then        their index is
                         messages_after_save,    applied(index)       applied
                         then saved(mark)

What happens to a write, in this package's words: `propose` appends it to the leader's log. The next `Ready` carries it
twice: as a `save` for our own disk and in an AppendRequest for every follower, at the same time. Each follower appends it,
saves it, and *then* acknowledges. The leader counts an acknowledgement for itself when its own `saved(mark)` arrives, no
earlier; with two quick followers it need not wait for it. Once a quorum is counted and the entry is of the leader's own
term, it is committed and comes out in `Ready.committed`, on every node in the same order.

How it is laid out: `types`, `messages`, `config`, `ready` are the vocabulary, `notices` what it says of its reasons.
`quorum`, `log`, `membership`, `progress`, `read_index`, `saves`, `patience`, `reach` are small machines that know nothing of each other. `state`
is what all roles share. `follower`, `candidate`, `leader` (with `replication`) hold what only a role needs; their handlers
*return* a transition, and `roles` is the only file that carries one out. `raft` is the face of it all. `answers` holds what
every role answers alike.

Decisions worth knowing:

- PreVote and CheckQuorum are always on (dissertation §9.6, §6.2). A voter that heard a leader within an election timeout does
  not vote (§4.2.3), unless the leader itself asked for it (leadership transfer), has said that it leads no more (`Resigned`),
  or the shell has seen its process die (`leader_gone`). None of this touches safety: votes and logs decide, and evidence that
  lies, is stale, or is had by a minority costs an election at most.
- Silence is waited out for one election timeout, and then in turns by rank, so that the first candidate has won before the
  second asks (`State.draw_election_timeout`); chance alone, as in the Raft paper §9.3, decides only where there is no leader
  to be ranked after. The timeout is the configured one, stretched at most twofold by silences that turned out to be nothing
  (`patience`): so it can be short where the machine is quiet.
- A leader that steps down says so: perhaps it is heard where it does not hear. Whoever hears it does not wait.
- A node knows when it is on the wrong side of a cut (`reach`): no quorum answers it, or those who do hear a leader that it does
  not hear, or its leader says that it does not hear *it*. The shell then turns its clients away.
- The right to lead is earned. The shell says how unfit to lead a node is (`Raft.set_severity`), followers tell their leader with
  each heartbeat's answer, and a leader that is worse off than a follower which could take over hands over; it resigns if that
  does not come about, and stays where all are equally unfit. Who is unfit campaigns late, not never.
- A membership is in force from the moment its entry is appended, and rolled back if that is truncated. A change of more
  than one voter goes through a joint configuration, which ends by itself.
- Besides acknowledgements and votes, requests for votes wait for our disk too: see `State.send_after_save`.
- Committed entries may be applied before our own disk has them.
- Where nothing else is to be sent, a commit is told in an append without entries, which nobody answers (`AppendRequest.is_notice`): a
  heartbeat tells it again to whom it did not reach.

Not done: leases for reads (clocks would have to be trusted); acknowledgements never skip a member, so there are no witness
nodes or quorums of other shapes; a removed node is not told by Raft that it was removed (it cannot disturb anyone: PreVote);
learners do not serve as a source of snapshots for others.
"""

from __future__ import annotations

from raftkv.raft.config import RaftConfig
from raftkv.raft.errors import (
    LearnerNotReady,
    LogLostError,
    MembershipChangeRefused,
    NotLeader,
    ProposalDropped,
    RaftError,
)
from raftkv.raft.membership import MembershipChange
from raftkv.raft.messages import (
    AppendRequest,
    AppendResponse,
    HeartbeatRequest,
    HeartbeatResponse,
    InstallSnapshot,
    Message,
    PreVoteRequest,
    PreVoteResponse,
    ProposeRejected,
    ProposeRequest,
    ReadIndexRequest,
    ReadIndexResponse,
    Resigned,
    TimeoutNow,
    TransferLeadership,
    VoteRequest,
    VoteResponse,
)
from raftkv.raft.progress import ProgressState
from raftkv.raft.raft import Raft
from raftkv.raft.ready import ReadState, Ready, RoleName, Save, SoftState
from raftkv.raft.status import FollowerStatus, RaftStatus
from raftkv.raft.types import (
    ENTRY_OVERHEAD_BYTES,
    NO_NODE,
    Entry,
    EntryKind,
    HardState,
    Membership,
    NodeId,
    Proposal,
    SavedMark,
    SnapshotMeta,
)

__all__ = [
    "ENTRY_OVERHEAD_BYTES",
    "NO_NODE",
    "AppendRequest",
    "AppendResponse",
    "Entry",
    "EntryKind",
    "FollowerStatus",
    "HardState",
    "HeartbeatRequest",
    "HeartbeatResponse",
    "InstallSnapshot",
    "LearnerNotReady",
    "LogLostError",
    "Membership",
    "MembershipChange",
    "MembershipChangeRefused",
    "Message",
    "NodeId",
    "NotLeader",
    "PreVoteRequest",
    "PreVoteResponse",
    "ProgressState",
    "Proposal",
    "ProposalDropped",
    "ProposeRejected",
    "ProposeRequest",
    "Raft",
    "RaftConfig",
    "RaftError",
    "RaftStatus",
    "ReadIndexRequest",
    "ReadIndexResponse",
    "ReadState",
    "Ready",
    "Resigned",
    "RoleName",
    "Save",
    "SavedMark",
    "SnapshotMeta",
    "SoftState",
    "TimeoutNow",
    "TransferLeadership",
    "VoteRequest",
    "VoteResponse",
]

"""What nodes say to each other: one small frozen dataclass per message.

Every message has a `sender`, a `receiver` and the sender's `term` (of a PreVoteRequest: the term it would campaign in).
`raftkv.wire` turns them into bytes and back. A message may be lost, doubled, delayed and reordered; each handler in this
package must be right under all four.
"""

from __future__ import annotations

from dataclasses import dataclass

from raftkv.raft.types import Entry, NodeId, Proposal, SnapshotMeta


@dataclass(frozen=True, slots=True, kw_only=True)
class PreVoteRequest:
    """Would the receiver vote for the sender in `term`? Changes nobody's state (dissertation §9.6)."""

    sender: NodeId
    receiver: NodeId
    term: int
    last_index: int
    last_term: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PreVoteResponse:
    """Granted: `term` is the term asked for. Refused: the voter's own term; `hears_leader` if it keeps to a leader."""

    sender: NodeId
    receiver: NodeId
    term: int
    granted: bool
    hears_leader: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class VoteRequest:
    """RequestVote (Raft paper, figure 2). `leadership_transfer` bypasses the voters' lease check (dissertation §4.2.3)."""

    sender: NodeId
    receiver: NodeId
    term: int
    last_index: int
    last_term: int
    leadership_transfer: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class VoteResponse:
    sender: NodeId
    receiver: NodeId
    term: int
    granted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendRequest:
    """AppendEntries with entries, or an empty probe (Raft paper, figure 2).

    Attributes:
        is_notice: nothing but a new commit index, to a follower from which every answer is here or on its way: it answers only
            if it must refuse. Where nothing else is written, answers to notices were a quarter of all messages.
    """

    sender: NodeId
    receiver: NodeId
    term: int
    prev_index: int
    prev_term: int
    commit_index: int
    entries: tuple[Entry, ...] = ()
    is_notice: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendResponse:
    """Accepted: the log matches the leader's up to `match_index`, durably.

    Refused: `conflict_index` and `conflict_term` say where the logs may still agree (Raft paper §5.3, fast back-off);
    `prev_index` names the request that is refused, so that a stale refusal is recognized.
    """

    sender: NodeId
    receiver: NodeId
    term: int
    prev_index: int
    accepted: bool
    match_index: int = 0
    conflict_index: int = 0
    conflict_term: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatRequest:
    """`commit_index` is clamped to what the receiver is known to match; `read_round` confirms ReadIndex requests.

    `unheard`: the leader hears nothing from the receiver, whose requests therefore go nowhere.
    """

    sender: NodeId
    receiver: NodeId
    term: int
    commit_index: int
    read_round: int = 0
    unheard: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatResponse:
    """`severity`: how unfit to lead the sender finds itself; 0: not at all."""

    sender: NodeId
    receiver: NodeId
    term: int
    read_round: int = 0
    severity: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallSnapshot:
    """Stepped into the receiver once the whole snapshot has arrived and its digest was verified."""

    sender: NodeId
    receiver: NodeId
    term: int
    snapshot: SnapshotMeta


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeoutNow:
    """The leader asks the receiver to campaign at once (dissertation §3.10)."""

    sender: NodeId
    receiver: NodeId
    term: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Resigned:
    """The sender led this term and does no more: nobody owes it anything. Its word is better evidence than its silence."""

    sender: NodeId
    receiver: NodeId
    term: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferLeadership:
    """A follower passes on the wish that `target` should lead."""

    sender: NodeId
    receiver: NodeId
    term: int
    target: NodeId


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposeRequest:
    """A follower forwards proposals. They may be lost: the state machine makes proposing them again harmless."""

    sender: NodeId
    receiver: NodeId
    term: int
    proposals: tuple[Proposal, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposeRejected:
    """The receiver of a ProposeRequest appended nothing of it: it does not lead, or its uncommitted log is full."""

    sender: NodeId
    receiver: NodeId
    term: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadIndexRequest:
    """A follower asks the leader for an index at which a local read is linearizable (dissertation §6.4)."""

    sender: NodeId
    receiver: NodeId
    term: int
    context: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadIndexResponse:
    sender: NodeId
    receiver: NodeId
    term: int
    context: int
    index: int = 0
    rejected: bool = False


Message = (
    PreVoteRequest
    | PreVoteResponse
    | VoteRequest
    | VoteResponse
    | AppendRequest
    | AppendResponse
    | HeartbeatRequest
    | HeartbeatResponse
    | InstallSnapshot
    | TimeoutNow
    | Resigned
    | TransferLeadership
    | ProposeRequest
    | ProposeRejected
    | ReadIndexRequest
    | ReadIndexResponse
)

"""What the core tells of its own decisions, and why it took them: for a record that explains them afterwards.

Plain values in `Ready.notices`, in the order in which things happened. Nothing decides by them, and losing one costs nothing
but the explanation.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from raftkv.raft.types import NodeId


class Cause(Enum):
    """Why a campaign began."""

    SILENCE = "silence"
    """No word from a leader for an election timeout."""
    LEADER_GONE = "leader gone"
    """The shell has evidence of the leader's death, or the leader resigned."""
    ASKED = "asked"
    """The shell wanted it."""
    PRE_VOTES = "pre-votes"
    """The pre-votes were won."""
    TRANSFER = "transfer"
    """The leader handed over."""


class Refusal(Enum):
    """Why a (pre-)vote was not granted."""

    EARLIER_TERM = "earlier term"
    LEADER_HEARD = "leader heard"
    """The voter hears a leader, and keeps to it."""
    VOTED = "voted"
    """The vote of this term is given away."""
    LOG_BEHIND = "log behind"
    """The candidate's log lacks what the voter's has."""


class Loss(Enum):
    """Why a leader, or somebody who wanted to become one, went back to following."""

    LATER_TERM = "later term"
    LEADER_FOUND = "leader found"
    NO_QUORUM = "no quorum"
    """CheckQuorum: too few answered within an election timeout."""
    REMOVED = "removed"
    """It is no voter any more."""
    REFUSED = "refused"
    """Too many refused their votes."""
    UNFIT = "unfit"
    """The shell wanted it."""


@dataclass(frozen=True, slots=True)
class Campaigned:
    """This node asks for votes in `term`, or for pre-votes."""

    term: int
    is_pre_vote: bool
    cause: Cause
    leader: NodeId
    """Who led until now in this node's eyes; 0 if nobody did."""
    silent_ticks: int
    """Since the last word from a leader, or the last vote."""


@dataclass(frozen=True, slots=True)
class VoteAnswered:
    """This node was asked for its (pre-)vote, and said yes (`refusal` None) or no."""

    candidate: NodeId
    term: int
    is_pre_vote: bool
    refusal: Refusal | None = None
    leader: NodeId = 0
    """LEADER_HEARD: whom it hears, and for how many ticks it has not (`silent_ticks`)."""
    silent_ticks: int = 0
    vote: NodeId = 0
    """VOTED: for whom; 0: nobody, but this node knows a leader of that term."""
    candidate_last: tuple[int, int] = (0, 0)
    """LOG_BEHIND: index and term of the last entry of the candidate, and in `own_last` of this node."""
    own_last: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class VoteCounted:
    """An answer to this node's campaign arrived, and counts."""

    voter: NodeId
    term: int
    is_pre_vote: bool
    is_granted: bool


@dataclass(frozen=True, slots=True)
class SteppedDown:
    """This node led, or wanted to, and does not any more."""

    role: str
    """What it was: a `RoleName`'s value."""
    term: int
    """In which it was that."""
    cause: Loss
    by: NodeId = 0
    """LATER_TERM, LEADER_FOUND: whose message told it."""
    later_term: int = 0


@dataclass(frozen=True, slots=True)
class LeaderResigned:
    """The leader of this term said that it leads no more."""

    leader: NodeId


@dataclass(frozen=True, slots=True)
class TransferBegun:
    """This node leads and hands over to `target`, once that has all of its log."""

    target: NodeId


@dataclass(frozen=True, slots=True)
class TransferGivenUp:
    """`target` did not take over within an election timeout."""

    target: NodeId


Notice = Campaigned | VoteAnswered | VoteCounted | SteppedDown | LeaderResigned | TransferBegun | TransferGivenUp

"""Answers that do not depend on the role: votes, pre-votes, and refusals.

Functions of the shared `State`. They fill the outbox and change nothing else: when one says that a vote is granted, it is
`roles.Roles` that casts it.
"""

from __future__ import annotations

from raftkv.raft.messages import (
    AppendRequest,
    AppendResponse,
    HeartbeatRequest,
    InstallSnapshot,
    PreVoteRequest,
    PreVoteResponse,
    ProposeRejected,
    ProposeRequest,
    ReadIndexRequest,
    ReadIndexResponse,
    VoteRequest,
    VoteResponse,
)
from raftkv.raft.notices import Refusal, VoteAnswered
from raftkv.raft.state import State
from raftkv.raft.types import NO_NODE, NodeId


def _may_vote_for(state: State, candidate: NodeId) -> bool:
    return state.vote == candidate or (state.vote == NO_NODE and state.leader == NO_NODE)


def _objection(state: State, message: VoteRequest | PreVoteRequest) -> Refusal | None:
    """What speaks against voting for the sender in its term."""
    if message.term < state.term:
        return Refusal.EARLIER_TERM
    if message.term == state.term and not _may_vote_for(state, message.sender):
        return Refusal.VOTED
    if not state.log.is_up_to_date(message.last_index, message.last_term):
        return Refusal.LOG_BEHIND
    return None


def note_answer(state: State, message: VoteRequest | PreVoteRequest, refusal: Refusal | None) -> None:
    """For the record."""
    state.note(
        VoteAnswered(
            message.sender,
            message.term,
            is_pre_vote=isinstance(message, PreVoteRequest),
            refusal=refusal,
            leader=state.leader,
            silent_ticks=state.election_elapsed_ticks,
            vote=state.vote,
            candidate_last=(message.last_index, message.last_term),
            own_last=(state.log.last_index, state.log.last_term),
        )
    )


def answer_vote(state: State, message: VoteRequest) -> bool:
    """One vote per term, and only for a log that has everything ours has (Raft paper §5.2, §5.4.1).

    A learner votes too: the candidate may know a configuration in which it already is a voter.
    """
    refusal = _objection(state, message)
    note_answer(state, message, refusal)
    if refusal is not None:
        state.send(VoteResponse(sender=state.node_id, receiver=message.sender, term=state.term, granted=False))
        return False
    state.send_after_save(VoteResponse(sender=state.node_id, receiver=message.sender, term=state.term, granted=True))
    return True


def answer_pre_vote(state: State, message: PreVoteRequest) -> None:
    """Would we vote for it? An answer binds nobody and changes nothing (dissertation §9.6)."""
    refusal = Refusal.LEADER_HEARD if state.in_lease else _objection(state, message)
    note_answer(state, message, refusal)
    granted = refusal is None
    state.send(
        PreVoteResponse(
            sender=state.node_id,
            receiver=message.sender,
            term=message.term if granted else state.term,
            granted=granted,
            hears_leader=refusal is Refusal.LEADER_HEARD,
        )
    )


def refuse_stale_leader(state: State, message: AppendRequest | HeartbeatRequest | InstallSnapshot) -> None:
    """Tell the leader of an earlier term that time has moved on.

    Without it a node that came back with a higher term would be stuck: it ignores the leader, and nobody votes for it.
    """
    state.send(
        AppendResponse(
            sender=state.node_id,
            receiver=message.sender,
            term=state.term,
            prev_index=message.prev_index if isinstance(message, AppendRequest) else 0,
            accepted=False,
        )
    )


def refuse_request(state: State, message: ProposeRequest | ReadIndexRequest) -> None:
    """We do not lead."""
    if isinstance(message, ProposeRequest):
        state.send(ProposeRejected(sender=state.node_id, receiver=message.sender, term=state.term))
        return
    state.send(
        ReadIndexResponse(
            sender=state.node_id, receiver=message.sender, term=state.term, context=message.context, rejected=True
        )
    )

"""Campaigns: the pre-candidate, who asks whether it would win, and the candidate, who asks for votes.

PreVote (dissertation §9.6) keeps a node that cannot win - cut off, removed, behind - from driving the term up. A
candidate's own vote counts like anyone's: once it is on disk.

What may not live here: granting votes (`roles`), anything that changes term or role.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from raftkv.raft.errors import ProposalDropped
from raftkv.raft.messages import Message, PreVoteRequest, PreVoteResponse, ProposeRejected, VoteRequest, VoteResponse
from raftkv.raft.notices import VoteCounted
from raftkv.raft.quorum import VoteResult, vote_result
from raftkv.raft.ready import ReadState, RoleName
from raftkv.raft.state import State, ToCandidate, ToFollower, ToLeader, ToPreCandidate, Transition
from raftkv.raft.types import NodeId, Proposal


class _Campaign:
    """What both campaigns share: a poll, and nobody to pass requests on to."""

    __slots__ = ("_votes",)
    prize: ClassVar[Transition]
    """What a won poll leads to."""
    is_pre_vote: ClassVar[bool]

    def __init__(self) -> None:
        self._votes: dict[NodeId, bool] = {}

    def tick(self, state: State) -> Transition | None:
        state.election_elapsed_ticks += 1
        if not state.election_timed_out:
            return None
        return ToPreCandidate() if state.may_campaign else ToFollower(state.term)

    def leave(self, state: State) -> None:
        pass

    def propose(self, state: State, proposals: Sequence[Proposal]) -> None:
        raise ProposalDropped("an election is under way")

    def read_index(self, state: State, context: int) -> None:
        state.outbox.read_states.append(ReadState(context, None))

    def transfer_leadership(self, state: State, target: NodeId) -> None:
        pass

    def _decide(self, state: State, voter: NodeId, *, granted: bool) -> Transition | None:
        """Count a voter's first answer; what follows from all answers so far, None if nothing yet."""
        if voter != state.node_id and voter not in self._votes:
            term = state.term + 1 if self.is_pre_vote else state.term
            state.note(VoteCounted(voter, term, self.is_pre_vote, granted))
        self._votes.setdefault(voter, granted)
        match vote_result(state.membership, self._votes):
            case VoteResult.WON:
                return self.prize
            case VoteResult.LOST:
                return ToFollower(state.term)
            case VoteResult.PENDING:
                return None


class PreCandidate(_Campaign):
    """Asks for pre-votes in the term it would campaign in; its own term and vote stay as they are."""

    name = RoleName.PRE_CANDIDATE
    prize = ToCandidate()
    is_pre_vote = True
    __slots__ = ()

    def start(self, state: State) -> Transition | None:
        for peer in state.peers:
            state.send(
                PreVoteRequest(
                    sender=state.node_id,
                    receiver=peer,
                    term=state.term + 1,
                    last_index=state.log.last_index,
                    last_term=state.log.last_term,
                )
            )
        return self._decide(state, state.node_id, granted=True)

    def step(self, state: State, message: Message) -> Transition | None:
        match message:
            case PreVoteResponse() if not message.granted or message.term == state.term + 1:
                return self._decide(state, message.sender, granted=message.granted)
            case ProposeRejected():
                state.outbox.proposals_rejected = True
            case _:
                pass
        return None


class Candidate(_Campaign):
    """Asks for votes in its own, new term, for which it has voted for itself."""

    name = RoleName.CANDIDATE
    prize = ToLeader()
    is_pre_vote = False
    __slots__ = ()

    def start(self, state: State, *, leadership_transfer: bool) -> None:
        for peer in state.peers:
            state.send_after_save(
                VoteRequest(
                    sender=state.node_id,
                    receiver=peer,
                    term=state.term,
                    last_index=state.log.last_index,
                    last_term=state.log.last_term,
                    leadership_transfer=leadership_transfer,
                )
            )

    def saved(self, state: State) -> Transition | None:
        """A save came back: if it held our vote for ourselves, that vote counts now."""
        if state.saves.durable_term == state.term and state.saves.durable_vote == state.node_id:
            return self._decide(state, state.node_id, granted=True)
        return None

    def step(self, state: State, message: Message) -> Transition | None:
        match message:
            case VoteResponse():
                return self._decide(state, message.sender, granted=message.granted)
            case ProposeRejected():
                state.outbox.proposals_rejected = True
            case _:
                pass
        return None

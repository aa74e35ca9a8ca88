"""Terms, votes and roles: the only file that changes any of the three.

A role's handlers decide what should follow and return it as a `Transition`; it is carried out here. The rules that hold for
every role are here too: what a message from a later or an earlier term means (Raft paper §5.1), and who may vote.

What may not live here: what a role does with a message (the roles), and the face that the shell sees (`raft`).
"""

from __future__ import annotations

from typing import TypeVar

from raftkv.raft.answers import answer_pre_vote, answer_vote, note_answer, refuse_request, refuse_stale_leader
from raftkv.raft.candidate import Candidate, PreCandidate
from raftkv.raft.follower import Follower
from raftkv.raft.leader import Leader
from raftkv.raft.messages import (
    AppendRequest,
    HeartbeatRequest,
    InstallSnapshot,
    Message,
    PreVoteRequest,
    PreVoteResponse,
    ProposeRejected,
    ProposeRequest,
    ReadIndexRequest,
    VoteRequest,
)
from raftkv.raft.notices import Campaigned, Cause, Loss, Refusal, SteppedDown
from raftkv.raft.state import State, ToCandidate, ToFollower, ToLeader, ToPreCandidate, Transition
from raftkv.raft.types import NO_NODE, NodeId

_T = TypeVar("_T")

Role = Follower | PreCandidate | Candidate | Leader


class Roles:
    """The role that a node has now, and how it comes to another one."""

    def __init__(self, state: State) -> None:
        state.draw_election_timeout()
        self.state = state
        self.role: Role = Follower()

    def step(self, message: Message) -> None:
        """Take a message of any term.

        Raises:
            LogLostError: our disk has lost acknowledged entries; the node must stop.
        """
        elsewhere = isinstance(message, PreVoteResponse) and message.hears_leader
        self.state.reach.heard(message.sender, elsewhere=elsewhere)
        if message.term > self.state.term:
            if not self._on_higher_term(message):
                return
        elif message.term < self.state.term:
            self._on_lower_term(message)
            return
        self._dispatch(message)

    # Terms and votes

    def _on_higher_term(self, message: Message) -> bool:
        """A message from a later term (Raft paper §5.1). False: do not look at it any further."""
        state = self.state
        match message:
            case PreVoteRequest() | PreVoteResponse(granted=True):
                return True  # A question about a term that may never come, and its answer.
            case VoteRequest() if state.in_lease and not message.leadership_transfer:
                note_answer(state, message, Refusal.LEADER_HEARD)
                return False  # We hear a leader: whoever asks does not (§4.2.3). Not even our term changes.
            case AppendRequest() | HeartbeatRequest() | InstallSnapshot():
                self.follow(ToFollower(message.term, message.sender, cause=Loss.LATER_TERM, by=message.sender))
            case _:
                self.follow(ToFollower(message.term, cause=Loss.LATER_TERM, by=message.sender))
        return True

    def _on_lower_term(self, message: Message) -> None:
        """A message from an earlier term: most are void, and some senders must learn that time has moved on."""
        state = self.state
        match message:
            case AppendRequest() | HeartbeatRequest() | InstallSnapshot():
                refuse_stale_leader(state, message)
            case PreVoteRequest() | VoteRequest():
                self._dispatch(message)  # Refused, with our term.
            case ProposeRequest() | ReadIndexRequest():
                self._dispatch(message)  # Requests, not claims: a term does not make them wrong.
            case PreVoteResponse(granted=False) if isinstance(self.role, PreCandidate):
                self._dispatch(message)  # "I hear a leader", says a voter whose term is below ours.
            case ProposeRejected():
                state.outbox.proposals_rejected = True
            case _:
                pass

    def _dispatch(self, message: Message) -> None:
        state = self.state
        match message:
            case PreVoteRequest():
                answer_pre_vote(state, message)
            case VoteRequest():
                if answer_vote(state, message):
                    state.vote = message.sender
                    state.election_elapsed_ticks = 0
            case ProposeRequest() | ReadIndexRequest() if not isinstance(self.role, Leader):
                refuse_request(state, message)
            case AppendRequest() | HeartbeatRequest() | InstallSnapshot() if state.leader != message.sender:
                assert state.leader == NO_NODE, f"{state.leader} and {message.sender} lead term {state.term}"
                self.follow(ToFollower(message.term, message.sender, cause=Loss.LEADER_FOUND, by=message.sender))
                self.follow(self.role.step(state, message))
            case _:
                self.follow(self.role.step(state, message))

    # Roles

    def follow(self, transition: Transition | None) -> None:
        while transition is not None:
            transition = self._change_role(transition)
        self.state.log.check_cursors()

    def _change_role(self, transition: Transition) -> Transition | None:
        state = self.state
        match transition:
            case ToFollower(term, leader, cause, by):
                if not isinstance(self.role, Follower):
                    state.note(SteppedDown(self.role.name.value, state.term, cause, by, term))
                self._become_follower(term, leader)
                return None
            case ToPreCandidate():
                assert state.may_campaign, f"{state.node_id} campaigns and is no voter"
                self._note_campaign(state.term + 1, self._cause_of_pre_votes())
                role = self._enter(PreCandidate())
                self._start_campaign_clock(after_pre_vote=True)
                return role.start(state)
            case ToCandidate(leadership_transfer):
                assert state.may_campaign, f"{state.node_id} campaigns and is no voter"
                self._note_campaign(state.term + 1, Cause.TRANSFER if leadership_transfer else Cause.PRE_VOTES)
                candidate = self._enter(Candidate())
                state.term += 1
                state.vote = state.node_id
                self._start_campaign_clock()
                candidate.start(state, leadership_transfer=leadership_transfer)
                return None  # Even a lone voter waits: its own vote counts once it is saved.
            case ToLeader():
                assert isinstance(self.role, Candidate), f"a {self.role.name.value} cannot become leader"
                assert state.vote == state.node_id, f"leader in term {state.term} voted for {state.vote}"
                state.leader = state.node_id
                self._enter(Leader(state))
                return None

    def _become_follower(self, term: int, leader: NodeId) -> None:
        state = self.state
        assert term >= state.term, f"term {term} after {state.term}"
        after_pre_vote = isinstance(self.role, PreCandidate) and term == state.term
        waits_already = isinstance(self.role, Follower) and term == state.term and state.leader == NO_NODE
        if not waits_already:
            if isinstance(self.role, Leader):
                state.election_elapsed_ticks = 0  # It did not wait for a leader so far: it was one.
            self._enter(Follower())
        if term > state.term:
            state.term = term
            state.vote = NO_NODE
        state.leader = leader
        if leader != NO_NODE or not waits_already:
            state.draw_election_timeout(after_pre_vote=after_pre_vote)

    def _cause_of_pre_votes(self) -> Cause:
        if self.state.leader_gone:
            return Cause.LEADER_GONE
        return Cause.SILENCE if self.state.election_timed_out else Cause.ASKED

    def _note_campaign(self, term: int, cause: Cause) -> None:
        state = self.state
        is_pre_vote = cause not in (Cause.TRANSFER, Cause.PRE_VOTES)
        state.note(Campaigned(term, is_pre_vote, cause, state.leader, state.election_elapsed_ticks))

    def _start_campaign_clock(self, *, after_pre_vote: bool = False) -> None:
        self.state.leader = NO_NODE
        self.state.election_elapsed_ticks = 0
        self.state.draw_election_timeout(after_pre_vote=after_pre_vote)

    def _enter(self, role: _T) -> _T:
        assert isinstance(role, Follower | PreCandidate | Candidate | Leader)
        self.role.leave(self.state)
        self.role = role
        return role

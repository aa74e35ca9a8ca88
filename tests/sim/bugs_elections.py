"""Known bugs of elections. See `known_bugs`."""

from __future__ import annotations

from typing import Any

from raftkv.raft import (
    Message,
    PreVoteRequest,
    Raft,
    VoteRequest,
    VoteResponse,
    answers,
    leader,
)
from raftkv.raft.candidate import Candidate
from raftkv.raft.follower import Follower
from raftkv.raft.log import Log
from raftkv.raft.roles import Roles
from raftkv.raft.state import State, ToCandidate
from tests.sim.planting import Planter, bug, nothing


@bug(13)
def vote_is_sent_before_it_is_on_disk(plant: Planter) -> None:
    plant(State, "send_after_save", State.send)


@bug(13)
def candidate_counts_its_own_vote_before_it_is_on_disk(plant: Planter) -> None:
    original = Candidate.start

    def start(self: Candidate, state: State, *, leadership_transfer: bool) -> None:
        original(self, state, leadership_transfer=leadership_transfer)
        self._votes[state.node_id] = True
        for message in state.outbox.after_save:
            state.send(message)
        state.outbox.after_save.clear()

    plant(Candidate, "start", start)


@bug(14, seed=228, is_rare=True)
def up_to_date_means_longer(plant: Planter) -> None:
    plant(Log, "is_up_to_date", lambda self, last_index, last_term: last_index >= self.last_index)


@bug(14)
def up_to_date_means_a_later_term(plant: Planter) -> None:
    plant(Log, "is_up_to_date", lambda self, last_index, last_term: last_term >= self.last_term)


@bug(15)
def vote_is_forgotten_in_a_restart(plant: Planter) -> None:
    original = Raft.__init__

    def start(self: Raft, *arguments: Any, **named: Any) -> None:
        original(self, *arguments, **named)
        self._state.vote = 0

    plant(Raft, "__init__", start)


@bug(15)
def second_vote_in_a_term(plant: Planter) -> None:
    plant(answers, "_may_vote_for", lambda state, candidate: True)


@bug(17, seed=2095, is_rare=True)
def stale_votes_are_counted(plant: Planter) -> None:
    original = Roles._on_lower_term

    def on_lower_term(self: Roles, message: Message) -> None:
        if isinstance(message, VoteResponse) and isinstance(self.role, Candidate):
            self._dispatch(message)
            return
        original(self, message)

    plant(Roles, "_on_lower_term", on_lower_term)


@bug(20)
def single_node_cannot_elect_itself(plant: Planter) -> None:
    plant(Candidate, "saved", nothing)


@bug(21, seed=168, is_rare=True)
def pre_vote_of_a_lower_term_gets_no_answer(plant: Planter) -> None:
    original = Roles._on_lower_term

    def on_lower_term(self: Roles, message: Message) -> None:
        if not isinstance(message, PreVoteRequest):
            original(self, message)

    plant(Roles, "_on_lower_term", on_lower_term)


@bug(22, seed=1317, is_rare=True)
def stuck_candidate_never_rejoins(plant: Planter) -> None:
    from raftkv.raft import roles

    plant(roles, "refuse_stale_leader", nothing)


@bug(23)
def no_check_quorum(plant: Planter) -> None:
    plant(leader, "has_quorum", lambda membership, nodes: True)


@bug(24)
def removed_server_disrupts(plant: Planter) -> None:
    original = Follower.tick

    def tick(self: Follower, state: State) -> Any:
        return ToCandidate() if original(self, state) is not None and state.may_campaign else None

    plant(Follower, "tick", tick)
    plant(State, "in_lease", property(lambda self: False))


@bug(25)
def learner_campaigns(plant: Planter) -> None:
    plant(State, "may_campaign", property(lambda self: True))


@bug(25)
def learner_does_not_vote(plant: Planter) -> None:
    original = Roles._dispatch

    def dispatch(self: Roles, message: Message) -> None:
        if not isinstance(message, VoteRequest | PreVoteRequest) or self.state.is_voter:
            original(self, message)

    plant(Roles, "_dispatch", dispatch)

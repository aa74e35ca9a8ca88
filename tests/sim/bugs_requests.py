"""Known bugs of reads, membership changes, snapshots and clients' requests. See `known_bugs`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from raftkv.node.reads import Reads
from raftkv.raft import (
    Membership,
    MembershipChange,
    ProposalDropped,
    TimeoutNow,
    candidate,
    leader,
)
from raftkv.raft.follower import Follower
from raftkv.raft.leader import Leader
from raftkv.raft.membership import MembershipHistory, next_membership
from raftkv.raft.read_index import ReadIndexQueue
from raftkv.raft.ready import ReadState
from raftkv.raft.replication import Replication
from raftkv.raft.state import State, ToFollower
from raftkv.statemachine.origins import Origins
from tests.sim.planting import Planter, bug, nothing

# Reads


@bug(26)
def read_before_the_first_commit_of_the_term(plant: Planter) -> None:
    plant(Leader, "_add_read", lambda self, state, read: self._reads.add(read, state.log.commit_index))


@bug(27, seed=446)
def older_heartbeats_confirm_a_read(plant: Planter) -> None:
    original = Leader._confirm_reads

    def confirm(self: Leader, state: State) -> None:
        if self._reads.wants_round:
            self._reads.start_round()
        for progress in self.replication._progress.values():
            progress.acked_round = self._reads.round if progress.acked_round else 0
        original(self, state)

    plant(Leader, "_confirm_reads", confirm)


@bug(28)
def leader_reads_by_its_clock(plant: Planter) -> None:
    def read_index(self: Leader, state: State, context: int) -> None:
        state.outbox.read_states.append(ReadState(context, state.log.commit_index))

    plant(Leader, "read_index", read_index)


@bug(29)
def follower_reads_what_it_has(plant: Planter) -> None:
    def read_index(self: Follower, state: State, context: int) -> None:
        state.outbox.read_states.append(ReadState(context, state.log.commit_index))

    plant(Follower, "read_index", read_index)


@bug(29, seed=75, is_rare=True)
def deposed_leader_confirms_its_reads(plant: Planter) -> None:
    def leave(self: Leader, state: State) -> None:
        for read in self._reads.drain():
            self._answer_read(state, read, state.log.commit_index)

    plant(Leader, "leave", leave)


@bug(30)
def read_does_not_wait_for_apply(plant: Planter) -> None:
    def take_ready(self: Reads, applied_index: int) -> list[Any]:
        ready = [read for _, reads in self._confirmed for read in reads]
        self._confirmed = []
        return ready

    plant(Reads, "take_ready", take_ready)


# Membership


def _propose_without(*, check_term: bool = True, check_pending: bool = True, check_learners: bool = True) -> Any:
    """`Leader.propose_membership` with some of its conditions missing."""
    original = Leader.propose_membership

    def propose(self: Leader, state: State, change: MembershipChange, data: bytes) -> Any:
        is_settled = state.memberships.current_index <= state.log.commit_index
        if (check_term and not state.has_committed_in_term) or (check_pending and not is_settled):
            return original(self, state, change, data)
        if check_learners and change.voters & state.membership.learners:
            return original(self, state, change, data)
        self._append_membership(state, next_membership(state.membership, change), data)
        return self._advance_commit(state)

    return propose


@bug(32)
def change_before_a_commit_in_the_term(plant: Planter) -> None:
    plant(Leader, "propose_membership", _propose_without(check_term=False))


@bug(33)
def second_change_while_the_first_is_uncommitted(plant: Planter) -> None:
    plant(Leader, "propose_membership", _propose_without(check_pending=False))


@bug(34)
def membership_is_in_force_when_committed(plant: Planter) -> None:
    plant(
        State, "membership", property(lambda self: self.memberships.at(max(self.log.commit_index, self.log.base_index)))
    )


@bug(35, seed=72)
def truncated_change_stays_in_force(plant: Planter) -> None:
    plant(MembershipHistory, "truncate_from", nothing)
    original = MembershipHistory.append

    def append(self: MembershipHistory, entries: Any) -> bool:
        for entry in entries:
            if entry.membership is not None:
                while self._steps[-1][0] >= entry.index:
                    self._steps.pop()
        return original(self, entries)

    plant(MembershipHistory, "append", append)


@bug(36)
def removed_leader_leads_on(plant: Planter) -> None:
    plant(Leader, "_step_down_if_removed", nothing)


@bug(36)
def removed_leader_steps_down_at_once(plant: Planter) -> None:
    def step_down(self: Leader, state: State) -> Any:
        return ToFollower(state.term) if not state.is_voter else None

    plant(Leader, "_step_down_if_removed", step_down)
    plant(State, "may_campaign", property(lambda self: self.is_voter))


@bug(37)
def joint_quorum_is_a_majority_of_the_union(plant: Planter) -> None:
    def of_union(original: Any) -> Any:
        return lambda membership, argument: original(
            Membership(membership.voters | membership.outgoing_voters), argument
        )

    plant(leader, "quorum_index", of_union(leader.quorum_index))
    plant(candidate, "vote_result", of_union(candidate.vote_result))


@bug(37)
def several_voters_change_at_once(plant: Planter) -> None:
    plant(leader, "next_membership", lambda current, change: Membership(change.voters, learners=change.learners))


@bug(39)
def snapshot_has_no_configuration(plant: Planter) -> None:
    original = State.restore

    def restore(self: State, snapshot: Any) -> None:
        membership = self.memberships.current
        original(self, snapshot)
        self.memberships = MembershipHistory(snapshot.index, membership)

    plant(State, "restore", restore)


@bug(40)
def learner_is_promoted_before_it_has_caught_up(plant: Planter) -> None:
    plant(Replication, "is_caught_up", lambda self, state, node: True)


# Snapshots and clients


@bug(44, seed=79)
def snapshot_throws_a_matching_suffix_away(plant: Planter) -> None:
    original = Follower._on_snapshot

    def on_snapshot(self: Follower, state: State, message: Any) -> None:
        if message.snapshot.index > state.log.commit_index:
            state.restore(message.snapshot)
        original(self, state, message)

    plant(Follower, "_on_snapshot", on_snapshot)


@bug(50)
def retry_is_applied_twice(plant: Planter) -> None:
    plant(Origins, "admit", lambda self, origin, incarnation, sequence, settled_below: True)


@bug(54)
def leadership_transfer_is_never_given_up(plant: Planter) -> None:
    """And the target is asked to campaign only if it is level at that moment."""

    def propose(self: Leader, state: State, proposals: Sequence[Any]) -> None:
        if self._transfer_started:
            raise ProposalDropped("leadership is being handed over")
        self._append(state, proposals)

    def transfer(self: Leader, state: State, target: int) -> None:
        if target in state.membership.voters and target != state.node_id:
            self._transfer_started = 1
            if self.replication.match_index(target) == state.log.last_index:
                state.send(TimeoutNow(sender=state.node_id, receiver=target, term=state.term))

    plant(Leader, "propose", propose)
    plant(Leader, "transfer_leadership", transfer)


@bug(27, seed=274)
def reads_are_answered_before_their_round(plant: Planter) -> None:
    plant(
        ReadIndexQueue, "confirm", lambda self, confirmed: [(self._waiting.popleft()[1:]) for _ in tuple(self._waiting)]
    )

"""Known bugs of the log and its replication. See `known_bugs`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from raftkv.raft import (
    AppendRequest,
    AppendResponse,
    Membership,
    candidate,
    leader,
    quorum,
)
from raftkv.raft.follower import Follower
from raftkv.raft.leader import Leader
from raftkv.raft.log import Log
from raftkv.raft.progress import Progress, ProgressState
from raftkv.raft.replication import Replication
from raftkv.raft.saves import Saves
from raftkv.raft.state import State
from tests.sim.planting import Planter, bug, nothing


@bug(1)
def commits_an_older_term_by_counting(plant: Planter) -> None:
    def advance(self: Leader, state: State) -> Any:
        index = quorum.quorum_index(state.membership, lambda node: self._match_index(state, node))
        if index > state.log.commit_index:
            before = state.log.commit_index
            state.log.commit_to(index)
            self.uncommitted_bytes -= sum(e.size for e in state.log.slice(before + 1, index, 2**63))
            self.replication.wants_flush = True
            self._leave_joint_if_due(state)
        return self._step_down_if_removed(state)

    plant(Leader, "_advance_commit", advance)


@bug(2)
def no_noop_after_an_election(plant: Planter) -> None:
    original = Leader._append

    def append(self: Leader, state: State, proposals: Sequence[Any]) -> None:
        if proposals[0].data:
            original(self, state, proposals)

    plant(Leader, "_append", append)


@bug(3, seed=13)
def follower_commits_past_its_last_matched_entry(plant: Planter) -> None:
    original = Follower._on_append

    def on_append(self: Follower, state: State, message: AppendRequest) -> None:
        original(self, state, message)
        state.log.commit_to(min(message.commit_index, state.log.last_index))

    plant(Follower, "_on_append", on_append)


@bug(4)
def heartbeat_commit_is_not_clamped_to_match(plant: Planter) -> None:
    original = Replication.send_heartbeats

    def send(self: Replication, state: State, read_round: int) -> None:
        for progress in self._progress.values():
            progress.match_index, progress.truth = state.log.last_index, progress.match_index  # type: ignore[attr-defined]
        original(self, state, read_round)
        for progress in self._progress.values():
            progress.match_index = progress.truth  # type: ignore[attr-defined]

    class WithTruth(Progress):
        pass

    from raftkv.raft import replication

    plant(replication, "Progress", WithTruth)
    plant(Replication, "send_heartbeats", send)


@bug(5)
def every_append_truncates(plant: Planter) -> None:
    plant(Log, "first_new", lambda self, entries: 0)


@bug(6)
def committed_entries_are_truncated(plant: Planter) -> None:
    def on_append(self: Follower, state: State, message: AppendRequest) -> None:
        state.heard_leader()
        log = state.log
        if log.term_at(message.prev_index) != message.prev_term:
            self._refuse_append(state, message)
            return
        state.append_from_leader(message.entries)
        match = message.prev_index + len(message.entries)
        log.commit_to(min(message.commit_index, match))
        state.acknowledge(message.sender, message.prev_index, match)

    plant(Follower, "_on_append", on_append)
    plant(Log, "first_new", lambda self, entries: 0)


@bug(8)
def conflict_hint_loops(plant: Planter) -> None:
    def refused(self: Progress, prev_index: int, agree_index: int) -> bool:
        if self.state is not ProgressState.SNAPSHOT:
            self.become_probe(max(agree_index, self.match_index) + 1)
        return True

    def refuse(self: Follower, state: State, message: AppendRequest) -> None:
        refusal = AppendResponse(
            sender=state.node_id,
            receiver=message.sender,
            term=state.term,
            prev_index=message.prev_index,
            accepted=False,
            conflict_index=message.prev_index,
        )
        state.send(refusal)

    plant(Follower, "_refuse_append", refuse)
    plant(Progress, "refused", refused)


@bug(9)
def match_index_goes_back(plant: Planter) -> None:
    original = Progress.accepted

    def accepted(self: Progress, match_index: int, log_first_index: int) -> bool:
        self.match_index = min(self.match_index, match_index)
        return original(self, match_index, log_first_index)

    plant(Progress, "accepted", accepted)


@bug(10)
def leader_counts_itself_before_its_disk(plant: Planter) -> None:
    plant(
        Leader,
        "_match_index",
        lambda self, state, node: state.log.last_index if node == state.node_id else self.replication.match_index(node),
    )


@bug(10, seed=343)
def save_from_before_a_truncation_proves_the_new_log(plant: Planter) -> None:
    plant(Saves, "truncated_from", nothing)
    original = Log.saved_to
    plant(Log, "saved_to", lambda self, index: original(self, min(index, self.handed_out_index)))


@bug(10)
def follower_acknowledges_before_its_disk(plant: Planter) -> None:
    def acknowledge(self: State, to: int, prev_index: int, match_index: int) -> None:
        response = AppendResponse(
            sender=self.node_id,
            receiver=to,
            term=self.term,
            prev_index=prev_index,
            accepted=True,
            match_index=match_index,
        )
        self.send(response)

    plant(State, "acknowledge", acknowledge)


@bug(11)
def half_is_a_majority(plant: Planter) -> None:
    plant(quorum, "majority", lambda count: (count + 1) // 2)


@bug(11)
def learners_are_counted(plant: Planter) -> None:
    def with_learners(original: Any) -> Any:
        def count(membership: Membership, argument: Any) -> Any:
            everybody = Membership(membership.voters | membership.learners, membership.outgoing_voters)
            return original(everybody, argument)

        return count

    plant(leader, "quorum_index", with_learners(leader.quorum_index))
    plant(candidate, "vote_result", with_learners(candidate.vote_result))


@bug(12)
def what_was_applied_is_delivered_again(plant: Planter) -> None:
    original = Log.start_at

    def start_at(self: Log, *, commit_index: int, applied_index: int) -> None:
        original(self, commit_index=commit_index, applied_index=applied_index)
        self.applied_index = self.delivered_index = self.base_index

    plant(Log, "start_at", start_at)

"""The leader: appends proposals, commits what a quorum has, confirms reads, changes the membership, hands over.

How followers are fed is `replication`'s business; what a ReadIndex waits for is `read_index`'s. What may not live here:
anything that changes term or role.
"""

from __future__ import annotations

from collections.abc import Sequence

from raftkv.raft.errors import LearnerNotReady, MembershipChangeRefused, ProposalDropped
from raftkv.raft.membership import MembershipChange, leave_joint, next_membership
from raftkv.raft.messages import (
    AppendResponse,
    HeartbeatResponse,
    Message,
    ProposeRejected,
    ProposeRequest,
    ReadIndexRequest,
    ReadIndexResponse,
    TimeoutNow,
    TransferLeadership,
)
from raftkv.raft.notices import Loss, TransferBegun, TransferGivenUp
from raftkv.raft.quorum import has_quorum, quorum_index
from raftkv.raft.read_index import PendingRead, ReadIndexQueue
from raftkv.raft.ready import ReadState, RoleName
from raftkv.raft.replication import Replication
from raftkv.raft.state import State, ToFollower, Transition
from raftkv.raft.types import ENTRY_OVERHEAD_BYTES, NO_NODE, Entry, EntryKind, Membership, NodeId, Proposal


class Leader:
    """Role state: followers' progress, reads in flight, a transfer under way, the uncommitted payload.

    Invariant: everything behind the log's end at the election is of our own term; the first such entry is a NOOP, through
    which earlier terms' entries commit (Raft paper §5.4.2, §8).
    """

    name = RoleName.LEADER
    __slots__ = (
        "_fitter_ticks",
        "_heartbeat_elapsed",
        "_quorum_silent_ticks",
        "_reads",
        "_ticks",
        "_transfer_started",
        "replication",
        "transfer_target",
        "uncommitted_bytes",
    )

    def __init__(self, state: State) -> None:
        self.replication = Replication(state)
        self.transfer_target: NodeId = NO_NODE
        self.uncommitted_bytes = state.log.uncommitted_bytes()
        self._reads = ReadIndexQueue()
        self._ticks = 0
        self._heartbeat_elapsed = 0
        self._transfer_started = 0
        self._quorum_silent_ticks = 0
        self._fitter_ticks = 0
        self._append(state, [Proposal(b"", EntryKind.NOOP)])

    def tick(self, state: State) -> Transition | None:
        self._ticks += 1
        self.replication.tick(state)
        if self.transfer_target and self._ticks - self._transfer_started >= state.config.election_timeout_ticks:
            state.note(TransferGivenUp(self.transfer_target))
            self.transfer_target = NO_NODE  # It did not come about; proposals are welcome again.
        if not has_quorum(state.membership, self.replication.active_nodes(state)):
            # CheckQuorum: whoever cannot hear a quorum does not lead (§6.2).
            return self._resign(state, Loss.NO_QUORUM)
        self._learn_patience(state)
        if (transition := self._yield_if_unfit(state)) is not None:
            return transition
        self._heartbeat_elapsed += 1
        if self._heartbeat_elapsed >= state.config.heartbeat_interval_ticks:
            self._heartbeat_elapsed = 0
            self.replication.send_heartbeats(state, self._reads.round)
        return None

    def ticks_missed(self, count: int) -> None:
        """The followers count them: the next heartbeat must not wait for as many more."""
        self._heartbeat_elapsed += count

    def _learn_patience(self, state: State) -> None:
        """A quorum that was silent for a while and then heard again was not gone: silence may last so long."""
        silent_ticks = self.replication.quorum_silent_ticks(state)
        if silent_ticks < self._quorum_silent_ticks:
            state.patience.heard_after(self._quorum_silent_ticks)
        self._quorum_silent_ticks = silent_ticks

    def step(self, state: State, message: Message) -> Transition | None:
        match message:
            case AppendResponse():
                return self._on_append_response(state, message)
            case HeartbeatResponse():
                self.replication.on_heartbeat_response(state, message)
                self._confirm_reads(state)
            case ProposeRequest():
                self._on_propose(state, message)
            case ReadIndexRequest():
                self._add_read(state, PendingRead(message.sender, message.context))
            case TransferLeadership():
                self.transfer_leadership(state, message.target)
            case _:
                pass  # Votes that come too late.
        return None

    def leave(self, state: State) -> None:
        """Leadership is lost: what was not confirmed never will be."""
        for read in self._reads.drain():
            self._answer_read(state, read, None)

    def flush(self, state: State) -> None:
        """Send what has accumulated since the last `Ready`: one round for all new reads, one append per follower."""
        if self._reads.wants_round:
            self.replication.send_heartbeats(state, self._reads.start_round())
            self._heartbeat_elapsed = 0
            self._confirm_reads(state)  # A lone voter needs no answers.
        if self.replication.wants_flush:
            self.replication.flush(state)

    @property
    def wants_flush(self) -> bool:
        return self._reads.wants_round or self.replication.wants_flush

    # Proposals

    def propose(self, state: State, proposals: Sequence[Proposal]) -> None:
        if self.transfer_target:
            raise ProposalDropped(f"leadership is being handed to {self.transfer_target}")
        if state.node_id not in state.membership.members:
            raise ProposalDropped("this leader leaves the cluster")
        size = sum(len(proposal.data) + ENTRY_OVERHEAD_BYTES for proposal in proposals)
        if self.uncommitted_bytes and self.uncommitted_bytes + size > state.config.uncommitted_bytes_max:
            raise ProposalDropped(f"{self.uncommitted_bytes} bytes are waiting for a quorum")
        self._append(state, proposals)

    def _on_propose(self, state: State, message: ProposeRequest) -> None:
        """A stranger's are refused: whoever applies its own removal knows that nothing else of it can follow."""
        try:
            if message.sender not in state.membership.members:
                raise ProposalDropped(f"{message.sender} is no member")
            self.propose(state, message.proposals)
        except ProposalDropped:
            state.send(ProposeRejected(sender=state.node_id, receiver=message.sender, term=state.term))

    def _append(self, state: State, proposals: Sequence[Proposal]) -> None:
        next_index = state.log.last_index + 1
        self._extend(
            state,
            [
                Entry(next_index + offset, state.term, proposal.kind, proposal.data)
                for offset, proposal in enumerate(proposals)
            ],
        )

    def _append_membership(self, state: State, membership: Membership, data: bytes) -> None:
        self._extend(state, [Entry(state.log.last_index + 1, state.term, EntryKind.MEMBERSHIP, data, membership)])
        self._confirm_reads(state)  # A smaller quorum may already have answered; a lone voter waits for nobody.

    def _extend(self, state: State, entries: Sequence[Entry]) -> None:
        self.uncommitted_bytes += sum(entry.size for entry in entries)
        if state.append(entries):
            self.replication.sync_members(state)
        self.replication.wants_flush = True

    # Commits

    def saved(self, state: State) -> Transition | None:
        """Our own disk has more of the log: that is when we count ourselves, and no earlier."""
        return self._advance_commit(state)

    def _on_append_response(self, state: State, message: AppendResponse) -> Transition | None:
        if not self.replication.on_append_response(state, message):
            return None
        if message.sender == self.transfer_target:
            self._try_timeout_now(state)
        return self._advance_commit(state)

    def _advance_commit(self, state: State) -> Transition | None:
        """Commit what a quorum has, provided that it is of our own term (Raft paper §5.4.2, figure 8)."""
        log = state.log
        while True:
            index = quorum_index(state.membership, lambda node: self._match_index(state, node))
            if index <= log.commit_index or log.term_at(index) != state.term:
                break
            had_committed_in_term = state.has_committed_in_term
            before = log.commit_index
            log.commit_to(index)
            self.uncommitted_bytes -= sum(e.size for e in log.slice(before + 1, index, 2**63))
            self.replication.wants_flush = True
            if not had_committed_in_term:
                self._reads.release_held(index)
            if not self._leave_joint_if_due(state):
                break
        return self._step_down_if_removed(state)

    def _match_index(self, state: State, node: NodeId) -> int:
        return state.log.saved_index if node == state.node_id else self.replication.match_index(node)

    # Membership

    def propose_membership(self, state: State, change: MembershipChange, data: bytes) -> Transition | None:
        """Append a change.

        Raises:
            MembershipChangeRefused: not the time (one change at a time; none before a commit in our own term, see Ongaro's
                2015 correction to §4.1), malformed, or a learner to be promoted has not caught up.
        """
        if self.transfer_target:
            raise MembershipChangeRefused(f"leadership is being handed to {self.transfer_target}")
        if not state.has_committed_in_term:
            raise MembershipChangeRefused("nothing is committed in this term yet")
        if state.memberships.current_index > state.log.commit_index:
            raise MembershipChangeRefused("the previous change is not committed yet")
        membership = next_membership(state.membership, change)
        for node in sorted(change.voters & state.membership.learners):
            if not self.replication.is_caught_up(state, node):
                raise LearnerNotReady(f"learner {node} has not caught up with the leader")
        self._append_membership(state, membership, data)
        return self._advance_commit(state)  # A smaller quorum may already have what is pending.

    def _leave_joint_if_due(self, state: State) -> bool:
        """Once a joint configuration is committed, the one that ends it follows by itself (dissertation §4.3)."""
        if not state.membership.is_joint or state.memberships.current_index > state.log.commit_index:
            return False
        self._append_membership(state, leave_joint(state.membership), b"")
        return True

    def _step_down_if_removed(self, state: State) -> Transition | None:
        """A leader that is no voter any more leads until the change is committed, and not longer (§4.2.2)."""
        if state.is_voter or state.memberships.current_index > state.log.commit_index:
            return None
        self.flush(state)  # Followers should learn of the commit from us.
        successor = self.replication.best_successor(state)
        if successor and self.replication.match_index(successor) == state.log.last_index:
            state.send(TimeoutNow(sender=state.node_id, receiver=successor, term=state.term))
        return ToFollower(state.term, cause=Loss.REMOVED)

    # Reads

    def read_index(self, state: State, context: int) -> None:
        self._add_read(state, PendingRead(state.node_id, context))

    def _add_read(self, state: State, read: PendingRead) -> None:
        if state.has_committed_in_term:
            self._reads.add(read, state.log.commit_index)
        else:
            self._reads.hold(read)

    def _confirm_reads(self, state: State) -> None:
        confirmed = quorum_index(
            state.membership,
            lambda node: self._reads.round if node == state.node_id else self.replication.acked_round(node),
        )
        for read, index in self._reads.confirm(confirmed):
            self._answer_read(state, read, index)

    def _answer_read(self, state: State, read: PendingRead, index: int | None) -> None:
        if read.origin == state.node_id:
            state.outbox.read_states.append(ReadState(read.context, index))
            return
        state.send(
            ReadIndexResponse(
                sender=state.node_id,
                receiver=read.origin,
                term=state.term,
                context=read.context,
                index=index or 0,
                rejected=index is None,
            )
        )

    # Handing over

    def transfer_leadership(self, state: State, target: NodeId) -> None:
        """Bring `target` (0: the fittest, most up-to-date voter) level, then ask it to campaign at once (dissertation §3.10).

        Proposals are refused meanwhile. Given up after an election timeout. A target that cannot lead changes nothing.
        """
        target = target or self.replication.best_successor(state)
        if target in (NO_NODE, state.node_id, self.transfer_target) or target not in state.membership.voters:
            return
        state.note(TransferBegun(target))
        self.transfer_target = target
        self._transfer_started = self._ticks
        self.replication.wants_flush = True
        self._try_timeout_now(state)

    def _yield_if_unfit(self, state: State) -> Transition | None:
        """Hand over to a follower that is less unfit; if it does not take over in time, resign, so that anybody can.

        Not at once: with two more heartbeats everybody has said how it finds itself. Where all are equally unfit, as with a
        disk that all share, nobody moves.
        """
        fitter = self.replication.best_successor(state, severity_below=state.severity) if state.severity else NO_NODE
        if not fitter:
            self._fitter_ticks = 0
            return None
        self._fitter_ticks += 1
        tried_ticks = self._fitter_ticks - 2 * state.config.heartbeat_interval_ticks
        if tried_ticks > state.config.election_timeout_ticks:
            return self._resign(state, Loss.UNFIT)
        if tried_ticks > 0 and not self.transfer_target:
            self.transfer_leadership(state, fitter)
        return None

    def _resign(self, state: State, cause: Loss) -> Transition:
        """Follow from now on, and say so: perhaps we are heard where we do not hear."""
        self.replication.send_resignations(state)
        return ToFollower(state.term, cause=cause)

    def _try_timeout_now(self, state: State) -> None:
        if self.replication.match_index(self.transfer_target) == state.log.last_index:
            state.send(TimeoutNow(sender=state.node_id, receiver=self.transfer_target, term=state.term))

    def check(self, state: State) -> None:
        self.replication.check(state)
        expected = state.log.uncommitted_bytes()
        assert self.uncommitted_bytes == expected, f"uncommitted {self.uncommitted_bytes} bytes, not {expected}"

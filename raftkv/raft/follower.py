"""The follower: accepts the leader's log, passes requests on to it, and campaigns when it has been silent for too long.

What may not live here: votes (every role answers them alike: `roles`), anything that changes term or role.
"""

from __future__ import annotations

from collections.abc import Sequence

from raftkv.raft.errors import LogLostError, ProposalDropped
from raftkv.raft.messages import (
    AppendRequest,
    AppendResponse,
    HeartbeatRequest,
    HeartbeatResponse,
    InstallSnapshot,
    Message,
    ProposeRejected,
    ProposeRequest,
    ReadIndexRequest,
    ReadIndexResponse,
    Resigned,
    TimeoutNow,
    TransferLeadership,
)
from raftkv.raft.notices import LeaderResigned
from raftkv.raft.ready import ReadState, RoleName
from raftkv.raft.state import State, ToCandidate, ToFollower, ToPreCandidate, Transition
from raftkv.raft.types import NO_NODE, NodeId, Proposal


class Follower:
    """Role state: the reads it has asked its leader for, with the tick at which each was asked."""

    name = RoleName.FOLLOWER
    __slots__ = ("_reads", "_ticks")

    def __init__(self) -> None:
        self._ticks = 0
        self._reads: dict[int, int] = {}

    def tick(self, state: State) -> Transition | None:
        self._ticks += 1
        self._expire_reads(state)
        state.election_elapsed_ticks += 1
        if not state.election_timed_out:
            return None
        if state.may_campaign:
            return ToPreCandidate()
        # A learner, or a node that was removed and never learned of it: it must not go on proposing to who is silent.
        return ToFollower(state.term) if state.leader != NO_NODE else None

    def step(self, state: State, message: Message) -> Transition | None:
        match message:
            case AppendRequest():
                self._on_append(state, message)
            case HeartbeatRequest():
                self._on_heartbeat(state, message)
            case InstallSnapshot():
                self._on_snapshot(state, message)
            case ReadIndexResponse():
                self._on_read_index(state, message)
            case Resigned() if message.sender == state.leader and state.may_campaign:
                state.note(LeaderResigned(message.sender))
                return ToPreCandidate() if state.take_turn() else None
            case TimeoutNow():
                return ToCandidate(leadership_transfer=True) if state.may_campaign else None
            case ProposeRejected():
                state.outbox.proposals_rejected = True
            case _:
                pass  # Answers to something we no longer are.
        return None

    def leave(self, state: State) -> None:
        """The leader changed or is unknown: it will not answer these any more."""
        state.outbox.read_states.extend(ReadState(context, None) for context in self._reads)
        self._reads.clear()

    def propose(self, state: State, proposals: Sequence[Proposal]) -> None:
        if state.leader == NO_NODE:
            raise ProposalDropped("no leader is known")
        state.send(
            ProposeRequest(sender=state.node_id, receiver=state.leader, term=state.term, proposals=tuple(proposals))
        )

    def read_index(self, state: State, context: int) -> None:
        if state.leader == NO_NODE:
            state.outbox.read_states.append(ReadState(context, None))
            return
        assert context not in self._reads, f"read context {context} is in flight already"
        self._reads[context] = self._ticks
        state.send(ReadIndexRequest(sender=state.node_id, receiver=state.leader, term=state.term, context=context))

    def transfer_leadership(self, state: State, target: NodeId) -> None:
        if state.leader != NO_NODE:
            state.send(TransferLeadership(sender=state.node_id, receiver=state.leader, term=state.term, target=target))

    def _on_append(self, state: State, message: AppendRequest) -> None:
        state.heard_leader()
        log, entries = state.log, message.entries
        match_index = message.prev_index + len(entries)
        if message.prev_index < log.commit_index:
            # Committed entries match by definition, even where they have been compacted: no conflict.
            entries = entries[log.commit_index - message.prev_index :]
            match_index = max(match_index, log.commit_index)
        elif log.term_at(message.prev_index) != message.prev_term:
            self._refuse_append(state, message)
            return
        state.append_from_leader(entries)
        # Not to our last index: what lies behind the entries of this message may be another leader's.
        log.commit_to(min(message.commit_index, match_index))
        if not message.is_notice:
            state.acknowledge(message.sender, message.prev_index, match_index)

    def _refuse_append(self, state: State, message: AppendRequest) -> None:
        """Name the highest index at which the logs may still agree: at most the term of the leader's entry there."""
        agree = state.log.last_index_of_term_at_most(message.prev_index, message.prev_term)
        agree = max(agree, state.log.commit_index)
        state.send(
            AppendResponse(
                sender=state.node_id,
                receiver=message.sender,
                term=state.term,
                prev_index=message.prev_index,
                accepted=False,
                conflict_index=agree,
                conflict_term=state.log.term_at(agree) or 0,
            )
        )

    def _on_heartbeat(self, state: State, message: HeartbeatRequest) -> None:
        state.heard_leader()
        if message.commit_index > state.log.last_index:
            raise LogLostError(
                f"leader {message.sender} knows that this node had entry {message.commit_index}; "
                f"its log ends at {state.log.last_index}"
            )
        state.log.commit_to(message.commit_index)
        state.reach.leader_says(message.sender, unheard=message.unheard, timeout_ticks=state.timeout_ticks)
        state.send(
            HeartbeatResponse(
                sender=state.node_id,
                receiver=message.sender,
                term=state.term,
                read_round=message.read_round,
                severity=state.severity,
            )
        )

    def _on_snapshot(self, state: State, message: InstallSnapshot) -> None:
        state.heard_leader()
        snapshot, log = message.snapshot, state.log
        if snapshot.index > log.commit_index:
            if log.term_at(snapshot.index) == snapshot.term:
                log.commit_to(snapshot.index)  # We have it all; a newer matching suffix stays.
            else:
                state.restore(snapshot)
        state.acknowledge(message.sender, snapshot.index, log.commit_index)

    def _on_read_index(self, state: State, message: ReadIndexResponse) -> None:
        if self._reads.pop(message.context, None) is None:
            return  # Doubled, or given up.
        index = None if message.rejected else message.index
        state.outbox.read_states.append(ReadState(message.context, index))

    def _expire_reads(self, state: State) -> None:
        """A lost request or answer must not hang its reader: give up after an election timeout, oldest first."""
        deadline = self._ticks - state.timeout_ticks
        while self._reads:
            context, asked = next(iter(self._reads.items()))
            if asked > deadline:
                return
            del self._reads[context]
            state.outbox.read_states.append(ReadState(context, None))

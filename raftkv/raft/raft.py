"""One Raft node as the shell sees it: inputs are method calls, outputs come from `ready()`, and it can be looked at.

See `raftkv.raft.ready` for the contract. No clock, no I/O, no randomness of its own, no logging, no lock: whoever owns a
`Raft` calls it from one task. What may not live here: any change of term, vote or role (`roles`), and what a role does.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from raftkv.raft.candidate import Candidate, PreCandidate
from raftkv.raft.config import RaftConfig
from raftkv.raft.errors import NotLeader
from raftkv.raft.follower import Follower
from raftkv.raft.leader import Leader
from raftkv.raft.log import Log
from raftkv.raft.membership import MembershipChange, MembershipHistory
from raftkv.raft.messages import Message
from raftkv.raft.ready import Ready, RoleName, SoftState
from raftkv.raft.roles import Role, Roles
from raftkv.raft.saves import Saves
from raftkv.raft.state import UNLIMITED_BYTES, Outbox, State, ToPreCandidate
from raftkv.raft.status import RaftStatus
from raftkv.raft.types import (
    NO_NODE,
    Entry,
    EntryKind,
    HardState,
    Membership,
    NodeId,
    Proposal,
    SavedMark,
    SnapshotMeta,
)


class Raft:
    """A node of a Raft cluster.

    Source: Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm" (the Raft paper); Ongaro's
    dissertation for PreVote, ReadIndex, leadership transfer and membership changes.
    """

    def __init__(
        self,
        config: RaftConfig,
        *,
        hard_state: HardState,
        snapshot: SnapshotMeta,
        entries: Sequence[Entry],
        applied_index: int,
        rng: random.Random,
    ) -> None:
        """Start, or start again, from what is on disk.

        Args:
            config: this node's id and limits.
            hard_state: as last saved; the default of a node that never ran.
            snapshot: the base of the log on disk, with the membership in force there (at bootstrap: index 0).
            entries: everything behind the base, without a gap.
            applied_index: how far the state machine has durably come; at least the base. Nothing up to it is delivered
                again.
            rng: for the election timeouts alone.
        """
        log = Log(base_index=snapshot.index, base_term=snapshot.term, entries=entries)
        log.start_at(commit_index=hard_state.commit_index, applied_index=applied_index)
        memberships = MembershipHistory(snapshot.index, snapshot.membership)
        memberships.append(entries)
        self._state = State(
            config=config,
            rng=rng,
            log=log,
            memberships=memberships,
            saves=Saves(hard_state),
            # A log that is ahead of the term: we died between an entry and its term (applied before our log was saved, or
            # a save torn in two). Whatever we promised in that term was never sent.
            term=max(hard_state.term, log.last_term),
            vote=hard_state.vote if hard_state.term >= log.last_term else NO_NODE,
        )
        self._roles = Roles(self._state)
        self._soft_state = self._current_soft_state()

    @property
    def _role(self) -> Role:
        return self._roles.role

    # Inputs

    def tick(self) -> None:
        """One tick of time has passed."""
        self._state.tick()
        self._roles.follow(self._role.tick(self._state))

    def ticks_missed(self, count: int) -> None:
        """So much more time has passed, in which this node did not listen: no silence counts, but heartbeats are overdue."""
        if isinstance(self._role, Leader):
            self._role.ticks_missed(count)

    def step(self, message: Message) -> None:
        """Take a message from a peer.

        Raises:
            LogLostError: our disk has lost acknowledged entries; the node must stop.
        """
        state = self._state
        assert message.receiver == state.node_id, f"{message} at node {state.node_id}"
        assert message.sender != state.node_id, f"{message} from ourselves"
        self._roles.step(message)

    def propose(self, proposals: Sequence[Proposal]) -> None:
        """Append to the log, all or nothing; a follower passes them on to its leader.

        They may get lost on the way or be truncated later: whoever proposes watches `Ready.committed`, and proposes again.
        `Ready.proposals_rejected` tells that a leader refused some that were passed on.

        Raises:
            ProposalDropped: no leader is known, leadership is being transferred, or too much is uncommitted.
        """
        if not proposals:
            return
        assert all(proposal.kind is not EntryKind.MEMBERSHIP for proposal in proposals), "see propose_membership"
        self._role.propose(self._state, proposals)

    def propose_membership(self, change: MembershipChange, data: bytes) -> None:
        """Change the membership; in force when appended, rolled back if truncated.

        If more than one voter differs, a joint configuration goes in between: its entry carries `data`, the entry that
        ends it follows by itself with empty `data`.

        Raises:
            NotLeader: only the leader can.
            MembershipChangeRefused: malformed, or not the time for it.

        Source: Raft dissertation §4.
        """
        if not isinstance(self._role, Leader):
            raise NotLeader(self._state.leader)
        self._roles.follow(self._role.propose_membership(self._state, change, data))

    def read_index(self, context: int) -> None:
        """Ask for a log index at which a local read is linearizable.

        Nothing is appended to the log. The answer appears in `Ready.read_states` with the same `context` once a quorum has
        acknowledged a heartbeat sent *after* this call; its index is None if that became impossible or took longer than an
        election timeout (no leader, leadership lost, a message lost): ask again. A leader that has not yet committed an
        entry of its own term holds the request back.

        Args:
            context: unsigned 64 bits, never used twice by this node, not even after a restart: put an incarnation into
                the high bits. An answer that was on its way to the node's previous life must not fit.

        Source: Raft dissertation §6.4.
        """
        self._role.read_index(self._state, context)

    def transfer_leadership(self, target: NodeId = NO_NODE) -> None:
        """Wish that `target` leads (0: whoever is furthest along). A follower passes the wish on; it may come to nothing."""
        self._role.transfer_leadership(self._state, target)

    def campaign(self) -> None:
        """Ask for pre-votes now. Does nothing if this node leads, campaigns in earnest already, or is no voter."""
        if self._state.may_campaign and isinstance(self._role, Follower | PreCandidate):
            self._roles.follow(ToPreCandidate())

    def leader_gone(self) -> None:
        """The shell has evidence (not mere silence) that the leader's process is dead: its lease on our vote is void."""
        if self._state.leader != self._state.node_id:
            self._state.leader_gone = True

    def set_severity(self, severity: int) -> None:
        """How unfit to lead this node is, in the shell's eyes; 0: not at all. The same scale on every node.

        A leader hands over to a follower that is less unfit, if one can take over, and resigns if that does not come about;
        where all are equally unfit nothing changes. A follower that is unfit campaigns later than the others.
        """
        assert severity >= 0, f"severity {severity}"
        self._state.severity = severity

    def saved(self, mark: SavedMark) -> None:
        """The save with this mark, and all before it, are durable; its `messages_after_save` have been sent."""
        state = self._state
        state.log.saved_to(state.saves.completed(mark))
        if isinstance(self._role, Leader | Candidate):
            self._roles.follow(self._role.saved(state))

    def applied(self, index: int) -> None:
        """The state machine has applied everything up to `index`."""
        self._state.log.applied_to(index)

    def compact(self, index: int) -> None:
        """Drop entries up to `index` (<= applied) from memory, as far as our own disk has them."""
        self._state.log.compact(index)
        self._state.memberships.compact(self._state.log.base_index)

    def snapshot_sent(self, node: NodeId, index: int) -> None:
        """The follower has received and verified a snapshot at `index`."""
        if isinstance(self._role, Leader):
            self._role.replication.snapshot_sent(node, index)

    def snapshot_failed(self, node: NodeId) -> None:
        """No snapshot reached the follower; it is asked for again once the follower answers heartbeats."""
        if isinstance(self._role, Leader):
            self._role.replication.snapshot_failed(node)

    def peer_unreachable(self, node: NodeId) -> None:
        """Messages to `node` were dropped or its connection broke: stop pipelining, probe."""
        if isinstance(self._role, Leader):
            self._role.replication.unreachable(node)

    # Outputs

    def has_ready(self) -> bool:
        """Whether `ready()` would hand anything out."""
        state, log = self._state, self._state.log
        return (
            not state.outbox.is_empty()
            or state.saves.is_due(log, state.term, state.vote)
            or log.has_committed(state.config.unapplied_bytes_max)
            or (isinstance(self._role, Leader) and self._role.wants_flush)
            or self._soft_state != self._current_soft_state()
        )

    def ready(self) -> Ready:
        """Hand everything pending out. The core goes on as if it were being done."""
        state = self._state
        if isinstance(self._role, Leader):
            self._role.flush(state)
        outbox, state.outbox = state.outbox, Outbox()
        soft_state = self._current_soft_state()
        changed = soft_state != self._soft_state
        self._soft_state = soft_state
        result = Ready(
            messages=tuple(outbox.messages),
            messages_after_save=tuple(outbox.after_save),
            save=state.saves.take(
                state.log, state.hard_state, install=outbox.install, has_promises=bool(outbox.after_save)
            ),
            committed=state.log.take_committed(state.config.committed_bytes_max, state.config.unapplied_bytes_max),
            install=outbox.install,
            read_states=tuple(outbox.read_states),
            snapshots_wanted=tuple(outbox.snapshots_wanted),
            soft_state=soft_state if changed else None,
            proposals_rejected=outbox.proposals_rejected,
            notices=tuple(outbox.notices),
        )
        state.log.check_cursors()
        return result

    def _current_soft_state(self) -> SoftState:
        return SoftState(self._state.leader, self._role.name, self._state.term, is_cut_off=self._state.reach.is_cut_off)

    # What it looks like from outside

    @property
    def node_id(self) -> NodeId:
        return self._state.node_id

    @property
    def term(self) -> int:
        return self._state.term

    @property
    def vote(self) -> NodeId:
        return self._state.vote

    @property
    def role(self) -> RoleName:
        return self._role.name

    @property
    def leader(self) -> NodeId:
        """Who leads in this term as far as we know; 0 if we do not."""
        return self._state.leader

    @property
    def commit_index(self) -> int:
        return self._state.log.commit_index

    @property
    def applied_index(self) -> int:
        return self._state.log.applied_index

    @property
    def last_index(self) -> int:
        return self._state.log.last_index

    @property
    def first_index(self) -> int:
        return self._state.log.first_index

    def entries(self, first: int) -> tuple[Entry, ...]:
        """The log from `first` (>= first_index) to its end."""
        log = self._state.log
        return log.slice(first, log.last_index, UNLIMITED_BYTES)

    @property
    def severity(self) -> int:
        """How unfit to lead this node is, as last set."""
        return self._state.severity

    @property
    def is_cut_off(self) -> bool:
        """This node cannot take part in what the cluster does, and others may well go on without it."""
        return self._state.reach.is_cut_off

    @property
    def membership(self) -> Membership:
        """The configuration in force: the last one appended, committed or not."""
        return self._state.membership

    @property
    def log_bytes(self) -> int:
        """Payload of the log in memory, with a fixed overhead per entry."""
        return self._state.log.bytes

    def term_at(self, index: int) -> int | None:
        """The term of the entry at `index`; None if it is compacted or beyond the end."""
        return self._state.log.term_at(index)

    def entry(self, index: int) -> Entry:
        """The entry at `index`, which must be in `first_index` .. `last_index`."""
        return self._state.log.entry(index)

    def membership_at(self, index: int) -> Membership:
        """The configuration in force at `index` (>= the base of the log): what a snapshot there must name."""
        return self._state.memberships.at(index)

    def status(self) -> RaftStatus:
        state, leader = self._state, self._role if isinstance(self._role, Leader) else None
        return RaftStatus(
            node_id=state.node_id,
            term=state.term,
            vote=state.vote,
            role=self._role.name,
            leader=state.leader,
            first_index=state.log.first_index,
            last_index=state.log.last_index,
            commit_index=state.log.commit_index,
            applied_index=state.log.applied_index,
            saved_index=state.log.saved_index,
            log_bytes=state.log.bytes,
            membership=state.membership,
            saves_in_flight=len(state.saves),
            severity=state.severity,
            is_cut_off=state.reach.is_cut_off,
            transfer_target=leader.transfer_target if leader else NO_NODE,
            uncommitted_bytes=leader.uncommitted_bytes if leader else 0,
            followers=leader.replication.status(state) if leader else {},
        )

    def check(self) -> None:
        """Every invariant. For tests and the simulator: costs time in the length of the log."""
        state = self._state
        state.log.check()
        state.membership.check()
        assert state.memberships.current_index <= state.log.last_index, "a truncated membership is in force"
        assert state.term >= state.log.last_term, f"term {state.term} behind the log's {state.log.last_term}"
        assert state.saves.durable_term <= state.term, f"durable term {state.saves.durable_term} > {state.term}"
        leads = isinstance(self._role, Leader)
        assert leads == (state.leader == state.node_id), f"a {self._role.name.value} whose leader is {state.leader}"
        if isinstance(self._role, Leader):
            self._role.check(state)
        if isinstance(self._role, Candidate | Leader):
            assert state.vote == state.node_id, f"a {self._role.name.value} that voted for {state.vote}"

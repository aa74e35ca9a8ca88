"""What every role shares: term, vote, log, membership, timers, and the outbox that becomes the next `Ready`.

Roles read it, extend the log and fill the outbox. They do not touch `term` and `vote`, and they do not change role: a
handler *returns* a `Transition`, which `roles.Roles` carries out.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from raftkv.raft.config import RaftConfig
from raftkv.raft.log import Log
from raftkv.raft.membership import MembershipHistory
from raftkv.raft.messages import AppendResponse, Message, VoteRequest, VoteResponse
from raftkv.raft.notices import Loss, Notice
from raftkv.raft.patience import Patience
from raftkv.raft.reach import Reach
from raftkv.raft.ready import ReadState
from raftkv.raft.saves import Saves
from raftkv.raft.types import NO_NODE, Entry, HardState, Membership, NodeId, SnapshotMeta

UNLIMITED_BYTES = 2**63
TURNS_PER_TIMEOUT = 5
"""A turn lasts this part of the election timeout: an election on a busy machine takes less."""
SICK_DELAY_TIMEOUTS = 2
"""How much longer a node waits that is unfit to lead: anybody else has been elected by then, if that could be."""


@dataclass(frozen=True, slots=True)
class ToFollower:
    term: int
    leader: NodeId = NO_NODE
    cause: Loss = Loss.REFUSED
    """Why, for the record, if this node is more than a follower."""
    by: NodeId = NO_NODE
    """Whose message told it; for the record."""


@dataclass(frozen=True, slots=True)
class ToPreCandidate:
    pass


@dataclass(frozen=True, slots=True)
class ToCandidate:
    leadership_transfer: bool = False


@dataclass(frozen=True, slots=True)
class ToLeader:
    pass


Transition = ToFollower | ToPreCandidate | ToCandidate | ToLeader


@dataclass(slots=True)
class Outbox:
    """What the next `Ready` will carry."""

    messages: list[Message] = field(default_factory=list)
    after_save: list[Message] = field(default_factory=list)
    read_states: list[ReadState] = field(default_factory=list)
    snapshots_wanted: list[NodeId] = field(default_factory=list)
    install: SnapshotMeta | None = None
    proposals_rejected: bool = False
    notices: list[Notice] = field(default_factory=list)

    def is_empty(self) -> bool:
        return not (
            self.messages
            or self.after_save
            or self.read_states
            or self.snapshots_wanted
            or self.install is not None
            or self.proposals_rejected
            or self.notices
        )


@dataclass(slots=True)
class State:
    """The role-independent half of one node.

    Invariants: `term` never falls; `vote` changes only from nobody to somebody within a term.
    """

    config: RaftConfig
    rng: random.Random
    log: Log
    memberships: MembershipHistory
    saves: Saves
    term: int
    vote: NodeId
    leader: NodeId = NO_NODE
    outbox: Outbox = field(default_factory=Outbox)
    election_elapsed_ticks: int = 0
    """Since the last word from a leader, the last vote granted, or the start of a campaign; nothing else resets it."""
    election_offset_ticks: int = 0
    """Added to the election timeout in force: so that not everybody campaigns at once."""
    severity: int = 0
    """How unfit to lead this node finds itself; 0: not at all. The shell judges (`Raft.set_severity`)."""
    leader_gone: bool = False
    """There is evidence that the leader leads no more (its process is dead, it resigned): its lease on our vote is void."""
    _heard_leader: tuple[int, NodeId] = (0, NO_NODE)
    """Term and id of the leader that was heard last: silences count between two words of one leader."""
    _silent_ticks: int = 0
    """Since then, whatever this node has done meanwhile."""
    patience: Patience = field(init=False)
    reach: Reach = field(init=False)

    def __post_init__(self) -> None:
        self.patience = Patience(self.config.election_timeout_ticks)
        self.reach = Reach(self.config.election_timeout_ticks)

    @property
    def node_id(self) -> NodeId:
        return self.config.node_id

    @property
    def membership(self) -> Membership:
        return self.memberships.current

    @property
    def hard_state(self) -> HardState:
        return HardState(self.term, self.vote, self.log.commit_index)

    @property
    def is_voter(self) -> bool:
        return self.memberships.current.is_voter(self.config.node_id)

    @property
    def may_campaign(self) -> bool:
        """Whether this node votes, or did until a change that is not known to be committed.

        The latter may be needed: it may be the only one left that has the entry which removes it, while those who are to
        carry on lack it and can get no majority. Its own vote does not count then (dissertation §4.2.2).
        """
        return self.memberships.is_voter_since(self.log.commit_index, self.config.node_id)

    @property
    def peers(self) -> tuple[NodeId, ...]:
        """Everybody else who votes, in ascending order."""
        membership = self.memberships.current
        return tuple(sorted((membership.voters | membership.outgoing_voters) - {self.config.node_id}))

    @property
    def in_lease(self) -> bool:
        """A leader was heard within an election timeout: no (pre-)vote is given away (dissertation §4.2.3, §6.4)."""
        return (
            self.leader != NO_NODE
            and not self.leader_gone
            and (self.leader == self.config.node_id or self.election_elapsed_ticks < self.timeout_ticks)
        )

    @property
    def timeout_ticks(self) -> int:
        """The election timeout in force: the configured one, or more where experience asks for it."""
        return self.patience.timeout_ticks

    @property
    def election_timed_out(self) -> bool:
        """Whether to campaign. Who is unfit to lead lets the others go first, but does not wait for ever."""
        timeout_ticks = self.timeout_ticks
        delay_ticks = SICK_DELAY_TIMEOUTS * timeout_ticks if self.severity else 0
        return self.election_elapsed_ticks >= timeout_ticks + self.election_offset_ticks + delay_ticks

    @property
    def has_committed_in_term(self) -> bool:
        """Until then the commit index may lag the previous leader's (dissertation §6.4)."""
        return self.log.term_at(self.log.commit_index) == self.term

    @property
    def rank(self) -> int:
        """This node's place among those who may succeed the leader: every one of them knows the same order."""
        membership = self.memberships.current
        heirs = sorted((membership.voters | membership.outgoing_voters) - {self.leader})
        return heirs.index(self.config.node_id) if self.config.node_id in heirs else len(heirs)

    def draw_election_timeout(self, *, after_pre_vote: bool = False) -> None:
        """When to campaign, should nothing be heard: a little chance keeps candidates from splitting the votes.

        All followers of a leader fall silent at the same moment. They take turns by rank, each long enough for an election,
        so the first has won before the second asks. The first waits two ticks: the others' leases must have run out, too.

        With nobody to take turns after, chance alone decides (Raft paper §9.3): within one timeout. A pre-vote that was not
        won costs nobody anything, and is tried again sooner.
        """
        timeout_ticks = self.timeout_ticks
        if self.leader != NO_NODE:
            turn_ticks = max(2, timeout_ticks // TURNS_PER_TIMEOUT)
            self.election_offset_ticks = 2 + self.rank * turn_ticks + self.rng.randrange(max(1, turn_ticks // 2))
        else:
            offset_ticks = self.rng.randrange(timeout_ticks)
            self.election_offset_ticks = (offset_ticks - timeout_ticks) // 2 if after_pre_vote else offset_ticks

    def tick(self) -> None:
        """What passes with time whatever the role."""
        self._silent_ticks += 1
        self.saves.tick(self.log.commit_index)
        self.patience.tick()
        self.reach.tick(self.node_id, self.leader, self.membership, self.timeout_ticks)

    def heard_leader(self) -> None:
        if self._heard_leader == (self.term, self.leader):
            self.patience.heard_after(self._silent_ticks)
        self._heard_leader = (self.term, self.leader)
        self._silent_ticks = self.election_elapsed_ticks = 0
        self.leader_gone = False

    def take_turn(self) -> bool:
        """The leader is gone for certain: waiting for it makes no sense. True: it is this node's turn to succeed it."""
        self.leader_gone = True
        self.election_elapsed_ticks = max(self.election_elapsed_ticks, self.timeout_ticks + 2)
        return self.rank == 0 and not self.severity

    def note(self, notice: Notice) -> None:
        """Explain a decision; see `raftkv.raft.notices`."""
        self.outbox.notices.append(notice)

    def send(self, message: Message) -> None:
        """May leave at once."""
        assert message.receiver != self.config.node_id, f"message to self: {message}"
        self.outbox.messages.append(message)

    def send_after_save(self, message: VoteRequest | VoteResponse) -> None:
        """Promises about our term and vote: only once they are on disk.

        A VoteRequest is one too: it vouches for a log that may not be on disk yet. Were it sent at once, a candidate that
        crashes and comes back with a shorter log could campaign in the same term and be elected by votes for the longer.
        """
        self.outbox.after_save.append(message)

    def acknowledge(self, leader: NodeId, prev_index: int, match_index: int) -> None:
        """Tell the leader that our log matches up to `match_index`, once that is on disk."""
        response = AppendResponse(
            sender=self.config.node_id,
            receiver=leader,
            term=self.term,
            prev_index=prev_index,
            accepted=True,
            match_index=match_index,
        )
        if self.saves.durable_term == self.term and match_index <= self.log.saved_index:
            self.send(response)
            return
        after_save = self.outbox.after_save
        last = after_save[-1] if after_save else None
        if isinstance(last, AppendResponse) and last.match_index <= match_index and last.receiver == leader:
            after_save.pop()  # The higher acknowledgement says it all; both would leave at the same moment.
        after_save.append(response)

    def append(self, entries: Sequence[Entry]) -> bool:
        """Extend the log; True if the membership changed with it."""
        self.log.append(entries)
        return self.memberships.append(entries)

    def append_from_leader(self, entries: Sequence[Entry]) -> None:
        """Take over what a leader sent behind a matching entry; what conflicts is cut off, with its memberships."""
        position = self.log.first_new(entries)
        new = entries[position:]
        if not new:
            return
        if new[0].index <= self.log.last_index:
            self.log.truncate_from(new[0].index)
            self.saves.truncated_from(new[0].index)
            self.memberships.truncate_from(new[0].index)
        self.append(new)

    def restore(self, snapshot: SnapshotMeta) -> None:
        """The log starts anew behind a snapshot."""
        self.log.reset(snapshot.index, snapshot.term)
        self.saves.truncated_from(1)
        self.memberships = MembershipHistory(snapshot.index, snapshot.membership)
        self.outbox.install = snapshot

"""Changes of the membership: asked of any node, checked and proposed by the leader, one after the other.

    add, remove, promote ─► leads here?  no ──► the leader, over the peers' port ─┐
                               │ yes                                              │
                               ▼                                                  ▼
                 what is applied ─► is it possible, is it safe? ─► log ─► committed ─► the table after it

A change whose outcome got lost is looked for before it is asked for again: ids are drawn once, where the request came in, so a
member is never added twice.

What may not live here: the member table's own rules (`statemachine.members`), who votes (Raft), sockets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection

from raftkv.config import are_urls
from raftkv.errors import (
    BAD_MEMBER_URLS,
    LEADER_CHANGED,
    LEARNER_NOT_READY,
    NOT_ENOUGH_STARTED,
    TIMED_OUT,
    UNHEALTHY,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Outcome,
    RequestError,
    Unavailable,
    Unimplemented,
)
from raftkv.node.node import Node
from raftkv.node.transfer import move_leader
from raftkv.pb import rpc_pb2, store_pb2
from raftkv.raft import MembershipChange, MembershipChangeRefused, NotLeader, RoleName
from raftkv.raft.errors import LearnerNotReady
from raftkv.raft.types import Membership, NodeId
from raftkv.statemachine import MemberTable
from raftkv.statemachine.members import after_change, check_change

Change = store_pb2.MemberChange
Forward = Callable[[NodeId, Change, float], Awaitable[MemberTable]]

LOOK_AGAIN_S = 0.005
TRY_AGAIN_S = 0.05
"""After the leader was lost or would not take it now."""
HAND_OVER_S = 2.0
HEALTH_WAIT_S = 1.0
FORWARD_S = 3.0
"""A leader that has not answered by then may hang: another one is looked for, and what became of the change."""


NEW_MEMBER_BYTES_MAX = 64 * 1024
"""The member table is sent whole, to whoever asks."""
NOT_NEW = "raftkv: a new member has an id, and no name and no client URLs before it has started"
UNKNOWN_CHANGE = "raftkv: a change of the members of a kind that this version does not know"


class Members:
    """The membership, as one node can change it.

    Args:
        forward: carries a change to the leader and brings back what became of it.
        connected: the peers to which there is a stream: one that broke tells earlier of a death than silence does.
    """

    def __init__(self, node: Node, forward: Forward, connected: Callable[[], Collection[NodeId]]) -> None:
        self._node = node
        self._forward = forward
        self._connected = connected
        self._one_at_a_time = asyncio.Lock()

    async def change(self, change: Change, *, timeout_s: float) -> MemberTable:
        """Return the member table after the change, which is committed then, through an election if need be.

        Raises:
            NotFound, FailedPrecondition: the table does not admit it.
            Unavailable: it would endanger the quorum (UNHEALTHY), or it could not be done in time; see `outcome`.
        """
        end = asyncio.get_running_loop().time() + timeout_s
        outcome = Outcome.NOT_APPLIED
        while (remaining_s := end - asyncio.get_running_loop().time()) > 0:
            try:
                return await self._try(change, remaining_s, is_again=outcome is Outcome.UNKNOWN)
            except (Unavailable, DeadlineExceeded) as error:
                if error.message == UNHEALTHY or self._node.stopped.done():
                    raise
                if error.outcome is Outcome.UNKNOWN:
                    outcome = Outcome.UNKNOWN
            await asyncio.sleep(TRY_AGAIN_S)
        raise Unavailable(TIMED_OUT, outcome=outcome)

    async def _try(self, change: Change, timeout_s: float, *, is_again: bool) -> MemberTable:
        node = self._node
        try:
            async with asyncio.timeout(timeout_s):
                await node.wait_for_leader()
        except TimeoutError:
            raise Unavailable(TIMED_OUT, outcome=Outcome.NOT_APPLIED) from None
        if is_again and (table := await self._done_already(change, timeout_s)) is not None:
            return table
        try:
            if node.raft.role is RoleName.LEADER:
                return await self.lead(change, timeout_s=timeout_s)
            return await self._forward(node.raft.leader, change, min(timeout_s, FORWARD_S))
        except (NotFound, FailedPrecondition):
            # The earlier attempt may have come about since we looked: then it is what stands in the way of this one.
            if is_again and (table := await self._done_already(change, timeout_s)) is not None:
                return table
            raise

    async def _done_already(self, change: Change, timeout_s: float) -> MemberTable | None:
        """The member table, if it shows that an earlier attempt took effect."""
        table = await self._node.read(lambda machine: machine.table, timeout_s=timeout_s)
        return table if is_done(table, change) else None

    async def lead(self, change: Change, *, timeout_s: float) -> MemberTable:
        """Carry a change out, on the leader.

        Raises:
            InvalidArgument, Unimplemented: it is none that a node of this version asks for.
            NotFound, FailedPrecondition, Unavailable: as `change`; Unavailable also if this node does not lead (any more).
        """
        change = well_formed(change)
        async with self._one_at_a_time:
            table = await self._node.read(lambda machine: machine.table, timeout_s=timeout_s)
            raft = self._node.raft
            term = raft.term
            check_change(table, change)
            await self._safe(table, change)
            if change.remove == raft.node_id:
                await self._hand_over()
            if (raft.role, raft.term) != (RoleName.LEADER, term):  # Another leader may have changed what was checked.
                raise Unavailable(LEADER_CHANGED, outcome=Outcome.NOT_APPLIED)
            index = self._propose(change)
            await self._committed(index, raft.term)
            return after_change(table, change.SerializeToString())

    async def _safe(self, table: MemberTable, change: Change) -> None:
        """As `check_safe`, with a moment's patience: a new leader has not heard from everybody yet."""
        end = asyncio.get_running_loop().time() + HEALTH_WAIT_S
        while True:
            try:
                check_safe(table, change, self._node.raft.membership, self._active())
                return
            except Unavailable:
                if self._node.raft.role is not RoleName.LEADER:
                    raise Unavailable(LEADER_CHANGED, outcome=Outcome.NOT_APPLIED) from None
                if asyncio.get_running_loop().time() > end:
                    raise
            await asyncio.sleep(LOOK_AGAIN_S)

    def _active(self) -> set[NodeId]:
        """Who has answered this leader, and lately, and has not gone since."""
        raft, connected = self._node.raft, self._connected()
        followers = raft.status().followers.items()
        answering = {node for node, one in followers if one.recent_active and one.match_index and node in connected}
        return answering | {raft.node_id}

    async def _hand_over(self) -> None:
        """A leader is not removed while another one can do it: that would leave a moment without a leader.

        Raises:
            Unavailable: somebody else leads now.
        """
        status = self._node.raft.status()
        voters = {node: one for node, one in status.followers.items() if not one.is_learner and one.recent_active}
        if not voters:
            return
        successor = max(voters, key=lambda node: (voters[node].match_index, node))
        try:
            await move_leader(self._node, successor, timeout_s=HAND_OVER_S)
        except RequestError:
            if self._node.raft.role is RoleName.LEADER:
                return  # It goes without, then.
        raise Unavailable(LEADER_CHANGED, outcome=Outcome.NOT_APPLIED)

    def _propose(self, change: Change) -> int:
        current = self._node.raft.membership
        voters, learners = set(current.voters), set(current.learners)
        match change.WhichOneof("change"):
            case "add":
                (learners if change.add.isLearner else voters).add(change.add.ID)
            case "remove":
                voters.discard(change.remove)
                learners.discard(change.remove)
            case "promote":
                learners.discard(change.promote)
                voters.add(change.promote)
        wanted = MembershipChange(voters=frozenset(voters), learners=frozenset(learners))
        try:
            return self._node.propose_membership(wanted, change.SerializeToString())
        except LearnerNotReady:
            raise FailedPrecondition(LEARNER_NOT_READY) from None
        except (MembershipChangeRefused, NotLeader):  # It is not the time for it.
            raise Unavailable(LEADER_CHANGED, outcome=Outcome.NOT_APPLIED) from None

    async def _committed(self, index: int, term: int) -> None:
        """Return once the entry is committed.

        Raises:
            Unavailable: leadership was lost before that was known; the outcome is unknown.
        """
        raft = self._node.raft
        while raft.commit_index < index and (raft.term, raft.role) == (term, RoleName.LEADER):
            if self._node.stopped.done():
                break
            await asyncio.sleep(LOOK_AGAIN_S)
        if raft.commit_index < index or raft.term_at(index) != term:
            raise Unavailable(LEADER_CHANGED, outcome=Outcome.UNKNOWN)


def well_formed(change: Change) -> Change:
    """A change as it may stand in the log. It may have come over the peers' port, where anybody can call.

    Raises:
        InvalidArgument: a new member without an id, without URLs that every node can use, or as if it had started already.
        Unimplemented: not a kind of change that this version knows.
    """
    change.DiscardUnknownFields()
    match change.WhichOneof("change"):
        case "add":
            new = change.add
            if not are_urls(new.peerURLs) or new.ByteSize() > NEW_MEMBER_BYTES_MAX:
                raise InvalidArgument(BAD_MEMBER_URLS)
            if new != rpc_pb2.Member(ID=new.ID, peerURLs=new.peerURLs, isLearner=new.isLearner) or not new.ID:
                raise InvalidArgument(NOT_NEW)
        case None:
            raise Unimplemented(UNKNOWN_CHANGE)
    return change


def is_done(table: MemberTable, change: Change) -> bool:
    """Whether the table shows that a change took effect."""
    match change.WhichOneof("change"):
        case "add":
            return table.member(change.add.ID) is not None or change.add.ID in table.removed
        case "remove":
            return change.remove in table.removed
        case _:
            member = table.member(change.promote)
            return member is not None and not member.isLearner


def check_safe(table: MemberTable, change: Change, membership: Membership, active: Collection[NodeId]) -> None:
    """Refuse what could leave the cluster without a quorum; the rules are etcd's (strict-reconfig-check).

    etcd wants its members to have been connected for five seconds; here they must have answered within an election timeout.

    Raises:
        FailedPrecondition: too few of those who would vote have ever started, or a learner to be promoted is not there.
        Unavailable: too few of them answer.
    """
    voters = membership.voters
    started = {member.ID for member in table.members if member.name}
    match change.WhichOneof("change"):
        case "add" if change.add.isLearner:
            _check_all_answer(voters, active)
        case "add":
            is_rescue = len(voters) == 2 and len(voters & started) == 1  # One of two is to be replaced.
            if not is_rescue and len(voters & started) < _majority(voters):
                raise FailedPrecondition(NOT_ENOUGH_STARTED)
            if len(voters) < _majority(voters | {change.add.ID}):
                # A change is in force once it is in the log: the second voter would have to confirm its own addition, and
                # until it is started nobody leads. So it is added as a learner first, and promoted.
                raise FailedPrecondition(NOT_ENOUGH_STARTED)
            _check_all_answer(voters, active)
        case "remove" if change.remove in voters:
            _check_majority(voters - {change.remove}, started, active)
        case "promote":
            if change.promote not in active:
                raise FailedPrecondition(LEARNER_NOT_READY)
            _check_majority(voters | {change.promote}, started | {change.promote}, active)


def _check_all_answer(voters: frozenset[NodeId], active: Collection[NodeId]) -> None:
    if not voters.issubset(active):
        raise Unavailable(UNHEALTHY, outcome=Outcome.NOT_APPLIED)


def _check_majority(voters: frozenset[NodeId], started: Collection[NodeId], active: Collection[NodeId]) -> None:
    if len(voters & set(started)) < _majority(voters):
        raise FailedPrecondition(NOT_ENOUGH_STARTED)
    if len(voters & set(active)) < _majority(voters):
        raise Unavailable(UNHEALTHY, outcome=Outcome.NOT_APPLIED)


def _majority(voters: frozenset[NodeId]) -> int:
    return len(voters) // 2 + 1

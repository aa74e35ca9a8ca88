"""The member table: who is a member, where each is reached, who is none any more; and what changes it.

Pure functions of plain values. Removed ids are kept for good (8 bytes each): a member that comes back after its removal is told so,
and no id is used twice.

What may not live here: who votes (`raftkv.raft`), and whether a change is wise (`raftkv.node.members`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from raftkv.errors import (
    MEMBER_EXISTS,
    MEMBER_NOT_FOUND,
    NOT_A_LEARNER,
    PEER_URLS_EXIST,
    TOO_MANY_LEARNERS,
    FailedPrecondition,
    NotFound,
    RequestError,
)
from raftkv.pb import rpc_pb2, store_pb2
from raftkv.raft.types import NodeId

LEARNERS_MAX = 1
"""As in etcd: the leader feeds each of them, and they are to be promoted, not collected."""


@dataclass(frozen=True, slots=True)
class MemberTable:
    """Members in ascending order of ids. Nobody changes a message that is in it."""

    members: tuple[rpc_pb2.Member, ...] = ()
    removed: frozenset[NodeId] = frozenset()

    def member(self, node: NodeId) -> rpc_pb2.Member | None:
        return next((member for member in self.members if node == member.ID), None)

    def with_member(self, member: rpc_pb2.Member) -> MemberTable:
        """A member added, or put in place of the one with its id."""
        others = [other for other in self.members if member.ID != other.ID]
        return MemberTable(tuple(sorted([*others, member], key=lambda one: one.ID)), self.removed)

    def without(self, node: NodeId) -> MemberTable:
        return MemberTable(tuple(one for one in self.members if node != one.ID), self.removed | {node})

    def message(self) -> store_pb2.MemberTable:
        return store_pb2.MemberTable(members=self.members, removed=sorted(self.removed))

    def encode(self) -> bytes:
        return self.message().SerializeToString(deterministic=True)

    @staticmethod
    def of(message: store_pb2.MemberTable) -> MemberTable:
        return MemberTable(tuple(message.members), frozenset(message.removed))

    @staticmethod
    def decode(data: bytes) -> MemberTable:
        """The inverse of `encode`.

        Raises:
            ValueError: not a member table.
        """
        try:
            return MemberTable.of(store_pb2.MemberTable.FromString(data))
        except DecodeError as error:
            raise ValueError(f"not a member table: {error}") from error


def check_change(table: MemberTable, change: store_pb2.MemberChange) -> None:
    """Whether the table admits a change of the membership; the texts are etcd's.

    Raises:
        NotFound, FailedPrecondition
    """
    match change.WhichOneof("change"):
        case "add":
            _check_add(table, change.add)
        case "remove":
            _known(table, change.remove)
        case "promote":
            if not _known(table, change.promote).isLearner:
                raise FailedPrecondition(NOT_A_LEARNER)
        case unknown:
            raise AssertionError(f"a change of kind {unknown}")


def _check_add(table: MemberTable, new: rpc_pb2.Member) -> None:
    if new.ID in table.removed or table.member(new.ID) is not None:
        raise FailedPrecondition(MEMBER_EXISTS)
    if _taken(table, new.peerURLs):
        raise FailedPrecondition(PEER_URLS_EXIST)
    if new.isLearner and sum(member.isLearner for member in table.members) >= LEARNERS_MAX:
        raise FailedPrecondition(TOO_MANY_LEARNERS)


def after_change(table: MemberTable, data: bytes) -> MemberTable:
    """The table after the log entry that holds this change.

    It is not checked again: the leader did, and whoever replays the log on top of a later table must end at that table.

    Raises:
        ValueError: not a change that this version knows.
    """
    try:
        change = store_pb2.MemberChange.FromString(data)
    except DecodeError as error:
        raise ValueError(f"not a change of the members: {error}") from error
    match change.WhichOneof("change"):
        case "add":
            return table.with_member(change.add)
        case "remove":
            return table.without(change.remove)
        case "promote":
            learner = table.member(change.promote)
            return table if learner is None else table.with_member(_altered(learner, isLearner=False))
        case unknown:
            raise ValueError(f"a change of the members of kind {unknown}, which this raftkv does not know")


def published(table: MemberTable, announced: rpc_pb2.Member) -> MemberTable | RequestError:
    """After a member has said its name and client URLs."""
    member = table.member(announced.ID)
    if member is None:
        return NotFound(MEMBER_NOT_FOUND)
    return table.with_member(_altered(member, name=announced.name, clientURLs=announced.clientURLs))


def updated(table: MemberTable, request: rpc_pb2.MemberUpdateRequest) -> MemberTable | RequestError:
    """After a member got other peer URLs."""
    member = table.member(request.ID)
    if member is None:
        return NotFound(MEMBER_NOT_FOUND)
    if _taken(table, request.peerURLs, but_for=request.ID):
        return FailedPrecondition(PEER_URLS_EXIST)
    return table.with_member(_altered(member, peerURLs=request.peerURLs))


def _altered(member: rpc_pb2.Member, **fields: object) -> rpc_pb2.Member:
    kept = {name: getattr(member, name) for name in ("ID", "name", "peerURLs", "clientURLs", "isLearner")}
    return rpc_pb2.Member(**kept | fields)


def _known(table: MemberTable, node: NodeId) -> rpc_pb2.Member:
    member = table.member(node)
    if member is None:
        raise NotFound(MEMBER_NOT_FOUND)
    return member


def _taken(table: MemberTable, urls: Iterable[str], *, but_for: NodeId = 0) -> bool:
    taken = {url for member in table.members if member.ID != but_for for url in member.peerURLs}
    return not taken.isdisjoint(urls)

"""Majorities: of one set of voters, and of both halves of a joint configuration (dissertation §4.3).

Pure functions of a `Membership` and of facts about its voters. Learners never count. In a joint configuration both halves
must agree *separately*: a majority of the union is not enough.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from enum import Enum

from raftkv.raft.types import Membership, NodeId


class VoteResult(Enum):
    WON = "won"
    LOST = "lost"
    PENDING = "pending"


def majority(count: int) -> int:
    """The smallest number that is more than half: 2 of 3, 3 of 4, 3 of 5."""
    return count // 2 + 1


def quorum_index(membership: Membership, reached: Callable[[NodeId], int]) -> int:
    """The highest number that a quorum has reached: log indexes, or rounds of heartbeats.

    Source: Raft paper §5.3: an entry is committed once it is on a majority of the voters.
    """
    assert membership.voters, "a membership without voters has no quorum"
    index = _majority_index(membership.voters, reached)
    if membership.outgoing_voters:
        index = min(index, _majority_index(membership.outgoing_voters, reached))
    return index


def _majority_index(voters: frozenset[NodeId], reached: Callable[[NodeId], int]) -> int:
    ascending = sorted(map(reached, voters))
    return ascending[len(ascending) - majority(len(ascending))]


def has_quorum(membership: Membership, nodes: Collection[NodeId]) -> bool:
    """Whether `nodes` hold a majority of the voters, of each half if there are two."""
    assert membership.voters, "a membership without voters has no quorum"
    if sum(voter in nodes for voter in membership.voters) < majority(len(membership.voters)):
        return False
    outgoing = membership.outgoing_voters
    return not outgoing or sum(voter in nodes for voter in outgoing) >= majority(len(outgoing))


def vote_result(membership: Membership, votes: Mapping[NodeId, bool]) -> VoteResult:
    """How an election stands. Votes of nodes that are no voters are ignored."""
    if has_quorum(membership, {node for node, granted in votes.items() if granted}):
        return VoteResult.WON
    still_possible = {node for node in membership.members if votes.get(node, True)}
    return VoteResult.PENDING if has_quorum(membership, still_possible) else VoteResult.LOST

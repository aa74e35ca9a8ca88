"""Membership changes: which configuration follows which, and which one is in force.

A configuration is in force from the moment its entry is appended (dissertation §4.1), so a truncation must bring the one
before it back: `MembershipHistory` keeps those that are still in the log. Several voters change through a joint
configuration (§4.3); a single one may change directly, since any two majorities then still overlap (§4.1).

What may not live here: when a change may be proposed (`leader`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from raftkv.raft.errors import MembershipChangeRefused
from raftkv.raft.types import Entry, Membership, NodeId


@dataclass(frozen=True, slots=True, kw_only=True)
class MembershipChange:
    """The membership wanted in the end. The core finds the way: directly, or through a joint configuration."""

    voters: frozenset[NodeId]
    learners: frozenset[NodeId] = frozenset()


def next_membership(current: Membership, change: MembershipChange) -> Membership:
    """The configuration to append now so that `change` is reached; joint if more than one voter differs.

    Raises:
        MembershipChangeRefused: a change is under way, or this one is malformed.
    """
    if current.is_joint:
        raise MembershipChangeRefused("the previous change is still in its joint phase")
    if not change.voters:
        raise MembershipChangeRefused("no voters would be left")
    if change.voters & change.learners:
        raise MembershipChangeRefused(f"both voter and learner: {sorted(change.voters & change.learners)}")
    if not all(0 < node < 2**64 for node in change.voters | change.learners):
        raise MembershipChangeRefused("a node id is not in 1 .. 2**64-1")
    if len(current.voters ^ change.voters) <= 1:
        return Membership(voters=change.voters, learners=change.learners)
    return Membership(
        voters=change.voters,
        outgoing_voters=current.voters,
        learners=change.learners - current.voters,
        learners_next=change.learners & current.voters,
    )


def leave_joint(current: Membership) -> Membership:
    """The configuration that ends a joint phase."""
    assert current.is_joint, "there is no joint phase to leave"
    return Membership(voters=current.voters, learners=current.learners | current.learners_next)


class MembershipHistory:
    """The configurations of the log's base and of every MEMBERSHIP entry behind it; the last one is in force."""

    __slots__ = ("_steps",)

    def __init__(self, base_index: int, base: Membership) -> None:
        base.check()
        self._steps: list[tuple[int, Membership]] = [(base_index, base)]

    @property
    def current(self) -> Membership:
        return self._steps[-1][1]

    @property
    def current_index(self) -> int:
        """Where the configuration in force was appended."""
        return self._steps[-1][0]

    def at(self, index: int) -> Membership:
        """The configuration that was in force when the log ended at `index`."""
        for since, membership in reversed(self._steps):
            if since <= index:
                return membership
        raise AssertionError(f"no membership is known at {index}, the base is {self._steps[0][0]}")

    def is_voter_since(self, index: int, node: NodeId) -> bool:
        """Whether `node` votes in the configuration in force at `index`, or in any later one."""
        for since, membership in reversed(self._steps):
            if membership.is_voter(node):
                return True
            if since <= index:
                break
        return False

    def append(self, entries: Iterable[Entry]) -> bool:
        """Take note of the MEMBERSHIP entries among `entries`; True if there was one."""
        changed = False
        for entry in entries:
            if entry.membership is not None:
                assert entry.index > self.current_index, f"membership at {entry} behind {self.current_index}"
                entry.membership.check()
                self._steps.append((entry.index, entry.membership))
                changed = True
        return changed

    def truncate_from(self, index: int) -> None:
        """Roll back every change at or behind `index`."""
        assert index > self._steps[0][0], f"truncation from {index} reaches the base {self._steps[0][0]}"
        while self._steps[-1][0] >= index:
            self._steps.pop()

    def compact(self, index: int) -> None:
        """The base moved up to `index`."""
        base = self.at(index)
        self._steps = [(index, base)] + [step for step in self._steps if step[0] > index]

"""Quorums against brute force: what a majority is, worked out by trying every subset."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftkv.raft import Membership
from raftkv.raft.quorum import VoteResult, has_quorum, majority, quorum_index, vote_result

NODES = range(1, 8)
voter_sets = st.frozensets(st.sampled_from(NODES), min_size=1, max_size=7)
memberships = st.builds(
    lambda incoming, outgoing, rest: Membership(
        voters=incoming, outgoing_voters=outgoing, learners=rest - incoming - outgoing
    ),
    voter_sets,
    st.one_of(st.just(frozenset()), voter_sets),
    st.frozensets(st.sampled_from(NODES)),
)


def subsets_with_quorum(membership: Membership) -> list[set[int]]:
    """Every set of nodes in which each half has more than half of its own."""
    halves = [half for half in (membership.voters, membership.outgoing_voters) if half]
    return [
        set(chosen)
        for count in range(len(NODES) + 1)
        for chosen in combinations(NODES, count)
        if all(2 * len(half & set(chosen)) > len(half) for half in halves)
    ]


@pytest.mark.parametrize(("count", "needed"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (6, 4), (7, 4)])
def test_a_majority_is_more_than_half(count: int, needed: int) -> None:
    """Bug 11 of the known-bugs list: off by one for even sizes."""
    assert majority(count) == needed


@given(memberships, st.sets(st.sampled_from(NODES)))
def test_has_quorum_agrees_with_brute_force(membership: Membership, nodes: set[int]) -> None:
    assert has_quorum(membership, nodes) == any(subset <= nodes for subset in subsets_with_quorum(membership))


@given(memberships, st.lists(st.integers(0, 20), min_size=7, max_size=7))
def test_quorum_index_agrees_with_brute_force(membership: Membership, reached: list[int]) -> None:
    by_node = dict(zip(NODES, reached, strict=True))
    best = max(min((by_node[node] for node in subset), default=0) for subset in subsets_with_quorum(membership))

    assert quorum_index(membership, by_node.__getitem__) == best


@given(memberships, st.dictionaries(st.sampled_from(NODES), st.booleans()))
def test_vote_result_agrees_with_brute_force(membership: Membership, votes: dict[int, bool]) -> None:
    winning = subsets_with_quorum(membership)
    granted = {node for node, vote in votes.items() if vote}
    refused = {node for node, vote in votes.items() if not vote}

    expected = VoteResult.PENDING
    if any(subset <= granted for subset in winning):
        expected = VoteResult.WON
    elif all(subset & refused for subset in winning):
        expected = VoteResult.LOST
    assert vote_result(membership, votes) == expected


@given(memberships, st.sets(st.sampled_from(NODES)))
def test_learners_never_count(membership: Membership, nodes: set[int]) -> None:
    """Bug 11 of the known-bugs list: learners counted."""
    assert has_quorum(membership, nodes) == has_quorum(membership, nodes - membership.learners)


@given(memberships)
def test_two_quorums_always_share_a_node(membership: Membership) -> None:
    quorums = subsets_with_quorum(membership)

    assert all(one & other for one in quorums for other in quorums)


def test_a_joint_quorum_is_not_a_majority_of_the_union() -> None:
    """Bug 37 of the known-bugs list: 3 of {1..5} are a majority of the union, but only 1 of the old half {1, 2, 3}."""
    joint = Membership(voters=frozenset({3, 4, 5}), outgoing_voters=frozenset({1, 2, 3}))

    assert not has_quorum(joint, {3, 4, 5})
    assert not has_quorum(joint, {1, 2, 4})
    assert has_quorum(joint, {1, 3, 4})

"""Membership changes: direct, joint, refused, rolled back."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftkv.raft import (
    AppendResponse,
    Entry,
    EntryKind,
    HeartbeatRequest,
    Membership,
    MembershipChange,
    MembershipChangeRefused,
    NotLeader,
    PreVoteRequest,
    RoleName,
    VoteRequest,
)
from raftkv.raft.membership import MembershipHistory, leave_joint, next_membership
from raftkv.raft.quorum import has_quorum
from tests.raft.cluster import Group, change, cluster, voters

node_sets = st.frozensets(st.integers(1, 6), min_size=1)


@given(node_sets, st.frozensets(st.integers(1, 6)), node_sets, st.frozensets(st.integers(1, 6)))
def test_every_change_ends_at_its_target_and_quorums_of_every_step_overlap(
    old: frozenset[int], old_learners: frozenset[int], new: frozenset[int], new_learners: frozenset[int]
) -> None:
    steps = [Membership(voters=old, learners=old_learners - old)]
    steps.append(next_membership(steps[0], MembershipChange(voters=new, learners=new_learners - new)))
    if steps[-1].is_joint:
        steps.append(leave_joint(steps[-1]))

    for step in steps:
        step.check()
    assert (steps[-1].voters, steps[-1].learners) == (new, new_learners - new)
    everybody = frozenset(range(1, 7))
    for before, after in itertools.pairwise(steps):
        for bits in range(64):
            one = {node for node in everybody if bits >> (node - 1) & 1}
            assert not (has_quorum(before, one) and has_quorum(after, everybody - one)), "two disjoint quorums"


def test_one_voter_changes_directly_several_through_a_joint_configuration() -> None:
    assert not next_membership(voters(1, 2, 3), change(1, 2, 3, 4)).is_joint
    assert not next_membership(voters(1, 2, 3), change(1, 2, learners=[3])).is_joint
    joint = next_membership(voters(1, 2, 3), change(1, 4, 5, learners=[2]))

    assert (joint.voters, joint.outgoing_voters) == (frozenset({1, 4, 5}), frozenset({1, 2, 3}))
    assert (joint.learners, joint.learners_next) == (frozenset(), frozenset({2}))
    assert leave_joint(joint) == voters(1, 4, 5, learners=[2])


@pytest.mark.parametrize("bad", [change(), change(1, 2, learners=[2]), change(0, 1), change(2**64)])
def test_malformed_changes_are_refused(bad: MembershipChange) -> None:
    with pytest.raises(MembershipChangeRefused):
        next_membership(voters(1, 2, 3), bad)


def test_history_rolls_back_and_compacts() -> None:
    """Bug 35 of the known-bugs list: truncated change not rolled back."""
    history = MembershipHistory(0, voters(1))
    for index, membership in ((3, voters(1, 2)), (5, voters(1, 2, 3))):
        history.append([Entry(index, 1, EntryKind.MEMBERSHIP, b"", membership)])

    assert [history.at(i) for i in (0, 2, 3, 4, 5, 9)] == [voters(1)] * 2 + [voters(1, 2)] * 2 + [voters(1, 2, 3)] * 2
    history.truncate_from(5)
    assert history.current == voters(1, 2)
    history.compact(4)
    assert (history.current, history.current_index) == (voters(1, 2), 4)


def test_only_a_leader_changes_the_membership() -> None:
    with pytest.raises(NotLeader):
        cluster(3)[1].propose_membership(change(1), b"")


def test_no_change_before_a_commit_in_the_own_term() -> None:
    """Bug 32 of the known-bugs list: change proposed before a commit in the term (Ongaro's 2015 correction)."""
    group = cluster(4)
    group[1].campaign()
    for kind in (PreVoteRequest, VoteRequest):
        for request in group.take(kind):
            group.deliver(request)
        for node in (2, 3, 4):
            group.run_node(node)
        messages, group.network = group.network, []
        for message in messages:
            group.deliver(message)
    assert group[1].role is RoleName.LEADER
    assert group[1].commit_index == 0

    with pytest.raises(MembershipChangeRefused, match="nothing is committed in this term"):
        group[1].propose_membership(change(1, 2, 3), b"")
    group.settle()
    group[1].propose_membership(change(1, 2, 3), b"")


def test_one_change_at_a_time() -> None:
    """Bug 33 of the known-bugs list: second change while the first is uncommitted."""
    group = cluster(3, spare=[4]).elect(1).isolate(1)
    group[1].propose_membership(change(1, 2, 3, 4), b"")
    with pytest.raises(MembershipChangeRefused, match="not committed yet"):
        group[1].propose_membership(change(1, 2, 3), b"")
    group.heal().tick(6)

    group[1].propose_membership(change(1, 2, 3), b"")
    assert group[1].membership == voters(1, 2, 3)


def test_a_change_is_in_force_when_appended() -> None:
    """Bug 34 of the known-bugs list: apply-time versus append-time rule mixed. Ours is append-time (§4.1)."""
    group = cluster(3, spare=[4, 5]).elect(1)
    group.isolate(1, 2)
    group[1].propose_membership(change(1, 2, 3, 4), b"")
    group.settle()

    assert group[1].membership == group[2].membership == voters(1, 2, 3, 4)
    assert group[1].commit_index == 1  # Two of three have it, but three of four are needed already.


def test_a_membership_entry_carries_the_whole_membership_and_the_data() -> None:
    group = cluster(3, spare=[4, 5]).elect(1)
    group[1].propose_membership(change(3, 4, 5), b"table")
    group.settle()
    joint, final = group[3].entry(2), group[3].entry(3)

    assert (joint.kind, joint.data) == (EntryKind.MEMBERSHIP, b"table")
    assert joint.membership is not None
    assert joint.membership.is_joint
    assert (final.kind, final.data, final.membership) == (EntryKind.MEMBERSHIP, b"", voters(3, 4, 5))


def test_a_removed_leader_does_not_count_itself() -> None:
    """Bug 36 of the known-bugs list: removed leader in joint consensus."""
    group = cluster(3).elect(1).isolate(1, 2)
    group[1].propose_membership(change(2, 3), b"")
    group.settle()
    assert group[1].role is RoleName.LEADER
    assert group[1].commit_index == 1  # 2 alone is no quorum of {2, 3}.

    group.heal().tick(12)

    assert group[1].role is RoleName.FOLLOWER
    assert group.leader.node_id in (2, 3)
    assert group.leader.membership == voters(2, 3)


def test_a_smaller_quorum_commits_what_is_pending() -> None:
    """Bug 38 of the known-bugs list: shrinking quorum does not commit what is pending."""
    group = cluster(4).elect(1).isolate(1, 2)
    group.propose(1, "a").settle()
    assert group[1].commit_index == 1

    group[1].propose_membership(change(1, 2, 3), b"")
    assert group[1].commit_index == 2
    group.settle()

    assert group[1].commit_index == 3
    assert group.nodes[2].commands() == ["a"]


def test_a_new_leader_ends_the_joint_phase_it_finds() -> None:
    group = cluster(3, spare=[4, 5], election_timeout_ticks=10, heartbeat_interval_ticks=2).elect(1)
    group.nodes[1].hold_saves = True
    group.isolate(4, 5)
    group[1].propose_membership(change(2, 4, 5), b"")
    group.settle()
    assert group[2].membership.is_joint
    group.crash(1).heal()

    group.tick(150)

    assert group.leader.membership == voters(2, 4, 5)
    assert all(group[n].membership == voters(2, 4, 5) for n in (2, 4, 5))


def learner_behind() -> Group:
    group = cluster(3, spare=[4]).elect(1)
    group.isolate(4)
    group[1].propose_membership(change(1, 2, 3, learners=[4]), b"")
    group.settle()
    return group


def test_a_learner_is_promoted_only_when_it_has_caught_up() -> None:
    """Bug 40 of the known-bugs list: learner promoted before it has caught up."""
    group = learner_behind()
    with pytest.raises(MembershipChangeRefused, match="learner 4 has not caught up"):
        group[1].propose_membership(change(1, 2, 3, 4), b"")
    group.heal().tick(6)

    group[1].propose_membership(change(1, 2, 3, 4), b"")
    assert group[1].membership == voters(1, 2, 3, 4)


def test_a_learner_does_not_count_for_commits() -> None:
    """Bug 11 of the known-bugs list: learners counted."""
    group = learner_behind().heal().tick(6)
    group.isolate(1, 4)
    group.propose(1, "a").settle()

    assert group[4].last_index == group[1].last_index
    assert group[1].commit_index == group[1].last_index - 1
    acks = [m for m in group.sent if isinstance(m, AppendResponse) and m.sender == 4]
    assert acks[-1].match_index == group[1].last_index


def test_who_is_removed_still_learns_of_it_and_of_everything_before() -> None:
    """So that a member which leaves knows what became of everything it proposed."""
    group = cluster(3).elect(1)
    group.propose(3, "a").settle()

    group[1].propose_membership(change(1, 2), b"")
    group.settle()

    assert group[3].membership == voters(1, 2)
    assert group[3].applied_index == group[1].commit_index == 3
    assert group.nodes[3].commands() == ["a"]


def test_what_a_removed_member_proposes_is_refused() -> None:
    group = cluster(3, election_timeout_ticks=10, heartbeat_interval_ticks=2).elect(1)
    group[1].propose_membership(change(1, 2), b"")
    group.settle()

    group.propose(3, "late").settle()

    assert group[1].last_index == 2
    assert group[3].role is RoleName.FOLLOWER


def test_nobody_waits_longer_than_an_election_timeout_for_a_removed_member_that_is_away() -> None:
    group = cluster(3, election_timeout_ticks=10, heartbeat_interval_ticks=2).elect(1).isolate(1, 2)
    group[1].propose_membership(change(1, 2), b"")
    group.settle().tick(12, nodes=[1, 2])
    group.heal()
    group.take(HeartbeatRequest)
    group[1].read_index(1)
    sent = group.take(HeartbeatRequest)

    assert [message.receiver for message in sent] == [2]

"""Nobody goes on talking for ever to a leader that has fallen silent, not even who cannot campaign."""

from __future__ import annotations

import random

import pytest

from raftkv.raft import (
    HardState,
    HeartbeatRequest,
    Membership,
    Proposal,
    ProposalDropped,
    Raft,
    RaftConfig,
    RoleName,
    SnapshotMeta,
)


def learner() -> Raft:
    membership = Membership(voters=frozenset({1}), learners=frozenset({2}))
    raft = Raft(
        RaftConfig(node_id=2, election_timeout_ticks=10, heartbeat_interval_ticks=2),
        hard_state=HardState(1, 0, 0),
        snapshot=SnapshotMeta(0, 0, membership),
        entries=[],
        applied_index=0,
        rng=random.Random(1),
    )
    raft.step(HeartbeatRequest(sender=1, receiver=2, term=1, commit_index=0))
    return raft


def test_a_learner_forgets_a_silent_leader_and_does_not_campaign() -> None:
    raft = learner()
    assert raft.leader == 1

    for _ in range(20):
        raft.tick()

    assert (raft.leader, raft.role) == (0, RoleName.FOLLOWER)
    with pytest.raises(ProposalDropped):
        raft.propose([Proposal(b"to nobody")])


def test_a_learner_takes_the_leader_back_when_it_speaks_again() -> None:
    raft = learner()
    for _ in range(20):
        raft.tick()

    raft.step(HeartbeatRequest(sender=1, receiver=2, term=1, commit_index=0))

    assert raft.leader == 1

"""The package as a whole: what it exports, how it is configured, what it hands out."""

from __future__ import annotations

import pytest

import raftkv.raft
from raftkv.raft import Membership, RaftConfig, Ready, RoleName, SoftState
from tests.raft.cluster import cluster


def test_every_exported_name_exists() -> None:
    assert sorted(set(raftkv.raft.__all__)) == sorted(raftkv.raft.__all__)
    for name in raftkv.raft.__all__:
        assert hasattr(raftkv.raft, name), name


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("node_id", 0),
        ("node_id", 2**64),
        ("heartbeat_interval_ticks", 0),
        ("election_timeout_ticks", 5),
        ("append_bytes_max", 0),
        ("inflight_appends_max", 0),
        ("inflight_bytes_max", 0),
        ("uncommitted_bytes_max", 0),
    ],
)
def test_a_bad_configuration_is_refused_by_name(field: str, value: int) -> None:
    with pytest.raises(ValueError, match=field):
        RaftConfig(**{"node_id": 1, field: value})


@pytest.mark.parametrize(
    "membership",
    [
        Membership(voters=frozenset({1}), learners=frozenset({1})),
        Membership(voters=frozenset({1}), learners_next=frozenset({2})),
    ],
)
def test_contradictory_memberships_fail_their_check(membership: Membership) -> None:
    with pytest.raises(AssertionError):
        membership.check()


def test_nothing_to_do_is_an_empty_ready() -> None:
    group = cluster(3).elect(1)

    assert not group[1].has_ready()
    assert group[1].ready() == Ready()


def test_a_change_of_leader_or_role_is_told_once() -> None:
    group = cluster(1)
    group[1].campaign()
    first = group[1].ready()
    assert first.soft_state == SoftState(0, RoleName.CANDIDATE, 1)
    assert first.save is not None
    group[1].saved(first.save.mark)

    assert group[1].ready().soft_state == SoftState(1, RoleName.LEADER, 1)
    assert group[1].ready().soft_state is None


def test_committed_entries_come_in_portions() -> None:
    group = cluster(1, committed_bytes_max=300).elect(1)
    group.propose(1, *["x" * 100] * 5)
    save = group[1].ready().save
    assert save is not None
    group[1].saved(save.mark)

    portions = []
    while group[1].has_ready():
        portions.append(len(group[1].ready().committed))
    assert portions == [2, 2, 1]


def test_status_shows_followers_only_to_a_leader() -> None:
    group = cluster(3).elect(1)

    assert list(group[1].status().followers) == [2, 3]
    assert group[1].status().followers[2].match_index == 1
    assert group[2].status().followers == {}
    assert (group[2].status().leader, group[2].status().role) == (1, RoleName.FOLLOWER)

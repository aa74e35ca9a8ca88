"""The core tells why it did what it did."""

from __future__ import annotations

from raftkv.raft import RoleName
from raftkv.raft.notices import (
    Campaigned,
    Cause,
    LeaderResigned,
    Loss,
    Notice,
    Refusal,
    SteppedDown,
    TransferBegun,
    TransferGivenUp,
    VoteAnswered,
    VoteCounted,
)
from tests.raft.cluster import Group, change, cluster


def observed(group: Group) -> dict[int, list[Notice]]:
    notices: dict[int, list[Notice]] = {node: [] for node in group.nodes}
    group.observe = lambda node, ready: notices[node.raft.node_id].extend(ready.notices)
    return notices


def only(notices: list[Notice], kind: type[Notice]) -> list[Notice]:
    return [notice for notice in notices if isinstance(notice, kind)]


def test_an_election_is_told_from_the_question_to_the_count() -> None:
    group = cluster(3)
    notices = observed(group)

    group.elect(1)

    asked = [(n.term, n.is_pre_vote, n.cause) for n in only(notices[1], Campaigned)]
    assert asked == [(1, True, Cause.ASKED), (1, False, Cause.PRE_VOTES)]
    assert only(notices[2], VoteAnswered)[-1].refusal is None
    assert {(n.voter, n.is_pre_vote, n.is_granted) for n in only(notices[1], VoteCounted)} >= {(2, True, True)}


def test_silence_is_told_with_its_length_and_whose_it_was() -> None:
    group = cluster(3).elect(1)
    notices = observed(group)
    group.crash(1)

    while group[2].role is not RoleName.LEADER and group[3].role is not RoleName.LEADER:
        group.tick()

    first = next(n for node in (2, 3) for n in only(notices[node], Campaigned))
    assert (first.cause, first.leader) == (Cause.SILENCE, 1)
    assert first.silent_ticks >= group.nodes[2].config.election_timeout_ticks


def test_evidence_of_death_is_told_as_the_cause() -> None:
    group = cluster(3).elect(1)
    notices = observed(group)
    group.crash(1)

    for node in (2, 3):
        group[node].leader_gone()
    group[2].campaign()
    group.settle()

    assert only(notices[2], Campaigned)[0].cause is Cause.LEADER_GONE


def test_who_hears_a_leader_says_so_when_it_refuses() -> None:
    group = cluster(3).elect(1)
    notices = observed(group)

    group[3].campaign()
    group.settle()

    answer = only(notices[2], VoteAnswered)[0]
    assert (answer.candidate, answer.is_pre_vote, answer.refusal) == (3, True, Refusal.LEADER_HEARD)
    assert answer.leader == 1


def test_a_log_that_lacks_entries_is_refused_with_both_ends() -> None:
    group = cluster(3, logs={1: "1@1", 2: "1@1 2@1", 3: "1@1 2@1"})
    notices = observed(group)

    group[1].campaign()
    group.settle()

    answer = only(notices[2], VoteAnswered)[0]
    assert answer.refusal is Refusal.LOG_BEHIND
    assert (answer.candidate_last, answer.own_last) == ((1, 1), (2, 1))


def test_a_leader_without_a_quorum_says_why_it_steps_down() -> None:
    group = cluster(3).elect(1)
    notices = observed(group)
    group.isolate(1)

    while group[1].role is RoleName.LEADER:
        group.tick(nodes=[1])

    (stepped_down,) = only(notices[1], SteppedDown)
    assert (stepped_down.role, stepped_down.term, stepped_down.cause) == ("leader", 1, Loss.NO_QUORUM)


def test_a_deposed_leader_names_who_told_it_of_the_later_term() -> None:
    group = cluster(3).elect(1)
    group.isolate(1)
    group[2].leader_gone()
    group[3].leader_gone()
    group[2].campaign()
    group.settle()
    notices = observed(group)

    group.heal()
    group.tick(group.nodes[1].config.heartbeat_interval_ticks)

    stepped_down = only(notices[1], SteppedDown)[0]
    assert (stepped_down.cause, stepped_down.term, stepped_down.later_term) == (Loss.LATER_TERM, 1, 2)
    assert stepped_down.by in (2, 3)


def test_a_resignation_is_told_by_those_who_hear_it() -> None:
    group = cluster(3).elect(1)
    group.cut((2, 1), (3, 1))
    notices = observed(group)

    while group[1].role is RoleName.LEADER:
        group.tick()

    assert LeaderResigned(1) in [*notices[2], *notices[3]]


def test_a_hand_over_is_told_from_its_beginning_and_when_it_is_given_up() -> None:
    group = cluster(3).elect(1)
    notices = observed(group)
    group.cut((1, 2))

    group[1].transfer_leadership(2)
    group.settle()
    while group[1].role is RoleName.LEADER and TransferGivenUp(2) not in notices[1]:
        group.tick()

    assert only(notices[1], TransferBegun) == [TransferBegun(2)]
    assert TransferGivenUp(2) in notices[1]


def test_who_is_handed_leadership_says_so() -> None:
    group = cluster(3).elect(1)
    notices = observed(group)

    group[1].transfer_leadership(2)
    group.settle()

    assert group[2].role is RoleName.LEADER
    assert [n.cause for n in only(notices[2], Campaigned)] == [Cause.TRANSFER]


def test_a_leader_that_is_removed_says_so() -> None:
    group = cluster(3).elect(1)
    notices = observed(group)

    group[1].propose_membership(change(2, 3), b"")
    group.settle()
    group.settle()

    assert Loss.REMOVED in [n.cause for n in only(notices[1], SteppedDown)]

"""The leader: commits, proposals, flow control, CheckQuorum, handing over."""

from __future__ import annotations

import pytest

from raftkv.raft import (
    AppendRequest,
    AppendResponse,
    EntryKind,
    HeartbeatRequest,
    HeartbeatResponse,
    LogLostError,
    ProgressState,
    Proposal,
    ProposalDropped,
    ProposeRejected,
    ProposeRequest,
    RoleName,
    TimeoutNow,
    TransferLeadership,
)
from tests.raft.cluster import Group, cluster


def accept(group: Group, sender: int, match: int, *, term: int | None = None, prev: int = 0) -> None:
    group[1].step(
        AppendResponse(
            sender=sender,
            receiver=1,
            term=group[1].term if term is None else term,
            prev_index=prev,
            accepted=True,
            match_index=match,
        )
    )


def appends(group: Group, receiver: int) -> list[AppendRequest]:
    """What the leader sends to `receiver` now."""
    return [m for m in group[1].ready().messages if isinstance(m, AppendRequest) and m.receiver == receiver]


# Commits


def test_the_leader_counts_itself_only_when_its_disk_has_the_entry() -> None:
    """Bug 10 of the known-bugs list: leader acknowledges itself before its fsync."""
    group = cluster(3).elect(1)
    group.nodes[1].hold_saves = True
    group.propose(1, "a").run_node(1)
    accept(group, 2, 2)
    assert group[1].commit_index == 1

    group.finish_saves(1)

    assert group[1].commit_index == 2


def test_match_never_moves_back() -> None:
    """Bug 9 of the known-bugs list: match index moved back by a stale or duplicate reply, or one of an earlier term."""
    group = cluster(3).elect(1)
    group.isolate(1)
    group.propose(1, "a", "b", "c").settle()
    for match in (3, 2, 3, 1):
        accept(group, 2, match)
        assert group[1].status().followers[2].match_index == 3
    accept(group, 3, 4, term=0)
    group[1].step(AppendResponse(sender=2, receiver=1, term=1, prev_index=2, accepted=False, conflict_index=0))

    followers = group[1].status().followers
    assert (followers[2].match_index, followers[3].match_index) == (3, 1)
    assert followers[2].state is ProgressState.REPLICATE


def test_heartbeats_name_no_commit_beyond_the_match() -> None:
    """Bug 4 of the known-bugs list: heartbeat commit not clamped to match."""
    group = cluster(3).elect(1).isolate(3)
    group.propose(1, "a", "b").settle()
    assert group[1].commit_index == 3
    for _ in range(5):
        group[1].tick()

    beats = {m.receiver: m.commit_index for m in group[1].ready().messages if isinstance(m, HeartbeatRequest)}
    assert beats == {2: 3, 3: 1}


def test_a_follower_that_lost_acknowledged_entries_stops() -> None:
    group = cluster(3)

    with pytest.raises(LogLostError, match="had entry 5; its log ends at 0"):
        group[1].step(HeartbeatRequest(sender=2, receiver=1, term=1, commit_index=5))


# Proposals


def test_proposals_of_one_moment_go_as_one_append() -> None:
    group = cluster(3).elect(1)
    group.propose(1, "a").propose(1, "b", "c")

    (message,) = appends(group, 2)
    assert [entry.data for entry in message.entries] == [b"a", b"b", b"c"]


def test_a_follower_passes_proposals_on_and_is_told_of_a_refusal() -> None:
    group = cluster(3).elect(1)
    group.propose(2, "a").settle()
    assert group.nodes[3].commands() == ["a"]

    group[1].transfer_leadership(3)
    group.cut((1, 3))
    group.propose(2, "b").settle()

    assert group.nodes[2].rejected
    assert group.nodes[1].commands() == ["a"]


def test_a_node_that_does_not_lead_rejects_what_is_passed_on() -> None:
    group = cluster(3).elect(1)
    request = ProposeRequest(sender=3, receiver=2, term=1, proposals=(Proposal(b"a"),))
    group[2].step(request)

    assert group[2].ready().messages == (ProposeRejected(sender=2, receiver=3, term=1),)


def test_proposals_without_a_leader_are_dropped_loudly() -> None:
    group = cluster(3)
    with pytest.raises(ProposalDropped, match="no leader is known"):
        group.propose(1, "a")
    group[1].campaign()
    with pytest.raises(ProposalDropped, match="election"):
        group.propose(1, "a")


def test_the_uncommitted_log_is_bounded_but_never_refuses_when_empty() -> None:
    """Bug 59 of the known-bugs list: uncommitted log unbounded under a slow quorum."""
    group = cluster(3, uncommitted_bytes_max=200).elect(1).isolate(1)
    group.propose(1, "x" * 1000)
    with pytest.raises(ProposalDropped, match="waiting for a quorum"):
        group.propose(1, "y")

    group.heal().tick(12)

    assert group[1].status().uncommitted_bytes == 0
    group.propose(1, "y" * 50).propose(1, "z" * 50)
    with pytest.raises(ProposalDropped):
        group.propose(1, "w" * 50)


def test_a_new_leader_counts_the_uncommitted_log_it_inherits() -> None:
    group = cluster(3, logs={1: "1@1 2@1"}, uncommitted_bytes_max=100)
    group[1].campaign()
    group.isolate(1)
    group.heal().settle()

    assert group[1].status().uncommitted_bytes == 0
    group[1].check()


# Flow control


def test_appends_are_pipelined_up_to_a_count() -> None:
    group = cluster(3, inflight_appends_max=3).elect(1)
    sent = []
    for payload in "abcde":
        group.propose(1, payload)
        sent += appends(group, 2)
    assert [m.entries[0].data for m in sent] == [b"a", b"b", b"c"]

    accept(group, 2, 3)

    assert [e.data for m in appends(group, 2) for e in m.entries] == [b"d", b"e"]


def test_appends_are_pipelined_up_to_a_payload() -> None:
    group = cluster(3, inflight_bytes_max=200).elect(1)
    sent = []
    for _ in range(5):
        group.propose(1, "x" * 100)
        sent += appends(group, 2)

    assert len(sent) == 2


def test_a_large_log_goes_in_pieces_and_a_larger_entry_alone() -> None:
    group = cluster(3, append_bytes_max=300).elect(1)
    group.propose(1, *["x" * 100] * 4, "y" * 1000, "z")

    sizes = [[len(e.data) for e in m.entries] for m in appends(group, 2)]
    assert sizes == [[100, 100], [100, 100], [1000], [1]]


def test_a_probed_follower_gets_one_append_per_heartbeat_answer() -> None:
    group = cluster(3).elect(1).isolate(2)
    group[1].peer_unreachable(2)
    group.propose(1, "a")
    assert len(appends(group, 2)) == 1
    group.propose(1, "b")
    assert appends(group, 2) == []

    group[1].step(HeartbeatResponse(sender=2, receiver=1, term=1))

    (probe,) = appends(group, 2)
    assert [e.data for e in probe.entries] == [b"a", b"b"]


def test_lost_appends_are_noticed_and_sent_again() -> None:
    group = cluster(3).elect(1).cut((1, 2))
    group.propose(1, "a", "b").settle()
    group.heal()
    assert group[2].last_index == 1

    group.tick(6)

    assert group[2].commit_index == 3


def test_a_lost_append_that_was_compacted_leads_to_a_snapshot() -> None:
    group = cluster(3, inflight_appends_max=1).elect(1).cut((1, 2))
    group.propose(1, "a").settle()
    group.propose(1, "b").settle()
    group[1].compact(3)
    group.heal()

    group.tick(12)

    assert group.nodes[2].commands() == ["a", "b"]


def test_followers_learn_of_a_commit_without_waiting_for_a_heartbeat() -> None:
    group = cluster(3).elect(1)
    group.propose(1, "a").settle()

    assert group[2].commit_index == group[3].commit_index == 2


# CheckQuorum


def test_news_of_a_commit_alone_are_not_answered() -> None:
    group = cluster(3).elect(1)
    group.propose(1, "a").run_node(1)
    accept(group, 2, 2)
    (news,) = [m for m in appends(group, 2) if not m.entries]
    assert news.is_notice
    group.settle()

    group[2].step(news)

    assert group[2].commit_index == 2
    assert group[2].ready().messages == ()


def test_news_of_a_commit_that_do_not_fit_the_log_are_refused() -> None:
    """Else a follower would go without what it misses until a heartbeat's answer tells."""
    group = cluster(3, logs={2: "1@1"})

    group[2].step(
        AppendRequest(sender=1, receiver=2, term=1, prev_index=2, prev_term=1, commit_index=2, is_notice=True)
    )

    (refusal,) = [m for m in group[2].ready().messages if isinstance(m, AppendResponse)]
    assert (refusal.accepted, refusal.conflict_index) == (False, 1)


def test_a_leader_that_hears_no_quorum_steps_down_within_an_election_timeout() -> None:
    """Bug 23 of the known-bugs list: no CheckQuorum on a one-way link."""
    group = cluster(5, election_timeout_ticks=10, heartbeat_interval_ticks=2).elect(1)
    group.cut((2, 1), (3, 1), (4, 1))
    group.tick(9, nodes=[1])
    assert group[1].role is RoleName.LEADER

    group.tick(1, nodes=[1])

    assert (group[1].role, group[1].leader, group[1].term) == (RoleName.FOLLOWER, 0, 1)


def test_requests_from_followers_do_not_count_as_answers() -> None:
    """They show that we hear them, not that they hear us."""
    group = cluster(3, election_timeout_ticks=10, heartbeat_interval_ticks=2).elect(1)
    for _ in range(10):
        group[1].step(ProposeRequest(sender=2, receiver=1, term=1, proposals=(Proposal(b"a"),)))
        group[1].tick()

    assert group[1].role is RoleName.FOLLOWER


# Handing over


def test_timeout_now_waits_until_the_target_is_level() -> None:
    """Dissertation §3.10. Bug 54 of the known-bugs list: leader transfer stalls."""
    group = cluster(3).elect(1)
    group.propose(1, "a")
    group[1].transfer_leadership(2)
    assert not [m for m in group[1].ready().messages if isinstance(m, TimeoutNow)]

    accept(group, 2, 2)

    assert [m.receiver for m in group[1].ready().messages if isinstance(m, TimeoutNow)] == [2]


def test_a_wish_to_transfer_passed_on_by_a_follower_is_heeded() -> None:
    group = cluster(3).elect(1)
    group[1].step(TransferLeadership(sender=2, receiver=1, term=1, target=3))
    group.settle()

    assert group[3].role is RoleName.LEADER


def test_a_wish_to_transfer_from_an_earlier_term_is_not_heeded() -> None:
    """Leadership has moved since somebody wished so: the wish may have come true long ago."""
    group = cluster(3).elect(1)
    group[1].step(TransferLeadership(sender=2, receiver=1, term=0, target=3))
    group.settle()

    assert group[1].role is RoleName.LEADER


@pytest.mark.parametrize("target", [1, 4, 77])
def test_a_transfer_to_ourselves_a_stranger_or_a_learner_changes_nothing(target: int) -> None:
    group = cluster(3).elect(1)
    group[1].transfer_leadership(target)

    assert group[1].status().transfer_target == 0
    group.propose(1, "a").settle()
    assert group.nodes[1].commands() == ["a"]


def test_without_a_target_the_furthest_voter_is_chosen() -> None:
    group = cluster(3).elect(1).isolate(2)
    group.propose(1, "a").settle()
    group[1].transfer_leadership()
    group.heal().settle()

    assert group[3].role is RoleName.LEADER


def test_membership_cannot_be_smuggled_in_as_a_proposal() -> None:
    group = cluster(3).elect(1)
    with pytest.raises(AssertionError, match="see propose_membership"):
        group[1].propose([Proposal(b"", EntryKind.MEMBERSHIP)])

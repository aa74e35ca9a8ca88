"""One test per claim of the Raft paper (extended version), by section."""

from __future__ import annotations

import pytest

from raftkv.raft import (
    AppendRequest,
    AppendResponse,
    Entry,
    HeartbeatRequest,
    PreVoteRequest,
    RoleName,
    VoteRequest,
    VoteResponse,
)
from tests.raft.cluster import cluster, parse_log


def append(
    index: int, term: int, *, to: int = 1, prev_term: int = 0, commit: int = 0, entries: str = ""
) -> AppendRequest:
    """An AppendRequest from node 2 behind `index`@`prev_term`."""
    return AppendRequest(
        sender=2,
        receiver=to,
        term=term,
        prev_index=index,
        prev_term=prev_term,
        commit_index=commit,
        entries=tuple(parse_log(entries)),
    )


def vote(term: int, *, sender: int = 2, last: tuple[int, int] = (0, 0)) -> VoteRequest:
    return VoteRequest(sender=sender, receiver=1, term=term, last_index=last[0], last_term=last[1])


# §5.1 Terms


@pytest.mark.parametrize("role", [RoleName.FOLLOWER, RoleName.CANDIDATE, RoleName.LEADER])
def test_every_role_moves_to_a_higher_term_and_follows(role: RoleName) -> None:
    """§5.1: "If one server's current term is smaller than the other's, then it updates to the larger value."""
    group = cluster(3)
    if role is not RoleName.FOLLOWER:
        group.nodes[1].hold_saves = role is RoleName.CANDIDATE
        group[1].campaign()
        group.settle()
    assert group[1].role is role

    group[1].step(append(0, 9))

    assert (group[1].term, group[1].role, group[1].leader) == (9, RoleName.FOLLOWER, 2)


def test_a_higher_term_in_an_answer_is_saved() -> None:
    """§5.1. Bug 19 of the known-bugs list: higher term in a reply not saved."""
    group = cluster(3).elect(1)
    group[1].step(AppendResponse(sender=2, receiver=1, term=5, prev_index=0, accepted=False))
    ready = group[1].ready()

    assert group[1].role is RoleName.FOLLOWER
    assert ready.save is not None
    assert ready.save.hard_state is not None
    assert (ready.save.hard_state.term, ready.save.hard_state.vote) == (5, 0)
    assert ready.save.must_sync


def test_requests_of_an_earlier_term_are_refused() -> None:
    """§5.1: "If a server receives a request with a stale term number, it rejects the request."""
    group = cluster(3, term=5)
    group[1].step(append(0, 4, entries="1@4"))
    group[1].step(vote(3))
    append_answer, vote_answer = group[1].ready().messages

    assert isinstance(append_answer, AppendResponse)
    assert isinstance(vote_answer, VoteResponse)
    assert (append_answer.term, append_answer.accepted) == (5, False)
    assert (vote_answer.term, vote_answer.granted) == (5, False)
    assert group[1].last_index == 0


# §5.2 Leader election


def test_servers_start_as_followers() -> None:
    """§5.2: "When servers start up, they begin as followers." Bug 20 of the known-bugs list: leads after a restart."""
    group = cluster(1)
    group[1].campaign()
    group.settle()
    group.crash(1).restart(1)

    assert group[1].role is RoleName.FOLLOWER
    assert group[1].term == 1


def test_a_leader_sends_heartbeats_at_every_interval() -> None:
    """§5.2: "Leaders send periodic heartbeats to all followers."""
    group = cluster(3, heartbeat_interval_ticks=4, election_timeout_ticks=10).elect(1)
    for _ in range(3):
        group[1].tick()
    assert not [m for m in group[1].ready().messages if isinstance(m, HeartbeatRequest)]

    group[1].tick()

    beats = [m for m in group[1].ready().messages if isinstance(m, HeartbeatRequest)]
    assert [m.receiver for m in beats] == [2, 3]


@pytest.mark.parametrize("seed", range(20))
def test_election_timeouts_are_random_within_their_interval(seed: int) -> None:
    """§5.2: "election timeouts are chosen randomly from a fixed interval"; here [T, 2T)."""
    group = cluster(3, seed=seed, election_timeout_ticks=10, heartbeat_interval_ticks=2)
    ticks = 0
    while group[1].role is RoleName.FOLLOWER:
        group[1].tick()
        ticks += 1

    assert 10 <= ticks < 20


def test_election_timeouts_differ() -> None:
    """§5.2: randomness is what keeps split votes rare."""
    seen = set()
    for seed in range(20):
        group = cluster(3, seed=seed)
        ticks = 0
        while group[1].role is RoleName.FOLLOWER:
            group[1].tick()
            ticks += 1
        seen.add(ticks)
    assert len(seen) > 8


def test_a_campaign_raises_the_term_votes_for_itself_and_asks_everybody() -> None:
    """§5.2: "To begin an election, a follower increments its current term and transitions to candidate state."""
    group = cluster(3, term=4)
    group[1].campaign()
    requests = group.take(PreVoteRequest)
    assert [m.receiver for m in requests] == [2, 3]
    assert group[1].term == 4
    for request in requests:
        group.deliver(request)
    group.nodes[1].hold_saves = True
    group.run_node(2)
    group.run_node(3)
    for message in list(group.network):
        group.deliver(message)
    ready = group[1].ready()

    assert group[1].role is RoleName.CANDIDATE
    assert (group[1].term, group[1].vote) == (5, 1)
    assert [type(m) for m in ready.messages_after_save] == [VoteRequest, VoteRequest]
    assert ready.save is not None
    assert ready.save.hard_state is not None
    assert (ready.save.hard_state.term, ready.save.hard_state.vote) == (5, 1)


def test_one_vote_per_term_first_come_first_served() -> None:
    """§5.2: "Each server will vote for at most one candidate in a given term, on a first-come-first-served basis."""
    group = cluster(3)
    group[1].step(vote(1, sender=3))
    group[1].step(vote(1, sender=2))
    group[1].step(vote(1, sender=3))  # Doubled by the network: the same answer again.
    ready = group[1].ready()

    granted = [m.receiver for m in ready.messages_after_save if isinstance(m, VoteResponse) and m.granted]
    refused = [m.receiver for m in ready.messages if isinstance(m, VoteResponse) and not m.granted]
    assert (granted, refused) == ([3, 3], [2])


def test_a_vote_survives_a_restart() -> None:
    """§5.2, figure 2. Bug 15 of the known-bugs list: two votes in a term after a restart."""
    group = cluster(3)
    group[1].step(vote(1, sender=3))
    group.run_node(1)
    group.crash(1).restart(1)

    group[1].step(vote(1, sender=2))

    answer = group[1].ready().messages[0]
    assert isinstance(answer, VoteResponse)
    assert not answer.granted


def test_a_candidate_follows_a_leader_of_its_own_term() -> None:
    """§5.2. Bug 18 of the known-bugs list: candidate ignores an append of its own term."""
    group = cluster(3)
    group[1].campaign()
    for request in group.take(PreVoteRequest):
        group.deliver(request)
    group.run_node(2)
    for message in group.network:
        group.deliver(message)
    assert (group[1].role, group[1].term) == (RoleName.CANDIDATE, 1)

    group[1].step(append(0, 1, entries="1@1"))

    assert (group[1].role, group[1].leader, group[1].last_index) == (RoleName.FOLLOWER, 2, 1)


def test_a_candidate_that_is_refused_by_a_majority_gives_up() -> None:
    """§5.2: another one may win; the loser waits for it."""
    group = cluster(3, logs={1: "1@1", 2: "1@1 2@1", 3: "1@1 2@1"})
    group[1].campaign()
    group.settle()

    assert (group[1].role, group[1].term) == (RoleName.FOLLOWER, 1)


def test_a_split_vote_is_followed_by_another_election() -> None:
    """§5.2: candidates time out and start anew."""
    group = cluster(4, election_timeout_ticks=10, heartbeat_interval_ticks=2)
    group[1].campaign()
    group[2].campaign()
    group.settle()

    group.tick(100)

    assert group.leader.term >= 1


# §5.3 Log replication


def test_an_entry_is_committed_once_a_majority_has_it() -> None:
    """§5.3, and `Ready.committed` on every node in the same order."""
    group = cluster(5).elect(1).isolate(4, 5)
    group.propose(1, "a").settle()
    assert [group.nodes[n].commands() for n in (1, 2, 3)] == [["a"]] * 3

    group.heal().isolate(3, 4, 5)
    group.propose(1, "b").settle()

    assert group[1].commit_index == 2
    assert group[2].last_index == 3


def test_a_commit_carries_everything_before_it() -> None:
    """§5.3: "This also commits all preceding entries in the leader's log, including entries by previous leaders."""
    group = cluster(3, logs={1: "1@1 2@2", 2: "1@1"}, term=2).elect(1)

    assert group[1].commit_index == 3
    assert group.nodes[3].commands() == ["1@1", "2@2"]


@pytest.mark.parametrize(
    ("log", "prev_index", "prev_term", "accepted"),
    [("", 0, 0, True), ("1@1", 1, 1, True), ("1@1", 1, 2, False), ("1@1", 2, 2, False), ("1@1 2@2", 1, 1, True)],
)
def test_an_append_is_refused_unless_the_entry_before_it_matches(
    log: str, prev_index: int, prev_term: int, accepted: bool
) -> None:
    """§5.3: the consistency check."""
    group = cluster(3, logs={1: log}, term=2)
    group[1].step(append(prev_index, 2, prev_term=prev_term))
    group.run_node(1)

    (answer,) = [m for m in group.network if isinstance(m, AppendResponse)]
    assert answer.accepted == accepted


@pytest.mark.parametrize(
    ("before", "request_", "after"),
    [
        ("1@1 2@1 3@1", append(1, 2, prev_term=1, entries="2@2"), "1@1 2@2"),
        ("1@1 2@1 3@1", append(1, 2, prev_term=1, entries="2@1"), "1@1 2@1 3@1"),
        ("1@1", append(1, 2, prev_term=1, entries="2@1 3@2"), "1@1 2@1 3@2"),
        ("1@1 2@1", append(0, 2, entries="1@2"), "1@2"),
        ("1@1 2@1", append(0, 2, entries="1@1"), "1@1 2@1"),
    ],
)
def test_only_conflicting_entries_are_deleted(before: str, request_: AppendRequest, after: str) -> None:
    """§5.3: "If an existing entry conflicts with a new one, delete the existing entry and all that follow it."

    Bug 5 of the known-bugs list: truncation on any append instead of on conflict.
    """
    group = cluster(3, logs={1: before}, term=2)
    group[1].step(request_)

    assert group.nodes[1].log() == after


@pytest.mark.parametrize(
    ("entries", "leader_commit", "commit"), [("2@1 3@1", 9, 3), ("2@1 3@1", 2, 2), ("", 3, 1), ("2@1", 3, 2)]
)
def test_a_follower_commits_no_further_than_what_matched(entries: str, leader_commit: int, commit: int) -> None:
    """Figure 2: min(leaderCommit, index of last *new* entry).

    Bug 3 of the known-bugs list: follower commits past its last matched entry; its 4@1 may be another leader's.
    """
    group = cluster(3, logs={1: "1@1 2@1 3@1 4@1"})
    group[1].step(append(1, 2, prev_term=1, commit=leader_commit, entries=entries))

    assert group[1].commit_index == commit


def test_the_leader_keeps_trying_until_the_logs_match() -> None:
    """§5.3: backing off, a whole term at a time. Bug 8 of the known-bugs list: hint loops or jumps over the match."""
    logs = {
        1: "1@1 2@1 3@1 " + " ".join(f"{i}@9" for i in range(4, 40)),
        2: "1@1 2@1 3@1 4@3 5@4 6@8",
        3: "1@1 2@1 3@1 " + " ".join(f"{i}@{2 if i < 30 else 5}" for i in range(4, 60)),
    }
    group = cluster(3, logs=logs, term=9)
    group.elect(1)

    assert group.nodes[2].log() == group.nodes[3].log() == group.nodes[1].log()
    refusals = [m for m in group.sent if isinstance(m, AppendResponse) and not m.accepted]
    assert len(refusals) <= 6


def test_a_leader_never_overwrites_its_own_log() -> None:
    """Figure 3: Leader Append-Only."""
    group = cluster(3, logs={1: "1@1 2@3", 2: "1@1 2@2 3@2"}, term=3).elect(1)

    assert group.nodes[1].log() == "1@1 2@3 3@4"
    assert group.nodes[2].log() == "1@1 2@3 3@4"


# §5.4 Safety


@pytest.mark.parametrize(
    ("mine", "last", "granted"),
    [
        ("1@1", (1, 1), True),
        ("1@1", (1, 2), True),
        ("1@1 2@1", (1, 2), True),
        ("1@1", (2, 1), True),
        ("1@2", (1, 1), False),
        ("1@2", (2, 1), False),
        ("1@1 2@1", (1, 1), False),
    ],
)
def test_a_voter_refuses_a_log_that_lacks_something(mine: str, last: tuple[int, int], granted: bool) -> None:
    """§5.4.1. Bug 14 of the known-bugs list: up-to-date check by index only or length only."""
    group = cluster(3, logs={1: mine})
    group[1].step(vote(7, last=last))
    ready = group[1].ready()

    assert bool(ready.messages_after_save) == granted
    assert group[1].vote == (2 if granted else 0)


def test_leader_does_not_commit_an_older_term_by_counting_replicas() -> None:
    """§5.4.2, figure 8. Bug 1 of the known-bugs list: commit of an older term by counting."""
    group = cluster(3, logs={1: "1@1 2@2", 2: "1@1", 3: "1@1"}, term=3)
    group[1].campaign()
    while group[1].role is not RoleName.LEADER:
        for node in group.up:
            group.run_node(node)
        messages, group.network = group.network, []
        for message in messages:
            group.deliver(message)

    group[1].step(AppendResponse(sender=2, receiver=1, term=4, prev_index=1, accepted=True, match_index=2))
    assert group[1].commit_index == 0

    group[1].step(AppendResponse(sender=2, receiver=1, term=4, prev_index=2, accepted=True, match_index=3))
    group.run_node(1)
    assert group[1].commit_index == 3


def test_a_new_leader_appends_a_noop_in_its_term() -> None:
    """§8. Bug 2 of the known-bugs list: no no-op after election."""
    group = cluster(3, logs={1: "1@1", 2: "1@1", 3: "1@1"}).elect(1)

    assert group[1].entry(2) == Entry(2, 2)
    assert group[1].commit_index == 2


# §5.5, §5.6


def test_requests_are_idempotent() -> None:
    """§5.5: a doubled append changes nothing and is acknowledged again."""
    group = cluster(3)
    request = append(0, 1, commit=1, entries="1@1 2@1")
    for _ in range(3):
        group[1].step(request)
        group.run_node(1)

    acks = [m.match_index for m in group.network if isinstance(m, AppendResponse)]
    assert acks == [2, 2, 2]
    assert group.nodes[1].log() == "1@1 2@1"
    assert group.nodes[1].commands() == ["1@1"]

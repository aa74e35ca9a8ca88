"""What a node puts on record, and how often."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from raftkv.node.flight_record import BURST, PAUSE_MAX_S, QUIET_S, FlightRecord, head_of
from raftkv.raft import HeartbeatRequest, RoleName, SoftState
from raftkv.raft.notices import Campaigned, Cause, Loss, Refusal, SteppedDown, VoteAnswered
from tests.node.support import new_raft
from tests.raft.cluster import change, cluster

TICK_S = 0.01


@dataclass
class Lines:
    """A port that keeps what it gets."""

    kept: list[bytes] = field(default_factory=list)

    def append(self, line: bytes) -> None:
        self.kept.append(line)

    def lines(self, bytes_max: int) -> list[bytes]:
        return self.kept


class Bench:
    """A record of node 1, with a clock that a test moves."""

    def __init__(self, *, earlier: list[bytes] | None = None, run: int = 3) -> None:
        self.port = Lines()
        self.now = 100.0
        self.record = FlightRecord(
            self.port, earlier=earlier or [], run=run, wall=lambda: 1_000_000 + self.now, clock=lambda: self.now
        )
        self.raft = new_raft(1, voters=(1, 2, 3))
        self.record.observe(self.raft, tick_s=TICK_S, name_of=lambda node: f"n{node}")

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.port.kept]

    @property
    def last(self) -> dict[str, Any]:
        return self.events[-1]


def stopped(seq: int, kind: str = "stopped") -> bytes:
    return json.dumps({"seq": seq, "run": 2, "at": 999.5, "kind": kind, "term": 7}).encode()


def test_every_event_says_when_in_which_run_and_at_which_term() -> None:
    bench = Bench()

    bench.record.started()
    bench.now += 1.5
    bench.record.stopping()

    first, second = bench.events
    assert (first["seq"], first["run"], first["kind"], first["term"]) == (1, 3, "start", 0)
    assert first["voters"] == ["n1", "n2", "n3"]
    assert (second["seq"], second["at"], second["up"]) == (2, 1_000_101.5, 1.5)


def test_a_start_tells_how_the_run_before_ended() -> None:
    head = head_of(name="n1", member_id=1, cluster_id=2)
    for earlier, ended in (
        ([], None),
        ([head, stopped(8)], "stopped"),
        ([head, stopped(8, "failed")], "failed"),
        ([head, stopped(8, "leader")], "without a stop"),
        ([head, stopped(8), b'{"seq":9,"run":2,"at":99'], "stopped"),
    ):
        bench = Bench(earlier=earlier)
        bench.record.started()
        assert (bench.last.get("previous") or {}).get("ended") == ended


def test_the_count_of_events_goes_on_from_run_to_run() -> None:
    bench = Bench(earlier=[stopped(41)])

    bench.record.started()

    assert bench.last["seq"] == 42


def test_a_node_that_failed_did_not_stop_in_good_order() -> None:
    bench = Bench()

    bench.record.failed(OSError(28, "No space left on device"))
    bench.record.stopping()
    bench.record.stopped()

    assert [event["kind"] for event in bench.events] == ["failed"]
    assert "No space left on device" in bench.last["error"]


def test_a_campaign_is_recorded_with_its_evidence() -> None:
    bench = Bench()
    bench.record.attach(links=lambda: {2: None, 3: "Socket closed"}, sync_since=lambda: bench.now - 0.4)
    bench.record.heard([HeartbeatRequest(sender=2, receiver=1, term=1, commit_index=0)])
    bench.now += 0.31
    bench.record.ticked(0.05)

    bench.record.noticed([Campaigned(2, True, Cause.SILENCE, leader=2, silent_ticks=31)])

    event = bench.last
    assert (event["kind"], event["cause"], event["leader"], event["silent_ms"]) == ("campaign", "silence", "n2", 310)
    assert event["links"] == {"n2": "up", "n3": "Socket closed"}
    assert event["heard_ms"] == {"n2": 310}
    assert (event["loop_lag_ms"], event["fsync_ms"]) == (50, 400)


def test_a_refused_vote_is_recorded_with_the_reason() -> None:
    bench = Bench()

    bench.record.noticed([VoteAnswered(3, 9, is_pre_vote=True, refusal=Refusal.LEADER_HEARD, leader=2, silent_ticks=4)])

    event = bench.last
    assert (event["candidate"], event["for_term"], event["granted"]) == ("n3", 9, False)
    assert (event["refusal"], event["leader"], event["silent_ms"]) == ("leader heard", "n2", 40)


def test_a_leader_that_steps_down_is_recorded_with_the_reason_and_its_evidence() -> None:
    bench = Bench()

    bench.record.noticed([SteppedDown("leader", 4, Loss.NO_QUORUM)])
    bench.record.leader_changed(SoftState(0, RoleName.FOLLOWER, 4))

    assert bench.events[0]["cause"] == "no quorum"
    assert "links" in bench.events[0]
    assert bench.last["kind"] == "no-leader"


def test_a_loop_that_stood_still_is_recorded_and_a_late_tick_is_not() -> None:
    bench = Bench()

    bench.record.ticked(0.05)
    bench.record.ticked(1.2)

    assert [(event["kind"], event["lag_ms"]) for event in bench.events] == [("held-up", 1200)]


def test_what_comes_again_and_again_is_recorded_ever_more_rarely() -> None:
    bench = Bench()
    refused = VoteAnswered(3, 9, is_pre_vote=True, refusal=Refusal.LEADER_HEARD, leader=2)

    for _ in range(24 * 3600 * 2):
        bench.record.noticed([refused])
        bench.now += 0.5

    events = bench.events
    assert len(events) < BURST + 10 + 24 * 3600 / PAUSE_MAX_S
    counted = sum(1 + event.get("again", 0) for event in events)
    assert counted > 24 * 3600 * 2 - 2 * PAUSE_MAX_S, "what was left out is counted"


def test_what_was_quiet_for_a_while_is_news_again() -> None:
    bench = Bench()

    for _ in range(10):
        bench.record.peer_lost(2, "Socket closed")
        bench.now += QUIET_S + 1

    assert len(bench.events) == 10
    assert all("again" not in event for event in bench.events)


def test_another_reason_is_another_event() -> None:
    bench = Bench()

    for number in range(20):
        bench.record.peer_lost(2, f"reason {number}")

    assert len(bench.events) == 20


def test_a_member_that_was_removed_keeps_its_name_on_record() -> None:
    bench = Bench()
    names = {2: "n2"}
    bench.record.observe(bench.raft, tick_s=TICK_S, name_of=lambda node: names.get(node, f"{node:x}"))
    bench.record.peer_connected(2)

    del names[2]
    bench.record.peer_lost(2, "Socket closed")

    assert bench.last["peer"] == "n2"


def test_a_membership_is_recorded_when_it_changes_and_not_when_it_is_said_again() -> None:
    group = cluster(3)
    bench = Bench()
    bench.record.observe(group[1], tick_s=TICK_S, name_of=lambda node: f"n{node}")
    group.observe = lambda node, ready: bench.record.noticed([]) if node.raft is group[1] else None

    group.elect(1).propose(1, "a")
    group[1].propose_membership(change(1, 2), b"")
    group.settle()

    assert [event["voters"] for event in bench.events if event["kind"] == "members"] == [["n1", "n2"]]

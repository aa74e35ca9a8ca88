"""Records of several nodes become one timeline, whatever their clocks say."""

from __future__ import annotations

from dataclasses import replace

import pytest

from raftkv.lab.timeline import Bounds, merge, parse_record
from tests.lab.flights import Book, captured, elect

NOW = 1_000_000.0


def three(**ahead_s: float) -> list[Book]:
    """Three nodes that elect n1, then n2; `ahead_s`: whose clock is wrong by how much."""
    books = [Book(name, clock_ahead_s=ahead_s.get(name, 0.0)) for name in ("n1", "n2", "n3")]
    n1, n2, n3 = books
    elect(NOW, 1, n1, n2, n3)
    elect(NOW + 10.0, 2, n2, n3, n1, leader="n1", silent_ms=300)
    return books


def test_a_record_is_read_with_whose_it_is() -> None:
    record = three()[0].record()

    assert (record.node, record.cluster_id) == ("n1", "c")
    assert record.events[0].kind == "campaign"
    assert record.missing_count == record.unreadable_count == 0


def test_a_torn_line_is_skipped_and_counted() -> None:
    lines = three()[0].lines

    record = parse_record([*lines[:-1], lines[-1][:20], b"\0" * 40], source="x")

    assert record.unreadable_count == 1
    assert len(record.events) == len(lines) - 2


@pytest.mark.parametrize("line", [b"17", b"{}", b'{"seq":1,"run":1,"at":"noon","kind":"leader","term":1}', b"\xff\xfe"])
def test_what_is_no_event_is_no_event(line: bytes) -> None:
    assert parse_record([line], source="x").unreadable_count == 1


def test_events_that_never_reached_the_disk_are_counted() -> None:
    lines = three()[0].lines

    assert parse_record([*lines[:3], *lines[6:]], source="x").missing_count == 3


def test_a_member_that_stands_in_a_record_by_its_id_gets_its_name() -> None:
    n1, n2, n3 = three()
    n1.say(NOW + 20.0, "peer", 2, peer=f"{ord('3'):x}", state="connected")

    events = merge([book.record() for book in (n1, n2, n3)]).events

    assert events[-1].get("peer") == "n3"


@pytest.mark.parametrize("ahead_s", [0.8, -0.8, 3600.0])
def test_a_clock_that_is_wrong_changes_neither_the_order_nor_the_distances(ahead_s: float) -> None:
    true_times = {event.key: event.at for book in three() for event in book.record().events}

    timeline = merge([book.record() for book in three(n3=ahead_s)])

    assert timeline.ahead_s["n3"] == pytest.approx(ahead_s, abs=0.002)
    assert timeline.reference in ("n1", "n2")
    assert {event.event.key: event.at for event in timeline.events} == pytest.approx(true_times, abs=0.002)
    true_order = [true_times[event.event.key] for event in timeline.events]
    assert true_order == pytest.approx(sorted(true_order), abs=0.002)
    assert not any(event.contradicts for event in timeline.events)


def test_clocks_that_may_agree_are_left_alone() -> None:
    timeline = merge([book.record() for book in three()])

    assert timeline.ahead_s == {}
    assert [event.at for event in timeline.events] == [event.event.at for event in timeline.events]


def test_a_clock_that_was_set_between_two_elections_is_corrected_each_time() -> None:
    n1, n2, n3 = (Book(name) for name in ("n1", "n2", "n3"))
    elect(NOW, 1, n1, n2, n3)
    n3.clock_ahead_s = 5.0
    led_at = elect(NOW + 100.0, 2, n2, n3, n1, leader="n1", silent_ms=300)

    events = merge([book.record() for book in (n1, n2, n3)]).events

    early = [event.at for event in events if event.node == "n3" and event.term == 1]
    late = [event.at for event in events if event.node == "n3" and event.kind == "leader" and event.term == 2]
    assert early == pytest.approx([NOW + 0.004, NOW + 0.007, NOW + 100.001], abs=0.003)
    assert late == pytest.approx([led_at + 0.001], abs=0.003)


def test_the_reader_tells_clocks_apart_where_no_election_does() -> None:
    n1, n2 = Book("n1"), Book("n2", clock_ahead_s=2.0)
    n1.say(NOW, "held-up", 1, lag_ms=200)
    n2.say(NOW + 1.0, "held-up", 1, lag_ms=300)

    def asked(ahead_s: float) -> Bounds:
        return Bounds(at=NOW + 60 + ahead_s, low=ahead_s - 0.004, high=ahead_s + 0.004)

    timeline = merge([n1.record(asked(0.0)), n2.record(asked(2.0))])

    assert [event.at for event in timeline.events] == pytest.approx([NOW, NOW + 1.0], abs=0.005)
    assert timeline.ahead_s == pytest.approx({"n2": 2.0}, abs=0.005)


def test_a_message_outweighs_a_clock_and_the_event_is_marked() -> None:
    """Asked twice in one term: which answer is to which question is not known, so no correction follows from it."""
    n1, n2 = Book("n1"), Book("n2", clock_ahead_s=-5.0)
    for at in (NOW, NOW + 1.0):
        n1.say(at, "campaign", 1, for_term=2, pre_vote=True, cause="silence")
        n2.say(at + 0.001, "answer", 1, candidate="n1", for_term=2, pre_vote=True, granted=True)

    events = merge([n1.record(), n2.record()]).events

    assert [event.node for event in events] == ["n1", "n2", "n2", "n1"]
    assert [event.contradicts for event in events] == [False, True, True, False]


def test_records_that_contradict_themselves_are_merged_all_the_same() -> None:
    """A data directory was put back: the same term is led twice."""
    n1, n2 = Book("n1"), Book("n2")
    for book, other in ((n1, n2), (n2, n1)):
        book.say(NOW, "answer", 1, candidate=other.node, for_term=2, pre_vote=True, granted=True)
        book.say(NOW + 1, "campaign", 1, for_term=2, pre_vote=True, cause="silence")

    assert len(merge([n1.record(), n2.record()]).events) == 4


def test_nothing_is_lost_and_nothing_doubled() -> None:
    records = captured("kill")

    timeline = merge(records)

    assert sorted(e.event.key for e in timeline.events) == sorted(e.key for record in records for e in record.events)


def test_no_records_are_no_events() -> None:
    assert merge([]).events == ()
    assert merge([replace(captured("kill")[0], events=())]).events == ()

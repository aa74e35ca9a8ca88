"""What happened is found in the nodes' records: those of real runs, and some written by hand."""

from __future__ import annotations

import pytest

from raftkv.lab import narration
from raftkv.lab.explanation import Cause, Failover
from raftkv.lab.incidents import absences, failovers
from raftkv.lab.timeline import Timeline, merge
from tests.lab.flights import Book, elect, timeline

NOW = 1_000_000.0


def last(timeline: Timeline) -> Failover:
    return failovers(timeline)[-1]


def told(failover: Failover) -> str:
    return "\n".join([narration.headline(failover), *(line.text for line in narration.story(failover))])


# --- captured ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "cause", "previous", "leader"),
    [
        ("kill", Cause.DIED, "n3", "n2"),
        ("hang", Cause.HUNG, "n1", "n3"),
        ("stop", Cause.STOPPED, "n1", "n2"),
        ("cut", Cause.CUT_OFF, "n1", "n3"),
        ("unheard", Cause.CUT_OFF, "n1", "n2"),
        ("deaf", Cause.CUT_OFF, "n2", "n3"),
        ("moved", Cause.MOVED, "n2", "n1"),
        ("restart", Cause.STARTED, "n1", "n3"),
    ],
)
def test_the_cause_of_a_real_failover_is_found(name: str, cause: Cause, previous: str, leader: str) -> None:
    first, failover = failovers(timeline(name))

    assert (first.cause, first.previous, first.term) == (Cause.STARTED, "", 1)
    assert (failover.cause, failover.previous, failover.leader, failover.term) == (cause, previous, leader, 2)


@pytest.mark.parametrize(
    ("name", "low_s", "high_s"),
    [("kill", 0.02, 0.03), ("hang", 0.3, 0.4), ("stop", 0.005, 0.01), ("cut", 0.3, 0.4), ("deaf", 0.3, 0.4)],
)
def test_the_outage_of_a_real_failover_is_measured(name: str, low_s: float, high_s: float) -> None:
    failover = last(timeline(name))

    assert failover.outage_s is not None
    assert low_s < failover.outage_s < high_s
    assert failover.led_at is not None
    assert failover.began_at <= failover.led_at - failover.outage_s + 0.001


@pytest.mark.parametrize(
    ("name", "dead", "cause"),
    [
        ("kill", "n3", Cause.DIED),
        ("hang", "n1", Cause.SILENT),
        ("cut", "n1", Cause.SILENT),
        ("moved", "n2", Cause.MOVED),
        ("stop", "n1", Cause.MOVED),
    ],
)
def test_without_the_old_leaders_record_only_what_the_others_saw_is_told(name: str, dead: str, cause: Cause) -> None:
    failover = last(timeline(name, without=dead))

    assert (failover.cause, failover.previous) == (cause, dead)


@pytest.mark.parametrize(("name", "winner"), [("kill", "n2"), ("hang", "n3"), ("deaf", "n3")])
def test_without_the_new_leaders_record_it_is_still_found(name: str, winner: str) -> None:
    failover = last(timeline(name, without=winner))

    assert failover.leader == winner
    assert failover.cause is last(timeline(name)).cause
    assert f"knows {winner} as leader of term 2" in told(failover)


def test_the_story_of_a_crash() -> None:
    story = told(last(timeline("kill")))

    assert story.splitlines() == [
        "n3 died; n2 led term 2 after 24 ms",
        "n1 and n2 lost n3 (connection closed, redial refused to n1 and n2); last heard 34 ms before",
        "n1 asked for pre-votes for term 2 (n3 is gone); n2 refused (it heard n3 30 ms before)",
        "n2 asked for pre-votes for term 2 (n3 is gone); n1 granted",
        "n2 asked for votes for term 2; n1 granted",
        "n1 gave up its campaign: n2 is at term 2",
        "n2 leads term 2, 24 ms after the connection to n3 broke; known to n1 1.2 ms later",
        "n3 started at term 1; its run before ended without a stop",
    ]


def test_the_story_of_a_hang() -> None:
    story = told(last(timeline("hang")))

    assert "n1 stood still for 1.51 s; n3 led term 2 after 347 ms" in story
    assert "n1 was last heard by n3" in story
    assert "n1 goes on after its loop stood still for 1.51 s" in story


def test_the_story_of_a_stop_ends_with_its_good_order() -> None:
    lines = told(last(timeline("stop"))).splitlines()

    assert lines[0] == "n1 was stopped and handed over; n2 led term 2 after 7.7 ms"
    assert lines[1] == "n1 was asked to stop"
    assert lines[-1] == "n1 stopped in good order"


def test_which_direction_was_cut_is_told() -> None:
    assert "it was not heard, and heard others" in told(last(timeline("unheard")))
    assert "n2 last heard from a quorum" in told(last(timeline("deaf")))
    assert last(timeline("cut")).detail == ""


def test_a_follower_that_died_is_no_failover_but_is_told() -> None:
    whole = timeline("follower")

    (first,) = failovers(whole)
    (away,) = absences(whole, [first])

    assert (away.node, away.how) == ("n1", "died")
    assert narration.absence(away) == "n1 died; back after 1.30 s"


def test_a_leaders_absence_is_told_once() -> None:
    whole = timeline("kill")

    assert absences(whole, failovers(whole)) == []
    assert [away.node for away in absences(whole)] == ["n3"]


# --- by hand ----------------------------------------------------------------------------------------------------------


def led_by_n1() -> tuple[Book, Book, Book]:
    books = (Book("n1"), Book("n2"), Book("n3"))
    for book in books:
        book.say(NOW - 1.0, "start", 0)
    elect(NOW, 1, *books)
    return books


def merged(*books: Book) -> Timeline:
    return merge([book.record() for book in books])


def test_a_sick_disk_is_named_as_the_reason_of_a_hand_over() -> None:
    n1, n2, n3 = led_by_n1()
    n1.say(NOW + 20.0, "health", 1, severity="stuck", reasons="the disk has not come back for 0.31 s")
    n1.say(NOW + 20.1, "transfer", 1, state="begun", target="n2")
    n2.say(NOW + 20.101, "campaign", 2, for_term=2, pre_vote=False, cause="transfer", leader="n1")
    n2.say(NOW + 20.11, "leader", 2, leader="n2", role="leader")

    failover = last(merged(n1, n2, n3))

    assert failover.cause is Cause.SICK
    assert narration.headline(failover) == (
        "n1 was not fit to lead (the disk has not come back for 0.31 s); n2 led term 2 after 10 ms"
    )
    assert "n1 is stuck: the disk has not come back for 0.31 s" in told(failover)


def test_a_leader_that_was_sick_and_recovered_was_not_deposed_for_it() -> None:
    n1, n2, n3 = led_by_n1()
    n1.say(NOW + 5.0, "health", 1, severity="slow", reasons="the event loop was held up 3 times")
    n1.say(NOW + 15.0, "health", 1, severity="well", reasons="")
    n1.say(NOW + 20.0, "transfer", 1, state="begun", target="n2")
    n2.say(NOW + 20.001, "campaign", 2, for_term=2, pre_vote=False, cause="transfer", leader="n1")
    n2.say(NOW + 20.01, "leader", 2, leader="n2", role="leader")

    assert last(merged(n1, n2, n3)).cause is Cause.MOVED


def test_a_node_that_stopped_by_itself_is_told_with_its_error() -> None:
    n1, n2, n3 = led_by_n1()
    n1.say(NOW + 20.0, "failed", 1, error="StorageError: input/output error")
    for book in (n2, n3):
        book.say(NOW + 20.01, "peer", 1, peer="n1", state="lost", reason="Connection reset by peer", heard_ms=12)
    elect(NOW + 20.02, 2, n2, n3, cause="leader gone", leader="n1")

    failover = last(merged(n1, n2, n3))

    assert (failover.cause, failover.detail) == (Cause.FAILED, "StorageError: input/output error")
    assert "n2 and n3 lost n1 (connection reset); last heard 12 ms before" in told(failover)


def test_split_votes_are_told() -> None:
    n1, n2, n3 = led_by_n1()
    n2.say(NOW + 20.0, "campaign", 2, for_term=2, pre_vote=False, cause="pre-votes")
    n3.say(NOW + 20.0, "campaign", 2, for_term=2, pre_vote=False, cause="pre-votes")
    n3.say(
        NOW + 20.001,
        "answer",
        2,
        candidate="n2",
        for_term=2,
        pre_vote=False,
        granted=False,
        refusal="voted",
        vote="n3",
    )
    elect(NOW + 20.2, 3, n2, n3, leader="n1", silent_ms=500)

    failover = last(merged(n1, n2, n3))

    assert failover.terms == 2
    assert "it took 2 terms" in narration.headline(failover)
    assert "n3 refused (it had voted for itself)" in told(failover)


def test_a_cluster_without_a_leader_is_told_as_still_going_on() -> None:
    _, n2, n3 = led_by_n1()
    n3.say(NOW + 5.0, "stopping", 1).say(NOW + 5.1, "stopped", 1)
    n2.say(NOW + 20.0, "peer", 1, peer="n1", state="lost", reason="Socket closed", heard_ms=30)
    n2.say(NOW + 20.001, "peer", 1, peer="n1", state="dead", reason="it refuses connections", heard_ms=31)
    n2.say(NOW + 20.01, "campaign", 1, for_term=2, pre_vote=True, cause="leader gone", leader="n1")

    failover = last(merged(n2, n3))

    assert (failover.cause, failover.leader, failover.led_at) == (Cause.DIED, "", None)
    assert narration.headline(failover) == "n1 died; nobody has led since"


def test_a_cluster_that_was_stopped_is_not_without_a_leader() -> None:
    n1, n2, n3 = led_by_n1()
    for book in (n2, n3, n1):
        book.say(NOW + 20.0, "stopping", 1).say(NOW + 20.1, "stopped", 1)

    (only,) = failovers(merged(n1, n2, n3))

    assert only.cause is Cause.STARTED


def test_a_node_that_was_cut_off_alone_is_no_failover() -> None:
    n1, n2, n3 = led_by_n1()
    n3.say(NOW + 5.0, "campaign", 1, for_term=2, pre_vote=True, cause="silence", leader="n1", silent_ms=400)
    n2.say(
        NOW + 5.001,
        "answer",
        1,
        candidate="n3",
        for_term=2,
        pre_vote=True,
        granted=False,
        refusal="leader heard",
    )
    n3.say(NOW + 8.0, "leader", 1, leader="n1", role="follower")

    assert len(failovers(merged(n1, n2, n3))) == 1


def test_old_trouble_that_had_passed_is_no_part_of_a_later_failover() -> None:
    n1, n2, n3 = led_by_n1()
    n3.say(NOW + 5.0, "peer", 1, peer="n1", state="lost", reason="Socket closed", heard_ms=30)
    n3.say(NOW + 6.0, "peer", 1, peer="n1", state="connected")
    n1.say(NOW + 20.0, "transfer", 1, state="begun", target="n2")
    n2.say(NOW + 20.001, "campaign", 2, for_term=2, pre_vote=False, cause="transfer", leader="n1")
    n2.say(NOW + 20.01, "leader", 2, leader="n2", role="leader")

    failover = last(merged(n1, n2, n3))

    assert failover.began_at == NOW + 20.0
    assert "lost" not in told(failover)


def test_a_moments_standstill_does_not_explain_a_long_silence() -> None:
    n1, n2, n3 = led_by_n1()
    n1.say(NOW + 20.3, "held-up", 1, lag_ms=260)
    elect(NOW + 21.0, 2, n2, n3, leader="n1", silent_ms=900, heard_ms={"n1": 900})
    n1.say(NOW + 21.1, "step-down", 1, role="leader", from_term=1, cause="no quorum", heard_ms={"n2": 900, "n3": 950})

    assert last(merged(n1, n2, n3)).cause is Cause.CUT_OFF


def test_a_leader_that_was_sick_before_it_led_is_known_to_be() -> None:
    n1, n2, n3 = Book("n1"), Book("n2"), Book("n3")
    n1.say(NOW - 5.0, "health", 0, severity="full", reasons="3 MiB are free on the disk")
    elect(NOW, 1, n1, n2, n3)
    n1.say(NOW + 0.2, "transfer", 1, state="begun", target="n2")
    n2.say(NOW + 0.201, "campaign", 2, for_term=2, pre_vote=False, cause="transfer", leader="n1")
    n2.say(NOW + 0.21, "leader", 2, leader="n2", role="leader")

    failover = last(merged(n1, n2, n3))

    assert (failover.cause, failover.detail) == (Cause.SICK, "3 MiB are free on the disk")


def test_a_return_after_the_next_failover_is_told_by_itself() -> None:
    n1, n2, n3 = led_by_n1()
    for book in (n2, n3):
        book.say(NOW + 20.0, "peer", 1, peer="n1", state="lost", reason="Socket closed", heard_ms=9)
        book.say(NOW + 20.001, "peer", 1, peer="n1", state="dead", reason="it refuses connections", heard_ms=10)
    elect(NOW + 20.01, 2, n2, n3, cause="leader gone", leader="n1")
    n2.say(NOW + 22.0, "transfer", 2, state="begun", target="n3")
    n3.say(NOW + 22.001, "campaign", 3, for_term=3, pre_vote=False, cause="transfer", leader="n2")
    n3.say(NOW + 22.01, "leader", 3, leader="n3", role="leader")
    n1.say(NOW + 25.0, "start", 1, previous={"ended": "without a stop"})

    whole = merged(n1, n2, n3)

    assert [narration.absence(away) for away in absences(whole, failovers(whole))] == ["n1 is back after 5.00 s"]


def test_a_lone_node_that_was_stopped_handed_nothing_over() -> None:
    alone = Book("n1").say(NOW, "start", 0).say(NOW + 1, "leader", 1, leader="n1", role="leader")
    alone.say(NOW + 9, "stopping", 1).say(NOW + 9.1, "stopped", 1)
    alone.say(NOW + 20, "start", 1, previous={"ended": "stopped"}).say(
        NOW + 21, "leader", 2, leader="n1", role="leader"
    )

    assert narration.headline(last(merged(alone))) == "n1 was stopped; n1 led again term 2"


def test_a_lone_node_that_was_killed_died() -> None:
    alone = Book("n1").say(NOW, "start", 0).say(NOW + 1, "leader", 1, leader="n1", role="leader")
    alone.say(NOW + 20, "start", 1, previous={"ended": "without a stop"})
    alone.say(NOW + 21, "leader", 2, leader="n1", role="leader")

    assert narration.headline(last(merged(alone))) == "n1 died; n1 led again term 2"


def test_who_is_no_member_any_more_is_not_missed() -> None:
    n1, n2, n3 = led_by_n1()
    n1.say(NOW + 5.0, "members", 1, voters=["n1", "n2"])
    n1.say(NOW + 5.1, "peer", 1, peer="n3", state="dead", reason="it refuses connections")

    assert absences(merged(n1, n2, n3)) == []


def test_records_that_begin_in_the_middle_of_things_do_not_begin_with_a_failover() -> None:
    n1, n2, n3 = Book("n1"), Book("n2"), Book("n3")
    elect(NOW, 57, n1, n2, n3)
    elect(NOW + 20.0, 58, n2, n3, n1, leader="n1", silent_ms=300)

    (only,) = failovers(merged(n1, n2, n3))

    assert (only.previous, only.leader, only.term) == ("n1", "n2", 58)


# --- words ------------------------------------------------------------------------------------------------------------


def test_every_event_of_every_captured_run_has_words() -> None:
    for name in ("kill", "hang", "stop", "cut", "unheard", "deaf", "moved", "restart", "follower"):
        for event in timeline(name).events:
            sentence = narration.sentence(event)
            assert event.node in sentence
            assert f"{event.node}: {event.kind}" not in sentence, f"no words for {event}"
            assert "None" not in sentence, sentence


def test_an_event_that_a_newer_node_records_is_told_with_all_it_says() -> None:
    book = Book("n1").say(NOW, "flux", 3, capacitor="full")

    (event,) = merged(book).events

    assert narration.sentence(event) == "n1: flux (capacitor full)"


def test_what_came_again_is_counted() -> None:
    book = Book("n1").say(NOW, "peer", 1, peer="n2", state="lost", reason="Socket closed", again=17)

    (event,) = merged(book).events

    assert narration.sentence(event) == "n1 lost n2 (connection closed) (and 17 more times)"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 ms"),
        (0.0012, "1.2 ms"),
        (0.0312, "31 ms"),
        (0.9999, "1.00 s"),
        (1.138, "1.14 s"),
        (12.34, "12.3 s"),
        (59.97, "1 min 0 s"),
        (192.4, "3 min 12 s"),
        (18_120.0, "5 h 2 min"),
    ],
)
def test_durations_are_as_long_as_they_are_precise(seconds: float, text: str) -> None:
    assert narration.duration(seconds) == text

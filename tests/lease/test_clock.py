"""lease.clock: what a leader says of time, and when."""

from __future__ import annotations

from raftkv.lease.clock import ADVANCE_EVERY_MS, COARSE_EVERY_MS, LEAD_MAX_MS, Advance, ClockView, LeaderClock

TICK_MS = 10
TERM = 7


def view(clock_ms: int, next_deadline_ms: int | None = 1_000_000, *, term: int = TERM) -> ClockView:
    return ClockView(20, term, clock_ms, next_deadline_ms)


def said(clock: LeaderClock, ticks: int, seen: ClockView) -> list[int]:
    """What it says in so many ticks, if the log does not move."""
    answers = [clock.passed(TICK_MS, seen, term=TERM) for _ in range(ticks)]
    return [advance.now_ms for advance in answers if advance is not None and not advance.coarse]


def leading(seen: ClockView) -> LeaderClock:
    clock = LeaderClock()
    clock.passed(TICK_MS, seen, term=TERM)
    return clock


def test_nothing_is_said_without_a_lease() -> None:
    assert said(leading(view(5000, None)), 1000, view(5000, None)) == []


def test_the_time_before_the_first_lease_does_not_count() -> None:
    clock = leading(view(5000, None))
    said(clock, 1000, view(5000, None))

    assert said(clock, ADVANCE_EVERY_MS // TICK_MS, view(5000))[0] == 5000 + ADVANCE_EVERY_MS


def test_time_is_told_four_times_a_second() -> None:
    clock, seen, told = leading(view(0)), view(0), []
    for _ in range(1000 // TICK_MS):
        if (advance := clock.passed(TICK_MS, seen, term=TERM)) is not None:
            told.append(advance.now_ms)
            seen = view(advance.now_ms)

    assert told == [250, 500, 750, 1000]


def test_a_deadline_is_told_when_it_comes() -> None:
    clock = leading(view(0, 120))

    assert said(clock, 11, view(0, 120)) == []
    assert said(clock, 1, view(0, 120)) == [120]


def test_what_is_overdue_is_told_again_until_it_is_gone() -> None:
    """One advance ends a bounded number of leases."""
    clock = leading(view(1000, 900))

    assert said(clock, 2, view(1000, 900)) == [1010, 1020]


def test_time_stands_still_while_the_log_does() -> None:
    clock = leading(view(0))

    assert max(said(clock, 10_000, view(0))) == LEAD_MAX_MS
    assert said(clock, 1, view(LEAD_MAX_MS)) == [], "what was lost is not made up for"


def test_a_new_leader_waits_for_the_entries_of_its_predecessors() -> None:
    clock = LeaderClock()

    assert said(clock, 1000, view(3000, 3100, term=TERM - 1)) == []
    assert clock.passed(TICK_MS, view(3000, 3100), term=TERM) is None, "nor is that time counted afterwards"
    assert said(clock, 10, view(3000, 3100)) == [3100]


def test_what_was_counted_as_a_former_leader_is_forgotten() -> None:
    clock = leading(view(0))
    said(clock, 20, view(0))

    assert clock.passed(TICK_MS, ClockView(50, TERM + 2, 90, 400), term=TERM + 2) is None
    assert clock.passed(310, ClockView(50, TERM + 2, 90, 400), term=TERM + 2) == Advance(400)


def test_ticks_that_are_no_whole_milliseconds_add_up() -> None:
    clock = leading(view(0))
    answers = [clock.passed(11.7, view(0), term=TERM) for _ in range(22)]

    assert [advance for advance in answers if advance is not None] == [Advance(int(22 * 11.7))]


def test_for_sessions_alone_time_is_told_once_a_minute() -> None:
    clock, seen, told = leading(view(0, None)), ClockView(20, TERM, 0, None, True), []
    for _ in range(2 * COARSE_EVERY_MS // TICK_MS):
        if (advance := clock.passed(TICK_MS, seen, term=TERM)) is not None:
            told.append(advance)
            seen = ClockView(20, TERM, advance.now_ms, None, True)

    assert told == [Advance(60_000, coarse=True), Advance(120_000, coarse=True)]


def test_a_lease_does_not_pay_for_the_time_that_was_counted_for_sessions() -> None:
    without_leases = ClockView(20, TERM, 0, None, True)
    clock = leading(without_leases)
    for _ in range(COARSE_EVERY_MS // TICK_MS - 1):
        clock.passed(TICK_MS, without_leases, term=TERM)

    assert said(clock, ADVANCE_EVERY_MS // TICK_MS, view(0, 5000)) == [ADVANCE_EVERY_MS]

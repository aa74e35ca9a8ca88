"""Outages and timelines, from records made by hand."""

from __future__ import annotations

from raftkv.lab.drill.measuring import BIN_S, bins, outage
from raftkv.lab.history import UNKNOWN, Operation


def put(number: int, returned: float, *, took_s: float = 0.001, refused: bool = False) -> Operation:
    result = {"error": "no leader"} if refused else {"revision": number}
    return Operation(number, "w", returned - took_s, returned, "put", {"key": "k", "value": str(number)}, result)


def unknown(number: int, call: float) -> Operation:
    return Operation(number, "w", call, UNKNOWN, "put", {"key": "k", "value": str(number)}, None)


def test_an_outage_is_from_the_last_success_to_the_next() -> None:
    gap = outage([put(1, 9.9), put(2, 9.99), put(3, 10.4), put(4, 10.41)], "put", since=10.0, until=10.5)

    assert (gap.start, gap.end) == (9.99, 10.4)


def test_refusals_and_unknown_outcomes_end_no_outage() -> None:
    operations = [put(1, 9.99), put(2, 10.1, refused=True), unknown(3, 10.2), put(4, 10.5), put(5, 10.99)]

    gap = outage(operations, "put", since=10.0, until=11.0)

    assert (gap.start, gap.end) == (9.99, 10.5)


def test_an_outage_that_has_not_ended_lasts_until_the_end() -> None:
    assert outage([put(1, 9.0)], "put", since=10.0, until=12.0).seconds == 3.0


def test_without_any_success_it_is_all_outage() -> None:
    gap = outage([put(1, 10.5, refused=True)], "put", since=10.0, until=12.0)

    assert (gap.start, gap.end) == (10.0, 12.0)


def test_reads_do_not_end_an_outage_of_writes() -> None:
    read = Operation(2, "r", 10.2, 10.3, "get", {"key": "k"}, {"item": None})

    assert outage([put(1, 9.9), read, put(3, 10.9)], "put", since=10.0, until=11.0).end == 10.9
    assert outage([put(1, 9.9), read, put(3, 10.9)], "get", since=10.0, until=11.0).start == 10.3


def test_gaps_before_the_fault_do_not_count() -> None:
    gap = outage([put(1, 1.0), put(2, 9.99), put(3, 10.1), put(4, 10.95)], "put", since=10.0, until=11.0)

    assert gap.start == 10.1


def test_a_timeline_counts_what_returned_in_each_span() -> None:
    operations = [put(1, 9.96, took_s=0.02), put(2, 9.97, took_s=0.01), put(3, 10.06, refused=True), unknown(4, 10.0)]

    first, second, third = bins(operations, fault_at=10.0, start=9.95, end=9.95 + 3 * BIN_S)

    assert (first.at_s, first.writes, first.reads, first.write_max_ms) == (-0.05, 2, 0, 20.0)
    assert (second.writes, second.write_max_ms) == (0, None)
    assert (third.writes, third.failed) == (0, 1)

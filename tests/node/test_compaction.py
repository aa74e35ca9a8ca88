"""compaction: what stays in the log for followers that lag, and what a restart needs."""

from __future__ import annotations

from raftkv.node.compaction import STEP_ENTRIES_MIN, LogRetention
from raftkv.raft import Entry, EntryKind

NEVER_BYTES = 1 << 40


def entries(first: int, last: int, *, size: int = 0) -> list[Entry]:
    return [Entry(index, 1, EntryKind.COMMANDS, bytes(size)) for index in range(first, last + 1)]


def test_nothing_goes_while_there_is_no_more_than_is_retained() -> None:
    log = LogRetention(1_000, NEVER_BYTES)
    log.add(entries(1, 1_000))

    assert log.compactable(1_000, at_most=None) == 0


def test_the_surplus_goes_oldest_first() -> None:
    log = LogRetention(1_000, NEVER_BYTES)
    log.add(entries(1, 1_000 + STEP_ENTRIES_MIN))

    assert log.compactable(2_000, at_most=None) == STEP_ENTRIES_MIN
    assert log.compactable(2_000, at_most=None) == 0


def test_a_step_too_small_to_be_worth_it_waits_for_more() -> None:
    log = LogRetention(10, NEVER_BYTES)
    log.add(entries(1, 10 + STEP_ENTRIES_MIN - 1))

    assert log.compactable(1_000, at_most=None) == 0
    log.add(entries(10 + STEP_ENTRIES_MIN, 10 + STEP_ENTRIES_MIN))
    assert log.compactable(1_000, at_most=None) == STEP_ENTRIES_MIN


def test_what_the_state_machine_has_not_on_disk_stays() -> None:
    log = LogRetention(10, NEVER_BYTES)
    log.add(entries(1, 2_000))

    assert log.compactable(500, at_most=None) == 500


def test_what_follows_a_snapshot_under_way_stays() -> None:
    log = LogRetention(10, NEVER_BYTES)
    log.add(entries(1, 2_000))

    assert log.compactable(1_500, at_most=400) == 400
    assert log.compactable(1_500, at_most=None) == 1_500


def test_few_large_entries_go_by_their_bytes() -> None:
    log = LogRetention(1_000, 80_000)
    log.add(entries(1, 12, size=10_000))

    index = log.compactable(12, at_most=None)

    assert index == 5
    assert log.compactable(12, at_most=None) == 0


def test_a_snapshot_in_the_logs_place_forgets_what_was_counted() -> None:
    log = LogRetention(10, 80_000)
    log.add(entries(1, 2_000, size=100))
    log.reset()
    log.add(entries(5_000, 5_009))

    assert log.compactable(6_000, at_most=None) == 0

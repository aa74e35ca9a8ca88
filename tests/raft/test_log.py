"""The log against a plain list that does everything the slow way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftkv.raft import Entry
from raftkv.raft.log import Log
from tests.raft.cluster import parse_log


def log_of(text: str, *, base_index: int = 0, base_term: int = 0) -> Log:
    return Log(base_index=base_index, base_term=base_term, entries=parse_log(text))


def names(entries: tuple[Entry, ...]) -> str:
    return " ".join(str(entry) for entry in entries)


@st.composite
def logs(draw: st.DrawFn) -> tuple[Log, list[Entry], int, int]:
    base_index = draw(st.integers(0, 5))
    terms = sorted(draw(st.lists(st.integers(1, 6), max_size=20)))
    base_term = draw(st.integers(1, terms[0] if terms else 6)) if base_index else 0
    entries = [
        Entry(base_index + offset, term, data=b"x" * draw(st.integers(0, 40))) for offset, term in enumerate(terms, 1)
    ]
    return Log(base_index=base_index, base_term=base_term, entries=entries), entries, base_index, base_term


@given(logs(), st.integers(0, 30))
def test_term_at_agrees_with_a_list(given_log: tuple[Log, list[Entry], int, int], index: int) -> None:
    log, entries, base_index, base_term = given_log
    terms = {base_index: base_term} | {entry.index: entry.term for entry in entries}

    assert log.term_at(index) == terms.get(index)


@given(logs(), st.integers(0, 30), st.integers(0, 7))
def test_search_by_term_agrees_with_a_scan(given_log: tuple[Log, list[Entry], int, int], index: int, term: int) -> None:
    log, entries, base_index, base_term = given_log
    terms = {base_index: base_term} | {entry.index: entry.term for entry in entries}
    index = max(base_index, min(index, log.last_index))

    expected = index
    while expected in terms and terms[expected] > term:
        expected -= 1
    assert log.last_index_of_term_at_most(index, term) == expected


@given(logs(), st.integers(1, 200), st.data())
def test_slices_are_cut_by_bytes_but_never_empty(
    given_log: tuple[Log, list[Entry], int, int], bytes_max: int, data: st.DataObject
) -> None:
    log, entries, base_index, _ = given_log
    if not entries:
        return
    first = data.draw(st.integers(base_index + 1, log.last_index))

    cut = log.slice(first, log.last_index, bytes_max)

    assert list(cut) == entries[first - base_index - 1 :][: len(cut)]
    assert len(cut) == 1 or sum(entry.size for entry in cut) <= bytes_max
    if cut and cut[-1].index < log.last_index:
        assert sum(entry.size for entry in cut) + log.entry(cut[-1].index + 1).size > bytes_max


@given(st.lists(st.tuples(st.integers(0, 15), st.integers(1, 4)), max_size=30))
def test_random_appends_truncations_and_compactions_keep_every_invariant(steps: list[tuple[int, int]]) -> None:
    log, model = log_of(""), {0: 0}
    base = 0
    for number, count in steps:
        if number < 8:
            new = [Entry(log.last_index + 1 + i, max(log.last_term, number), data=b"d" * count) for i in range(count)]
            log.append(new)
            model.update({entry.index: entry.term for entry in new})
        elif number < 12 and log.last_index > log.commit_index:
            cut = max(log.commit_index + 1, log.last_index - count)
            log.truncate_from(cut)
            model = {index: term for index, term in model.items() if index < cut}
        else:
            log.take_unsaved()
            log.saved_to(log.last_index)
            log.commit_to(max(log.commit_index, log.last_index - count))
            log.take_committed(2**40, 2**40)
            log.applied_to(log.commit_index)
            base = max(base, log.applied_index - 1)
            log.compact(base)
        log.check()
        assert {i: log.term_at(i) for i in range(log.base_index, log.last_index + 1)} == {
            index: term for index, term in model.items() if index >= log.base_index
        }


def test_a_gap_between_base_and_first_entry_is_refused() -> None:
    """Bug 42 of the known-bugs list: gap between snapshot and first log index."""
    with pytest.raises(AssertionError, match="5@1 follows index 3"):
        log_of("5@1", base_index=3, base_term=1)


def test_committed_entries_are_never_truncated() -> None:
    """Bug 6 of the known-bugs list: committed entry truncated."""
    log = log_of("1@1 2@1 3@1")
    log.commit_to(2)

    with pytest.raises(AssertionError, match="cuts committed entries"):
        log.truncate_from(2)


def test_only_a_conflict_counts_as_new() -> None:
    """Bug 5 of the known-bugs list: truncation on any append instead of on conflict."""
    log = log_of("1@1 2@1 3@2")

    assert log.first_new(parse_log("1@1 2@1")) == 2
    assert log.first_new(parse_log("2@1 3@3")) == 1
    assert log.first_new(parse_log("3@2 4@2")) == 1
    assert log.first_new(parse_log("4@2")) == 0


def test_what_was_applied_before_a_restart_is_not_delivered_again() -> None:
    """Bug 12 of the known-bugs list: commit index not restored, applied twice."""
    log = log_of("1@1 2@1 3@1 4@1")
    log.start_at(commit_index=3, applied_index=2)

    assert names(log.take_committed(2**40, 2**40)) == "3@1"
    assert log.take_committed(2**40, 2**40) == ()


def test_a_truncation_takes_back_what_counted_as_saved() -> None:
    log = log_of("1@1 2@1 3@1")
    log.truncate_from(2)
    log.append(parse_log("2@2"))

    assert log.saved_index == 1
    assert names(log.take_unsaved()) == "2@2"


def test_compaction_waits_for_our_own_disk() -> None:
    log = log_of("1@1")
    log.append(parse_log("2@1 3@1"))
    log.take_unsaved()
    log.commit_to(3)
    log.take_committed(2**40, 2**40)
    log.applied_to(3)

    log.compact(3)

    assert log.first_index == 2


@pytest.mark.parametrize(
    ("last_index", "last_term", "may_lead"),
    [(3, 2, True), (4, 2, True), (2, 2, False), (2, 3, True), (9, 1, False)],
)
def test_up_to_date_means_term_first_then_length(last_index: int, last_term: int, may_lead: bool) -> None:
    """Bug 14 of the known-bugs list: up-to-date check by index only or length only."""
    assert log_of("1@1 2@1 3@2").is_up_to_date(last_index, last_term) == may_lead


def test_a_state_machine_that_is_far_behind_is_given_nothing_more() -> None:
    log = log_of("1@1 2@1 3@1")
    log.commit_to(3)
    size = log.entry(1).size
    assert names(log.take_committed(1, 2 * size)) == "1@1"
    assert names(log.take_committed(1, 2 * size)) == "2@1"
    assert not log.has_committed(2 * size)
    assert log.take_committed(1, 2 * size) == ()

    log.applied_to(1)

    assert log.has_committed(2 * size)
    assert names(log.take_committed(1, 2 * size)) == "3@1"
    log.check()

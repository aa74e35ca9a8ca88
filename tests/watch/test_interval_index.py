"""The interval index against a scan, and what it costs, counted in comparisons of keys."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from raftkv.watch.interval_index import IntervalIndex

keys = st.binary(min_size=0, max_size=2)
ranges = st.tuples(keys, keys).filter(lambda pair: pair[0] < pair[1])
steps = st.lists(st.tuples(st.booleans(), ranges, st.integers(0, 2)), max_size=60)


@given(steps, st.lists(keys, min_size=1, max_size=10))
@settings(max_examples=300, deadline=None)
def test_it_finds_what_a_scan_finds(changes: list[tuple[bool, tuple[bytes, bytes], int]], asked: list[bytes]) -> None:
    index: IntervalIndex[int] = IntervalIndex()
    plain: set[tuple[bytes, bytes, int]] = set()
    for is_new, (start, end), value in changes:
        if is_new:
            index.add(start, end, value)
            plain.add((start, end, value))
        elif (start, end, value) in plain:
            index.remove(start, end, value)
            plain.discard((start, end, value))
        index.check()

    for key in asked:
        expected = sorted(value for start, end, value in plain if start <= key < end)
        assert sorted(index.at(key)) == expected
    assert len(index) == len({(start, end) for start, end, _ in plain})


class CountedKey(bytes):
    """A key that counts how often it is compared."""

    comparisons = 0

    def __ge__(self, other: bytes) -> bool:
        CountedKey.comparisons += 1
        return bytes(self) >= other

    def __gt__(self, other: bytes) -> bool:
        CountedKey.comparisons += 1
        return bytes(self) > other

    def __le__(self, other: bytes) -> bool:
        CountedKey.comparisons += 1
        return bytes(self) <= other

    def __lt__(self, other: bytes) -> bool:
        CountedKey.comparisons += 1
        return bytes(self) < other


def comparisons(index: IntervalIndex[int], key: bytes) -> tuple[int, int]:
    """How many values are found, and with how many comparisons."""
    CountedKey.comparisons = 0
    found = list(index.at(CountedKey(key)))
    return len(found), CountedKey.comparisons


def test_among_ten_thousand_prefixes_one_is_found_with_a_few_dozen_comparisons() -> None:
    index: IntervalIndex[int] = IntervalIndex()
    for number in range(10_000):
        index.add(b"tenant/%05d/" % number, b"tenant/%05d0" % number, number)

    assert list(index.at(b"tenant/04711/name")) == [4711]

    worst = max(comparisons(index, b"tenant/%05d/name" % number)[1] for number in range(0, 10_000, 97))
    assert worst < 150, f"{worst} comparisons to find one of 10,000 ranges"


def test_a_range_over_everything_does_not_make_the_others_dearer() -> None:
    index: IntervalIndex[int] = IntervalIndex()
    index.add(b"", b"\xff" * 512, -1)
    for number in range(10_000):
        index.add(b"tenant/%05d/" % number, b"tenant/%05d0" % number, number)

    found, spent = comparisons(index, b"tenant/04711/name")

    assert (found, spent < 200) == (2, True), spent


def test_equal_ranges_share_a_node() -> None:
    index: IntervalIndex[int] = IntervalIndex()
    for number in range(1000):
        index.add(b"a", b"b", number)

    assert (len(index), len(list(index.at(b"a")))) == (1, 1000)
    assert comparisons(index, b"b") == (0, 1)

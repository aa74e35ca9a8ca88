"""One flipped bit, one file cut short: a member refuses to start, or has lost nothing. `make damage` tries thousands."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.storage_faults.damage import SCRATCH_PREFIX, Summary, run
from tests.storage_faults.donor import make_member
from tests.storage_faults.places import places_of
from tests.support import memory_directory

FLIPS, TRUNCATIONS = 168, 63

USED = (
    *("identity", "peers", "log: header", "log: head", "log: middle", "log: tail", "log: hard state"),
    *("LMDB leaf page", "LMDB large value", "sealed snapshot"),
)
LITTLE_USED = ("LMDB meta page 0", "LMDB meta page 1", "LMDB branch page")
"""Of one of the meta pages, and of most branches, the greater part means nothing."""
UNUSED = (
    *("lock", "LMDB lock", "flight record", "snapshot in flight", "snapshot half swapped in"),
    *("log: unused", "LMDB free page", "LMDB beyond the end"),
)


@pytest.fixture(scope="module")
def scratch() -> Iterator[Path]:
    with memory_directory(SCRATCH_PREFIX) as path:
        yield path


@pytest.fixture(scope="module")
def member(scratch: Path) -> Path:
    return make_member(scratch)


def test_a_member_holds_every_kind_of_file_and_page(member: Path) -> None:
    assert {place.kind for place in places_of(member)} == {*USED, *LITTLE_USED, *UNUSED}


def test_damage_is_refused_by_name_or_costs_nothing(member: Path, scratch: Path) -> None:
    summary = Summary(seed=8)

    run(member, scratch, summary, flips=FLIPS, truncations=TRUNCATIONS, jobs=1)

    assert not summary.violations, summary.violations
    assert (summary.flips, summary.truncations) == (FLIPS, TRUNCATIONS)
    for kind in USED:
        assert summary.kinds[f"{kind}, flipped"]["refused"], kind
    assert sum(summary.kinds[f"{kind}, flipped"]["refused"] for kind in LITTLE_USED)
    for kind in UNUSED:
        assert not summary.kinds[f"{kind}, flipped"]["refused"], kind

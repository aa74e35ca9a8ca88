from __future__ import annotations

import mmap
import os
from pathlib import Path

from benchmarks.measure import Leadership, memory_bytes, missing_revisions
from benchmarks.systems import turns

MIB = 1024 * 1024


def test_pages_of_a_mapped_file_are_no_private_memory(tmp_path: Path) -> None:
    path = tmp_path / "mapped"
    path.write_bytes(os.urandom(32 * MIB))
    private_before, mapped_before = memory_bytes(os.getpid())
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as pages:
        sum(pages[at] for at in range(0, len(pages), 4096))

        private, mapped = memory_bytes(os.getpid())

    assert mapped - mapped_before > 30 * MIB
    assert private - private_before < 8 * MIB


def test_a_process_that_is_gone_has_no_memory() -> None:
    assert memory_bytes(0) == (0, 0)


def test_acknowledged_writes_without_a_revision_are_counted_and_failed_ones_may_have_one() -> None:
    def missing(grown: int, *, acknowledged: int, failed: int) -> int:
        before = Leadership(leader="n1", term=1, revision=5)
        after = Leadership(leader="n1", term=1, revision=5 + grown)
        return missing_revisions(before, after, acknowledged=acknowledged, failed=failed)

    assert missing(10, acknowledged=10, failed=0) == 0
    assert missing(8, acknowledged=10, failed=0) == 2
    assert missing(12, acknowledged=10, failed=2) == 0
    assert missing(13, acknowledged=10, failed=2) == 1


def test_systems_take_turns_and_every_other_round_the_other_way_round() -> None:
    assert turns(["a", "b"], 3) == [(0, "a"), (0, "b"), (1, "b"), (1, "a"), (2, "a"), (2, "b")]

"""A node killed at a disk system call restarts with everything it promised. `make crash-points` tries every call."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.storage_faults.crash_points import crash_at, crash_points
from tests.storage_faults.driver import ENTRIES_A_TERM, TERMS, donate
from tests.storage_faults.strace import require_strace

EVERY = 16
PROMISES_ALL = 1 + TERMS * (3 + ENTRIES_A_TERM) + 3


def test_every_promise_outlives_a_kill_at_a_disk_call(tmp_path: Path) -> None:
    require_strace()
    donated = tmp_path / "donated"
    donate(donated)
    (tmp_path / "counted").mkdir()
    points = crash_points(tmp_path / "counted", every=EVERY)
    assert sum(map(len, points.values())) >= 8, points

    for call, numbers in points.items():
        for number in numbers:
            directory = tmp_path / f"{call}{number}"
            promises = crash_at(directory, donated, call, number)
            assert promises <= PROMISES_ALL
            shutil.rmtree(directory)

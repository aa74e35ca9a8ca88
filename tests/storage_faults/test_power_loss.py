"""Power loss: everything that was not synced is gone, on one node, on a majority, or on all of them at once."""

from __future__ import annotations

import os
import random
from pathlib import Path

from tests.storage_faults.disks import disks_at, require_disks
from tests.storage_faults.power_cuts import Summary, live


def test_a_cut_loses_what_was_not_synced_and_keeps_what_was(tmp_path: Path) -> None:
    """The fault itself: a power cut that loses nothing would prove nothing."""
    require_disks()
    with disks_at([tmp_path / "disk"], tmp_path / "images") as (disk,):
        synced, unsynced = disk.mount_point / "synced", disk.mount_point / "unsynced"
        synced.write_bytes(b"promised")
        os.sync()
        unsynced.write_bytes(b"not promised")

        disk.cut_power()
        disk.unmount()
        disk.mount()

        assert synced.read_bytes() == b"promised"
        assert not unsynced.exists()


def test_no_acknowledged_write_is_lost_when_the_power_goes(tmp_path: Path) -> None:
    """`make power-cuts` does the same as often as one likes."""
    require_disks()
    summary = Summary()

    live(tmp_path, ["one", "all", "majority", "all"], random.Random(7), summary)

    assert summary.cuts == {"one": 1, "majority": 1, "all": 2}

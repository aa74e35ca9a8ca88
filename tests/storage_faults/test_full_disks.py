"""One full disk of three: the node on it says so and stops, the others go on, and with space again it catches up."""

from __future__ import annotations

import os
from pathlib import Path

from raftkv.lab.cluster import LocalCluster
from tests.failover.load import load, write
from tests.storage_faults.disks import Disk, disks_at, require_disks
from tests.storage_faults.support import last_word

LEFT_BYTES = 512 * 1024


def fill(disk: Disk, *, left: int = LEFT_BYTES) -> Path:
    """A file that takes all space but this."""
    ballast = disk.mount_point.parent / disk.mount_point.name / "lost+found" / "ballast"
    handle = os.open(ballast, os.O_CREAT | os.O_WRONLY)
    try:
        os.posix_fallocate(handle, 0, max(4096, disk.bytes_free() - left))
    finally:
        os.close(handle)
    return ballast


def test_one_full_disk_does_not_stop_the_cluster(tmp_path: Path) -> None:
    require_disks()
    cluster = LocalCluster.create(tmp_path / "cluster", proxy=False, flags=("--snapshot-count", "500"), leashed=True)
    with disks_at([cluster.data_path(name) for name in cluster.names], tmp_path / "images") as disks, cluster:
        cluster.start()
        leader = cluster.wait_for_leader()
        disk = disks[cluster.names.index(leader)]
        with load(cluster) as traffic:
            ballast = fill(disk)

            said = last_word(cluster, leader)

            assert any(text in said for text in ("full", "No space left")), said
            write(traffic, 1500)  # So many that the log behind them goes: the node will need a snapshot.
            ballast.unlink()
            cluster.start([leader])

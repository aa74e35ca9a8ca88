"""A full disk under one of three nodes, in each place that takes space: a clear word, the others go on, nothing is lost."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

import raftkv
from raftkv.lab import logs
from raftkv.lab.cluster import LocalCluster
from tests.failover.load import load, wait_until, write
from tests.storage_faults.disks import Disk, disks_at, require_disks
from tests.storage_faults.donor import copy_tree
from tests.storage_faults.support import has_ended, last_word

LEFT_BYTES = 512 * 1024
FLAGS = ("--snapshot-count", "200")
VALUE_BYTES, VALUES = 256 * 1024, 80
"""Written while a node is down: a snapshot that does not fit where a log does."""


def fill(disk: Disk, *, left: int = LEFT_BYTES) -> Path:
    """A file that takes all space but this."""
    ballast = disk.mount_point.parent / disk.mount_point.name / "lost+found" / "ballast"
    handle = os.open(ballast, os.O_CREAT | os.O_WRONLY)
    try:
        os.posix_fallocate(handle, 0, max(4096, disk.bytes_free() - left))
    finally:
        os.close(handle)
    return ballast


def put_large_values(cluster: LocalCluster, names: list[str]) -> None:
    with raftkv.connect([cluster.endpoint(name) for name in names], timeout=20.0) as client:
        for number in range(VALUES):
            client.put(f"large/{number}", os.urandom(VALUE_BYTES))
        for number in range(300):  # So many entries that the log behind them goes.
            client.put("small", b"%d" % number)


def put_until_ended(cluster: LocalCluster, name: str) -> None:
    """Large values, one after the other, until a node's disk has no room for them."""
    endpoints = [cluster.endpoint(other) for other in cluster.names if other != name]
    with raftkv.connect(endpoints, timeout=20.0) as client:
        for number in range(8 * VALUES):
            client.put(f"large/{number % VALUES}", os.urandom(VALUE_BYTES))
            if has_ended(cluster, name):
                return


def has_said(cluster: LocalCluster, name: str, text: str) -> bool:
    return any(text in line for line in logs.tail(cluster.log_path(name), 200))


def test_one_full_disk_does_not_stop_the_cluster(tmp_path: Path) -> None:
    require_disks()
    cluster = LocalCluster.create(tmp_path / "cluster", proxy=False, flags=("--snapshot-count", "500"), leashed=True)
    with disks_at([cluster.data_path(name) for name in cluster.names], tmp_path / "images") as disks, cluster:
        leader = cluster.up()
        disk = disks[cluster.names.index(leader)]
        with load(cluster) as traffic:
            ballast = fill(disk)

            said = last_word(cluster, leader)

            assert any(text in said for text in ("full", "No space left")), said
            write(traffic, 1500)  # So many that the log behind them goes: the node will need a snapshot.
            ballast.unlink()
            cluster.start([leader])


@pytest.mark.parametrize("folder", ["wal", "state"])
def test_the_disk_of_the_log_or_of_the_state_alone_is_full(tmp_path: Path, folder: str) -> None:
    """Each on a disk of its own, as operators like to have it."""
    require_disks()
    cluster = LocalCluster.create(tmp_path / "cluster", proxy=False, leashed=True)
    with cluster:
        cluster.up()
        cluster.stop("n2")
        place = cluster.data_path("n2") / folder
        shutil.move(place, tmp_path / "moved")
        with disks_at([place], tmp_path / "images") as (disk,), cluster:  # It ends before its disk goes.
            copy_tree(tmp_path / "moved", place)
            ballast = fill(disk)
            cluster.start(["n2"], wait=False)
            with load(cluster) as traffic:
                write(traffic, 200)

                put_until_ended(cluster, "n2")
                said = last_word(cluster, "n2")

                assert any(text in said for text in ("full", "No space left")), said
                ballast.unlink()
                cluster.start(["n2"])


def test_a_snapshot_that_does_not_fit_on_the_receiver_is_refused_and_sent_again(tmp_path: Path) -> None:
    require_disks()
    cluster = LocalCluster.create(tmp_path / "cluster", proxy=False, flags=FLAGS, leashed=True)
    with disks_at([cluster.data_path("n3")], tmp_path / "images") as (disk,), cluster:
        cluster.up()
        cluster.stop("n3")
        put_large_values(cluster, ["n1", "n2"])
        ballast = fill(disk, left=VALUES * VALUE_BYTES // 2)
        cluster.start(["n3"])

        wait_until(lambda: has_said(cluster, "n3", "a snapshot could not be stored"), "n3 has no room")
        assert cluster.process_state("n3") == "running"
        with load(cluster) as traffic:
            write(traffic, 100)
            ballast.unlink()


def test_a_leader_without_room_for_a_snapshot_goes_on_and_makes_it_later(tmp_path: Path) -> None:
    require_disks()
    cluster = LocalCluster.create(tmp_path / "cluster", proxy=False, flags=FLAGS, leashed=True)
    names = cluster.names
    with disks_at([cluster.data_path(name) for name in names], tmp_path / "images", size=320 << 20) as disks, cluster:
        cluster.up()
        cluster.stop("n3")
        put_large_values(cluster, ["n1", "n2"])
        ballasts = [fill(disk, left=VALUES * VALUE_BYTES // 2) for disk in disks[:2]]
        cluster.start(["n3"])

        def is_told() -> bool:
            return any(has_said(cluster, name, "no snapshot could be made") for name in ("n1", "n2"))

        wait_until(is_told, "the leader has no room")
        assert {cluster.process_state(name) for name in names} == {"running"}
        for ballast in ballasts:
            ballast.unlink()
        with load(cluster) as traffic:
            write(traffic, 100)

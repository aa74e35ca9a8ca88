"""Acknowledging before the sync, and power loss: must lose writes every time, or the power cuts prove nothing."""

from __future__ import annotations

from pathlib import Path

from raftkv.lab.cluster import LocalCluster
from raftkv.lab.traffic import Traffic
from tests.failover.load import write
from tests.storage_faults.disks import Disk, disks_at, require_disks
from tests.storage_faults.lying_serve import COMMAND, lies_path
from tests.storage_faults.power_cuts import cut

ROUNDS = 2


def lose_power(cluster: LocalCluster, disks: dict[str, Disk], traffic: Traffic, *, lying: bool) -> int:
    """Write, cut everybody's power, start again: how many of all acknowledged writes are gone."""
    names = cluster.names
    for name in names if lying else ():
        lies_path(cluster.data_path(name)).touch()
    cluster.up()
    traffic.start()
    write(traffic, 300)
    cut(cluster, disks, names)
    for name in names:
        lies_path(cluster.data_path(name)).unlink(missing_ok=True)
    cluster.up()
    traffic.stop()
    lost = traffic.read_back().lost
    cluster.stop(*names)
    return len(lost)


def test_a_node_that_acknowledges_before_the_sync_is_caught_by_a_power_cut(tmp_path: Path) -> None:
    require_disks()
    cluster = LocalCluster.create(tmp_path / "cluster", proxy=False, command=COMMAND, leashed=True)
    names = cluster.names
    with disks_at([cluster.data_path(name) for name in names], tmp_path / "images") as mounted, cluster:
        disks = dict(zip(names, mounted, strict=True))
        with Traffic(list(cluster.endpoints.values()), pause_s=0.0, timeout_s=5.0) as traffic:
            # Once in honesty, so that what is lost later is what was acknowledged, not the directory itself.
            lost = lose_power(cluster, disks, traffic, lying=False)
            assert lost == 0
            for _ in range(ROUNDS):
                lost_before, lost = lost, lose_power(cluster, disks, traffic, lying=True)

                assert lost >= lost_before + 100, f"{lost} writes lost, {lost_before} of them before"

"""A disk that fails one call of a running node: the node stops with one line, the cluster goes on, nothing is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from raftkv.lab.cluster import LocalCluster
from tests.failover.load import load, write
from tests.storage_faults.faulty_serve import COMMAND, faults_path
from tests.storage_faults.strace import require_strace
from tests.storage_faults.support import last_word

FAULTS = (
    "fdatasync:error=EIO:when=1",
    "fdatasync:error=EIO:when=25+",
    "pwrite64:error=EIO:when=40",
    "fsync:error=EIO:when=1",
)


@pytest.mark.parametrize("faults", [FAULTS], ids=["a call each"])
def test_a_node_whose_disk_fails_stops_and_the_cluster_goes_on(tmp_path: Path, faults: tuple[str, ...]) -> None:
    require_strace()
    cluster = LocalCluster.create(tmp_path / "cluster", proxy=False, command=COMMAND, leashed=True)
    with cluster:
        cluster.start()
        cluster.wait_for_leader()
        with load(cluster) as traffic:
            for number, fault in enumerate(faults):
                name = cluster.names[number % 3]
                cluster.stop(name)
                faults_path(cluster.data_path(name)).write_text(fault)

                cluster.start([name], wait=False)

                said = last_word(cluster, name)
                assert "Input/output error" in said, (fault, said)
                write(traffic, 100)
                faults_path(cluster.data_path(name)).unlink()
                cluster.start([name])

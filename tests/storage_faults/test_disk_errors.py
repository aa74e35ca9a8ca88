"""A disk that fails one call: the node stops with one line, the cluster goes on, nothing is lost. `make disk-errors`: every call."""

from __future__ import annotations

from pathlib import Path

import pytest

from raftkv.lab.cluster import LocalCluster
from raftkv.lab.traffic import Traffic
from tests.failover.load import load, write
from tests.storage_faults.disk_errors import fail_driver, fail_node, points
from tests.storage_faults.driver import donate
from tests.storage_faults.faulty_serve import COMMAND, faults_path
from tests.storage_faults.strace import require_strace
from tests.storage_faults.support import last_word

FAULTS = (
    "fdatasync:error=EIO:when=1",
    "fdatasync:error=EIO:when=25+",
    "pwrite64:error=EIO:when=40",
    "fsync:error=EIO:when=1",
)
EVERY = 12
"""Of the driver's calls."""


@pytest.mark.parametrize("faults", [FAULTS], ids=["a call each"])
def test_a_node_whose_disk_fails_stops_and_the_cluster_goes_on(tmp_path: Path, faults: tuple[str, ...]) -> None:
    require_strace()
    cluster = LocalCluster.create(tmp_path / "cluster", proxy=False, command=COMMAND, leashed=True)
    with cluster:
        cluster.up()
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


def test_an_error_at_any_disk_call_stops_the_process_by_name_and_breaks_no_promise(tmp_path: Path) -> None:
    require_strace()
    donated = tmp_path / "donated"
    donate(donated)
    (tmp_path / "counted").mkdir()
    chosen = points(tmp_path / "counted", every=EVERY)
    assert {call for call, _ in chosen} == {"fsync", "fdatasync", "pwrite64"}

    for call, number in chosen:
        fail_driver(tmp_path / f"{call}{number}", donated, call, number)


def test_a_lone_node_whose_disk_fails_acknowledges_nothing_it_does_not_have(tmp_path: Path) -> None:
    require_strace()
    with (
        LocalCluster.create(tmp_path / "cluster", nodes=1, proxy=False, command=COMMAND, leashed=True) as cluster,
        Traffic(list(cluster.endpoints.values()), writers=2, pause_s=0.0, timeout_s=20.0) as traffic,
    ):
        for call, number in (("fdatasync", 30), ("pwrite64", 33)):
            assert fail_node(cluster, traffic, call, number), f"{call} {number} was never reached"
        assert traffic.counts.acknowledged > 20

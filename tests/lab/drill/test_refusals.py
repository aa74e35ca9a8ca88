"""What a drill does not begin with: one clear line, and nothing was touched."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import raftkv
from raftkv.lab.cluster import LocalCluster
from tests.lab.drill.conftest import Run, everything_is_good, last_line


@pytest.fixture
def kv(cluster: LocalCluster) -> Iterator[raftkv.Client]:
    with raftkv.connect(",".join(cluster.endpoints.values())) as kv:
        yield kv


def endpoints(cluster: LocalCluster) -> str:
    return ",".join(cluster.endpoints.values())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--fault", "flood"), "--fault"),
        (("--rounds", "0"), "--rounds"),
        (("--max-outage", "soon"), "--max-outage"),
        (("--max-outage", "0s"), "--max-outage"),
        (("--load", "heavy"), "idle, half"),
        (("--load", "-1"), "idle, half"),
        (("--prefix", ""), "1 to 256 bytes"),
        (("--report", "no/such/directory/drill.html"), "no/such/directory"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_bad_flag_is_named(run: Run, arguments: tuple[str, ...], says: str) -> None:
    done = run(*arguments)

    assert done.returncode == 2, done.stderr
    assert says in last_line(done)


def test_a_cluster_that_does_not_answer(run: Run) -> None:
    done = run("--endpoints", "127.0.0.1:1")

    assert (done.returncode, last_line(done)) == (1, "Error: no node answers: 127.0.0.1:1 cannot be reached")


def test_a_directory_without_a_cluster(run: Run, tmp_path: Path) -> None:
    done = run("--local", str(tmp_path))

    assert done.returncode == 1
    assert f"no cluster in {tmp_path}" in last_line(done)


def test_a_store_of_one_node_has_no_failover(run: Run, tmp_path: Path) -> None:
    with LocalCluster.create(tmp_path / "one", nodes=1, proxy=False, leashed=True) as one:
        one.up()

        done = run("--endpoints", endpoints(one))

    assert done.returncode == 1
    assert "this cluster has 1 voting node: without 3" in last_line(done)


def test_an_etcd_is_left_alone(run: Run, tmp_path: Path) -> None:
    if shutil.which("etcd") is None:
        pytest.skip("etcd is not installed: nothing foreign to meet")
    with LocalCluster.create(tmp_path / "etcd", nodes=3, proxy=False, command=["etcd"], leashed=True) as foreign:
        foreign.up()

        done = run("--endpoints", endpoints(foreign), "--fault", "transfer")

    assert done.returncode == 1
    assert "is not a raftkv node" in last_line(done)


def test_a_cluster_with_a_dead_node_is_not_healthy(run: Run, cluster: LocalCluster) -> None:
    cluster.kill("n2")

    done = run("--local", str(cluster.directory))
    cluster.start(["n2"])

    assert done.returncode == 1
    assert "not healthy" in last_line(done)
    assert f"n2 ({cluster.endpoint('n2')}) cannot be reached" in last_line(done)
    everything_is_good(cluster)


def test_a_prefix_that_holds_data_is_not_touched(run: Run, cluster: LocalCluster, kv: raftkv.Client) -> None:
    kv.put("precious/one", "1")

    done = run("--local", str(cluster.directory), "--prefix", "precious/")

    assert done.returncode == 1
    assert "there are 1 keys under the prefix 'precious/'" in last_line(done)
    assert kv.delete("precious/one").deleted == 1
    everything_is_good(cluster)


def test_faults_that_a_remote_cluster_cannot_make_are_named(run: Run, cluster: LocalCluster, tmp_path: Path) -> None:
    done = run("--endpoints", endpoints(cluster), "--fault", "stop", "--fault", "restart-all", "--fault", "crash")

    assert done.returncode == 1
    assert "stop: only processes of a cluster on this machine can be stopped" in last_line(done)
    assert "crash:" not in last_line(done)  # Its nodes have drills enabled.
    everything_is_good(cluster)


def test_without_proxy_and_drills_a_local_cluster_cannot_be_cut_or_have_its_disks_broken(
    run: Run, tmp_path: Path
) -> None:
    with LocalCluster.create(tmp_path / "plain", proxy=False, leashed=True) as plain:
        plain.up()

        cut = run("--local", str(plain.directory), "--fault", "partition")
        disk = run("--local", str(plain.directory), "--fault", "disk-full")
        remote = run("--endpoints", endpoints(plain), "--fault", "crash")

    assert "partition: the cluster was started without a proxy" in last_line(cut)
    assert "disk-full: n1, n2, n3 were not started with --enable-drills" in last_line(disk)
    assert "crash: n1, n2, n3 were not started with --enable-drills" in last_line(remote)
    assert {cut.returncode, disk.returncode, remote.returncode} == {1}

"""Real drills of real nodes: how they judge, and that they leave nothing broken. Correctness, not time."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

import raftkv
from raftkv.lab.cluster import LocalCluster
from raftkv.lab.drill.faults import move_leader
from raftkv.lab.drill.lock import KEY
from raftkv.lab.drill.target import discover, require_healthy
from raftkv.lab.process import wait_until
from raftkv.storage.data_dir import FORMAT_FILE
from tests.lab.drill.conftest import Begin, Run, everything_is_good, last_line, wait_for_line

PATIENCE = ("--max-outage", "60s")
WAIT_S = 60.0


def result_of(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(done.stdout)
    problems = [round_["problems"] for round_ in found["rounds"]]
    assert (done.returncode, found["ok"]) == (0, True), (problems, done.stderr)
    return found


@pytest.mark.parametrize(
    "faults",
    [
        ("crash", "hang"),
        ("stop", "transfer"),
        ("partition", "partition-oneway"),
        ("disk-stall", "disk-full"),
        ("restart-all",),
    ],
    ids=" ".join,
)
def test_a_local_cluster_passes(run: Run, cluster: LocalCluster, faults: tuple[str, ...]) -> None:
    chosen = [word for fault in faults for word in ("--fault", fault)]

    found = result_of(run("--local", str(cluster.directory), *chosen, *PATIENCE, "--json"))

    assert [round_["fault"] for round_ in found["rounds"]] == list(faults)
    for round_ in found["rounds"]:
        assert round_["operations"] > 100
        assert round_["lost"] == []
        assert round_["linearizable"] == "linearizable"
        assert len(set(round_["hashes"].values())) == 1
        assert round_["write_outage_ms"] > 0
    everything_is_good(cluster)


def test_a_cluster_elsewhere_passes_with_what_its_nodes_do_on_request(
    run: Run, cluster: LocalCluster, tmp_path: Path
) -> None:
    page = tmp_path / "drill.html"
    endpoints = ",".join(cluster.endpoints.values())
    faults = ("--fault", "transfer", "--fault", "hang", "--fault", "partition-oneway")

    done = run("--endpoints", endpoints, *faults, *PATIENCE, "--load", "200", "--report", str(page))

    assert done.returncode == 0, (done.stdout, done.stderr)
    assert done.stdout.count("passed") == 3
    assert page.read_text().count("<svg") == 3
    everything_is_good(cluster)


def test_it_breaks_whoever_leads_when_the_fault_begins(begin: Begin, cluster: LocalCluster) -> None:
    endpoints = list(cluster.endpoints.values())
    process = begin("--endpoints", ",".join(endpoints), "--fault", "transfer", *PATIENCE, "--json")
    wait_for_line(process, "before the fault")

    process.send_signal(signal.SIGSTOP)  # It shall not be done with that before leadership has moved.
    target = discover(endpoints)
    moved_to = move_leader(target, require_healthy(target))
    process.send_signal(signal.SIGCONT)
    broken = wait_for_line(process, "breaking")
    out, err = process.communicate(timeout=WAIT_S)

    assert f"breaking {moved_to}" in broken
    assert process.returncode == 0, (out, err)
    everything_is_good(cluster)


def test_an_outage_beyond_the_limit_fails_the_drill(run: Run, cluster: LocalCluster) -> None:
    done = run("--local", str(cluster.directory), "--fault", "hang", "--max-outage", "1ms")

    assert done.returncode == 1
    assert "failed" in done.stdout
    assert "0.001 s is the limit" in done.stderr
    everything_is_good(cluster)


def test_ctrl_c_makes_everything_good_first(begin: Begin, cluster: LocalCluster) -> None:
    process = begin("--local", str(cluster.directory), "--fault", "hang", *PATIENCE)
    wait_for_line(process, "paused")

    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=WAIT_S)

    assert process.returncode == 130
    assert "interrupted: everything that was broken is made good again" in err
    everything_is_good(cluster)


def test_a_drill_that_is_killed_leaves_no_node_broken(begin: Begin, run: Run, cluster: LocalCluster) -> None:
    process = begin("--local", str(cluster.directory), "--fault", "hang", *PATIENCE, "--prefix", "killed/")
    wait_for_line(process, "paused")

    process.kill()

    states = lambda: {cluster.process_state(name) for name in cluster.names}  # noqa: E731
    assert wait_until(lambda: states() == {"running"}, WAIT_S), states()
    again = run("--local", str(cluster.directory), "--prefix", "killed/")
    assert "keys under the prefix 'killed/'" in last_line(again)
    with raftkv.connect(",".join(cluster.endpoints.values())) as kv:
        kv.delete(prefix="killed/")
        kv.delete(KEY)
    everything_is_good(cluster)


def test_a_node_that_never_comes_back(begin: Begin, tmp_path: Path) -> None:
    with LocalCluster.create(tmp_path / "cluster", proxy=False, leashed=True) as cluster:
        cluster.up()
        process = begin(
            "--local", str(cluster.directory), "--fault", "crash", "--fault", "transfer", *PATIENCE, "--json"
        )
        dead = wait_for_line(process, "killed").split("killed ")[1].split()[0]
        (cluster.data_path(dead) / FORMAT_FILE).unlink()

        out, err = process.communicate(timeout=WAIT_S)
        left = cluster.status()

        assert process.returncode == 1
        assert f"{dead} does not come back" in err.strip().splitlines()[-1]
        assert json.loads(out)["rounds"][0]["ok"] is False
        assert [node.name for node in left if node.pid is None] == [dead]

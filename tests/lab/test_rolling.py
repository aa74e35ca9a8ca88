"""A rolling restart under load, seen by clients with the default deadline."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import raftkv
from raftkv.lab.cluster import LocalCluster
from raftkv.lab.errors import LabError
from raftkv.lab.rolling import PREFIX, rolling_restart
from tests.lab.conftest import MakeCluster

SCRIPT = Path(__file__).parents[2] / "cluster" / "local.py"


def running(cluster: LocalCluster) -> LocalCluster:
    cluster.up()
    return cluster


def test_a_rolling_restart_under_load_fails_no_request(make_cluster: MakeCluster) -> None:
    cluster = running(make_cluster(nodes=3))
    pids = {name: cluster.pid(name) for name in cluster.names}

    done = subprocess.run(
        [sys.executable, str(SCRIPT), "rolling-restart", "--load", "50", "--dir", str(cluster.directory)],
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"([\d,]+) requests with the default deadline, (\d+) failed", done.stdout)
    assert found is not None, done.stdout
    assert int(found[1].replace(",", "")) > 300
    assert found[2] == "0"
    assert "0 acknowledged writes lost; the history is linearizable" in done.stdout
    assert all(cluster.pid(name) not in (None, pid) for name, pid in pids.items())
    with raftkv.connect(",".join(cluster.endpoints.values())) as kv:
        assert kv.count(prefix=PREFIX) == 0


async def test_a_cluster_that_is_not_whole_is_not_restarted(make_cluster: MakeCluster) -> None:
    cluster = running(make_cluster(nodes=3))
    cluster.stop("n2")

    with pytest.raises(LabError, match=r"n2 .* cannot be reached"):
        await rolling_restart(cluster, load=0, tell=lambda _: None)

    assert cluster.pid("n1") is not None

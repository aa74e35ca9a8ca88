"""`raftkv why` on real nodes: who went, who took over, after how long; also while the dead are still dead."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

from raftkv.lab.cluster import LocalCluster
from tests.failover.conftest import Start
from tests.failover.load import wait_until

COMMAND_S = 30.0


def why(cluster: LocalCluster, *arguments: str, asking: str = "") -> str:
    """Run the command; it is told of one endpoint only, or of all."""
    endpoints = cluster.endpoint(asking) if asking else ",".join(cluster.endpoints.values())
    command = [sys.executable, "-m", "raftkv", "why", "--endpoints", endpoints, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_S)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def failovers(cluster: LocalCluster, *, asking: str = "") -> list[dict[str, Any]]:
    answer = json.loads(why(cluster, "--json", asking=asking))
    return list(answer["failovers"])


def last(cluster: LocalCluster) -> tuple[str, str, str]:
    failover = failovers(cluster)[-1]
    return failover["cause"], failover["previous"], failover["leader"]


def test_the_death_of_a_leader_is_explained_while_it_is_dead_and_when_it_is_back(start_cluster: Start) -> None:
    cluster = start_cluster()
    dead = cluster.wait_for_leader()
    witness = next(name for name in cluster.names if name != dead)
    killed_at = time.time()

    cluster.kill(dead)
    heir = cluster.wait_for_leader(other_than=dead)
    wait_until(lambda: len(failovers(cluster, asking=witness)) == 2, "the failover is on record")

    text = why(cluster, asking=witness)
    assert f"{dead} died; {heir} led term " in text
    assert f"no record of {dead}: {cluster.endpoint(dead)}: connection refused" in text
    assert "redial refused" in text
    failover = failovers(cluster, asking=witness)[-1]
    assert (failover["cause"], failover["previous"], failover["leader"]) == ("died", dead, heir)
    assert failover["began_at"] >= killed_at - 0.1
    assert failover["led_at"] <= time.time()
    assert 0 < failover["outage_ms"] <= (time.time() - killed_at) * 1000

    cluster.restart(dead)
    wait_until(lambda: "its run before ended without a stop" in why(cluster), "the dead node tells of its end")
    assert f"no record of {dead}" not in why(cluster)


def test_a_leader_that_was_stopped_a_hung_one_and_a_cut_one_are_told_apart(start_cluster: Start) -> None:
    cluster = start_cluster(proxy=True)

    stopped = cluster.wait_for_leader()
    cluster.stop(stopped)
    cluster.start([stopped])
    heir = cluster.wait_for_leader(other_than=stopped)
    wait_until(lambda: last(cluster) == ("stopped", stopped, heir), "the hand-over is told")

    hung = cluster.wait_for_leader()
    cluster.pause(hung)
    heir = cluster.wait_for_leader(other_than=hung)
    cluster.resume(hung)
    wait_until(lambda: last(cluster) == ("hung", hung, heir), "the hang is told by the one who hung")

    cut = cluster.wait_for_leader()
    others = [name for name in cluster.names if name != cut]
    cluster.partition([[cut], others])
    wait_until(lambda: cluster.leader() in others, "another leader")
    heir = cluster.wait_for_leader(other_than=cut)
    cluster.heal()
    wait_until(lambda: last(cluster) == ("cut off", cut, heir), "the cut is told")


def test_when_all_are_dead_their_disks_tell(start_cluster: Start) -> None:
    cluster = start_cluster()
    leader = cluster.wait_for_leader()
    cluster.kill(leader)
    heir = cluster.wait_for_leader(other_than=leader)
    wait_until(lambda: last(cluster)[2] == heir, "the failover is on record")
    cluster.kill(*(name for name in cluster.names if name != leader))

    directories = [word for name in cluster.names for word in ("--data-dir", str(cluster.data_path(name)))]
    command = [sys.executable, "-m", "raftkv", "why", *directories]
    text = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_S, check=True).stdout

    assert f"{leader} died; {heir} led term " in text

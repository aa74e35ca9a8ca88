"""A member that comes back without its data, or with an older copy of it, has forgotten votes and entries: it takes no part."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from raftkv.lab.cluster import LocalCluster
from raftkv.lab.traffic import Traffic
from tests.failover.load import wait_until, write
from tests.storage_faults.conftest import Start
from tests.storage_faults.support import last_word
from tests.support import copy_data_dir


@contextmanager
def writes_unknown_to(cluster: LocalCluster, absent: str, *, count: int = 100) -> Iterator[None]:
    """Acknowledged writes of which `absent` has never heard; then everybody is down. At the end they must all be there."""
    cluster.stop(absent)
    with Traffic(list(cluster.endpoints.values()), pause_s=0.0, timeout_s=5.0) as traffic:
        traffic.start()
        write(traffic, count)
        traffic.stop()
        cluster.stop(*(name for name in cluster.names if name != absent))
        yield
        cluster.wait_for_leader()
        verdict = traffic.read_back()
        assert verdict.good, verdict


def has_met_all(cluster: LocalCluster, name: str, *, incarnation: int) -> bool:
    """Whether a node has written down what the two others said of their data, one of them in this incarnation."""
    file = cluster.data_path(name) / "peers.json"
    marks = json.loads(file.read_text())["peers"].values() if file.exists() else ()
    return len(marks) == 2 and any(mark["incarnation"] == incarnation for mark in marks)


def test_a_member_whose_disk_was_emptied_does_not_vote_again(start_cluster: Start) -> None:
    """n1 and n2 have acknowledged what n3 does not know. With n1 emptied, n1 and n3 would be a majority without it."""
    cluster = start_cluster()
    wait_until(lambda: has_met_all(cluster, "n3", incarnation=1), "n3 meets the others")
    with writes_unknown_to(cluster, "n3"):
        shutil.rmtree(cluster.data_path("n1"))

        cluster.start(["n1", "n3"], wait=False)

        assert "it has lost its data" in last_word(cluster, "n1")
        assert cluster.leader() is None
        cluster.start(["n2", "n3"])


@pytest.mark.parametrize("copied_from", ["n1", "n3"])
def test_a_member_with_an_older_copy_of_its_disk_does_not_vote_again(
    start_cluster: Start, tmp_path: Path, copied_from: str
) -> None:
    """Whoever dials whom: n3 is the one with the copy, and then n1."""
    cluster = start_cluster()
    old, other = (copied_from, "n3" if copied_from == "n1" else "n1")
    cluster.stop(old)
    copy_data_dir(cluster.data_path(old), tmp_path / "copy")
    cluster.start([old])
    wait_until(lambda: has_met_all(cluster, other, incarnation=2), f"{other} meets {old} again")
    with writes_unknown_to(cluster, other):
        shutil.rmtree(cluster.data_path(old))
        copy_data_dir(tmp_path / "copy", cluster.data_path(old))

        cluster.start([old, other], wait=False)

        assert "an older copy of its data" in last_word(cluster, old)
        assert cluster.leader() is None
        cluster.start(["n2", other])

"""A member of a local cluster is replaced by another one, in its place."""

from __future__ import annotations

from pathlib import Path

import pytest

import raftkv
from raftkv.lab.cluster import LocalCluster
from raftkv.lab.errors import LabError
from raftkv.lab.members import replace_member


def test_another_member_takes_a_nodes_place(tmp_path: Path) -> None:
    with LocalCluster.create(tmp_path / "cluster", proxy=False, leashed=True) as cluster:
        cluster.up()
        with raftkv.connect(",".join(cluster.endpoints.values())) as kv:
            kv.put("before", "there", timeout=10)

        old, new = replace_member(cluster, "n2")

        assert old != new
        with raftkv.connect(cluster.endpoint("n2")) as kv:
            ids = {member.id for member in kv.members(timeout=10)}
            assert new in ids
            assert old not in ids
            item = kv.get("before", timeout=10)
            assert item is not None
            assert item.text == "there"


def test_the_only_member_is_not_replaced_and_goes_on(tmp_path: Path) -> None:
    with LocalCluster.create(tmp_path / "cluster", nodes=1, proxy=False, leashed=True) as cluster:
        cluster.up()

        with pytest.raises(LabError, match="n1 could not be replaced: etcdserver: re-configuration failed"):
            replace_member(cluster, "n1")
        with pytest.raises(LabError, match="no node 'n7'"):
            replace_member(cluster, "n7")

        assert cluster.wait_for_leader() == "n1"

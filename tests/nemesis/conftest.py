"""A cluster of three for the tests of a file, on disk, and gone afterwards."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from raftkv.lab.cluster import LocalCluster


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """So short a log that a node which was away needs a snapshot."""
    parent = tmp_path_factory.mktemp("nemesis")
    with LocalCluster.temporary(parent=parent, flags=["--snapshot-count", "100"]) as cluster:
        cluster.up()
        yield cluster

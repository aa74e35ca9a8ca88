"""Clusters for these tests. Nothing here may outlive a test: every cluster is leashed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from raftkv.lab.cluster import SERVE, LocalCluster

# What serves in these tests. Any server that takes etcd's flags will do: ("etcd",) tests the laboratory without raftkv.
SERVER_COMMAND: tuple[str, ...] = SERVE
KNOWS_PEER_DIAL = SERVER_COMMAND != ("etcd",)

MakeCluster = Callable[..., LocalCluster]


@pytest.fixture
def make_cluster(tmp_path: Path) -> Iterator[MakeCluster]:
    """Make clusters, not started, that are taken down at the end of the test."""
    with ExitStack() as stack:

        def make(**options: Any) -> LocalCluster:
            directory = options.pop("directory", tmp_path / "cluster")
            defaults = {"command": SERVER_COMMAND, "proxy": False, "nodes": 1, "leashed": True}
            return stack.enter_context(LocalCluster.create(directory, **defaults | options))

        yield make

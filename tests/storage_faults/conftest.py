"""Clusters of three real processes whose disks fail. Nothing outlives a test: every cluster is leashed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from raftkv.lab.cluster import LocalCluster

Start = Callable[..., LocalCluster]


@pytest.fixture
def start_cluster(tmp_path: Path) -> Iterator[Start]:
    """Start a cluster of three, with the flags given."""
    with ExitStack() as stack:

        def start(*flags: str) -> LocalCluster:
            cluster = stack.enter_context(
                LocalCluster.create(tmp_path / "cluster", proxy=False, flags=flags, leashed=True)
            )
            cluster.up()
            return cluster

        yield start

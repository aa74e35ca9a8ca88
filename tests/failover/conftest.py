"""Clusters of three real processes under load. Nothing outlives a test: every cluster is leashed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from raftkv.lab.cluster import LocalCluster

Start = Callable[..., LocalCluster]

PATIENT = ("--election-timeout", "1500", "--watchdog-fsync", "0", "--watchdog-apply", "0", "--watchdog-loop", "0")
"""For claims about elections that do not happen: a machine that is busy with a test suite is then no reason for one."""


@pytest.fixture
def start_cluster(tmp_path: Path) -> Iterator[Start]:
    """Start a cluster of three, with the flags given."""
    with ExitStack() as stack:

        def start(*flags: str, proxy: bool = False) -> LocalCluster:
            cluster = stack.enter_context(
                LocalCluster.create(tmp_path / "cluster", proxy=proxy, flags=flags, leashed=True)
            )
            cluster.up()
            return cluster

        yield start

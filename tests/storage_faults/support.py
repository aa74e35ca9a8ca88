"""What the tests of failing disks ask of a node: its last word, and whether it has ended."""

from __future__ import annotations

import re

from raftkv.lab import logs
from raftkv.lab.cluster import LocalCluster
from tests.failover.load import wait_until

_LOG_LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (DEBUG|INFO|WARNING|ERROR|CRITICAL)\s")


def has_ended(cluster: LocalCluster, name: str) -> bool:
    return cluster.process_state(name) in ("crashed", "stopped", "killed")


def last_word(cluster: LocalCluster, name: str) -> str:
    """Wait until a node has ended by itself; the one line that says why. No traceback, nothing else that is no log line."""
    wait_until(lambda: has_ended(cluster, name), f"{name} ends")
    assert cluster.process_state(name) == "crashed", cluster.process_state(name)
    lines = logs.tail(cluster.log_path(name), 200, offset=cluster.state.nodes[name].log_offset)
    strange = [line for line in lines if not _LOG_LINE.match(line)]
    assert len(strange) == 1, lines
    assert strange[0].startswith("Error: "), lines
    return strange[0].removeprefix("Error: ")

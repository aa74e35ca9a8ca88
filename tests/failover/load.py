"""Load on a cluster while it is broken, and the judgement afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from raftkv.lab import probe
from raftkv.lab.cluster import LocalCluster
from raftkv.lab.traffic import Traffic

WAIT_S = 30.0


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Wait until the condition holds; AssertionError that says what did not happen."""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {WAIT_S:.0f} s"
        time.sleep(0.01)


def write(traffic: Traffic, count: int) -> None:
    """Wait until `count` more writes were acknowledged."""
    before = traffic.counts.acknowledged

    def is_done() -> bool:
        traffic.check()
        return traffic.counts.acknowledged >= before + count

    wait_until(is_done, f"{count} acknowledged writes")


@contextmanager
def load(cluster: LocalCluster, *, writers: int = 8) -> Iterator[Traffic]:
    """Write all the time; at the end nothing acknowledged may be missing, on any node."""
    with Traffic(list(cluster.endpoints.values()), writers=writers, pause_s=0.0, timeout_s=5.0) as traffic:
        traffic.start()
        write(traffic, 100)
        yield traffic
        write(traffic, 100)  # A run counts only if the last write after healing succeeds.
        traffic.stop()
        verdict = traffic.read_back()
        assert verdict.good, verdict
    nodes_agree(cluster)


def nodes_agree(cluster: LocalCluster) -> None:
    """Every node comes to the same state: the same hash at the same revision."""

    def revisions() -> set[int]:
        answers = probe.statuses(cluster.endpoints).values()
        return {answer.revision if isinstance(answer, probe.NodeAnswer) else -1 for answer in answers}

    wait_until(lambda: len(revisions()) == 1 and -1 not in revisions(), "the same revision on every node")
    hashes = probe.hashes(cluster.endpoints)
    assert len(set(hashes.values())) == 1, hashes


def answer_of(cluster: LocalCluster, name: str) -> object:
    """What a node says of itself."""
    return next(status.answer for status in cluster.status() if status.name == name)


def term_of(cluster: LocalCluster, name: str) -> int:
    return answer_of(cluster, name).term  # type: ignore[attr-defined,no-any-return]

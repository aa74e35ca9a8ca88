"""What must fail: a judge that cannot condemn proves nothing."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

import raftkv
from raftkv.errors import RequestError
from raftkv.lab.cluster import LocalCluster
from raftkv.lab.history import Recorder
from raftkv.lab.linearizability import Judgement, check
from tests.nemesis.clients import item_of
from tests.nemesis.faults import FAULTS, Nemesis
from tests.nemesis.rounds import play


@dataclass(frozen=True, kw_only=True)
class Deposed:
    """A node that led, and is cut off from those who have chosen another; and what was written before that."""

    name: str
    others: list[str]
    recorder: Recorder


@pytest.fixture
def deposed(cluster: LocalCluster, request: pytest.FixtureRequest) -> Iterator[Deposed]:
    leader, recorder = cluster.wait_for_leader(), Recorder()
    put(cluster, cluster.names, recorder, f"before {request.node.name}")
    cluster.partition([[leader], [name for name in cluster.names if name != leader]])
    cluster.wait_for_leader(other_than=leader)
    yield Deposed(name=leader, others=[name for name in cluster.names if name != leader], recorder=recorder)
    cluster.heal()


def put(cluster: LocalCluster, through: list[str], recorder: Recorder, value: str) -> None:
    with raftkv.connect([cluster.endpoint(name) for name in through]) as kv:
        call = recorder.now()
        done = kv.put("control", value, timeout=10)
        recorder.returned("writer", call, "put", {"key": "control", "value": value}, {"revision": done.revision})


def read(cluster: LocalCluster, through: str, recorder: Recorder, *, serializable: bool) -> None:
    with raftkv.connect(cluster.endpoint(through)) as kv:
        call = recorder.now()
        found = kv.range("control", "control\0", serializable=serializable, timeout=1)
        items = list(found)
        result = {"revision": found.revision, "item": item_of(items[0] if items else None)}
        recorder.returned("reader", call, "get", {"key": "control"}, result)


def test_serializable_reads_in_a_partition_are_not_linearizable(cluster: LocalCluster, deposed: Deposed) -> None:
    read(cluster, deposed.name, deposed.recorder, serializable=True)
    assert check(deposed.recorder.operations).ok, "nothing was written meanwhile"

    put(cluster, deposed.others, deposed.recorder, "meanwhile")
    read(cluster, deposed.name, deposed.recorder, serializable=True)
    verdict = check(deposed.recorder.operations)

    assert (verdict.by_search, verdict.by_revisions) == (Judgement.VIOLATION, Judgement.VIOLATION), str(verdict)


def test_linearizable_reads_in_a_partition_are_refused(cluster: LocalCluster, deposed: Deposed) -> None:
    put(cluster, deposed.others, deposed.recorder, "at the same time")
    with pytest.raises(RequestError):
        read(cluster, deposed.name, deposed.recorder, serializable=False)
    read(cluster, deposed.others[0], deposed.recorder, serializable=False)

    assert check(deposed.recorder.operations).ok


def test_a_write_that_no_client_made_is_found_though_nobody_reads_it(cluster: LocalCluster) -> None:
    """As would be a write that is applied twice."""
    recorder = Recorder()
    put(cluster, cluster.names, recorder, "one")
    put(cluster, cluster.names, Recorder(), "by nobody")
    put(cluster, cluster.names, recorder, "two")

    verdict = check(recorder.operations, sole_writer=True)

    assert verdict.by_revisions is Judgement.VIOLATION, str(verdict)


def test_a_node_that_ends_by_itself_fails_the_round(cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(nemesis: Nemesis) -> str:
        pid = nemesis.cluster.pid("n1")
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        return "n1 died"

    monkeypatch.setitem(FAULTS, "die", die)
    result = play(cluster, "control", faults=["die"])
    cluster.start()

    assert result.problem is not None
    assert "n1 ended without being told to" in result.problem

"""A cluster of three that may be broken, for a module's tests, and the drill as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import raftkv
from raftkv.lab.cluster import LocalCluster
from raftkv.lab.drill.lock import KEY
from raftkv.lab.process import wait_until
from tests.support import WAIT_S

ROOT = Path(__file__).parents[3]
RUN_S = 150.0
Run = Callable[..., "subprocess.CompletedProcess[str]"]
Begin = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """Three nodes with a proxy between them, drills enabled. A test leaves all of them running."""
    directory = tmp_path_factory.mktemp("drill") / "cluster"
    with LocalCluster.create(directory, flags=["--enable-drills"], leashed=True) as cluster:
        cluster.up()
        yield cluster


@pytest.fixture
def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAFTKV_", "ETCDCTL_"))}
    return kept | {"PYTHONPATH": str(ROOT)}


@pytest.fixture
def begin(tmp_path: Path, environment: dict[str, str]) -> Iterator[Begin]:
    """Start `raftkv drill`; its output is text in pipes."""
    begun = []

    def begin(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "raftkv", "drill", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env=environment,
        )
        begun.append(process)
        return process

    yield begin
    for process in begun:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def run(begin: Begin) -> Run:
    """Run `raftkv drill` to its end."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        process = begin(*arguments)
        out, err = process.communicate(timeout=RUN_S)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    return run


def wait_for_line(process: subprocess.Popen[str], text: str) -> str:
    """The first line on standard error with this text in it."""
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if text in line:
            return line
    raise AssertionError(f"no line with {text!r} in {lines}")


NO_LEADER = 0


def known_leaders(cluster: LocalCluster) -> set[int]:
    """Whom the nodes follow. One that was just started knows nobody for a moment, and a drill would say so."""
    return {NO_LEADER if isinstance(node.answer, str) else node.answer.leader_id for node in cluster.status()}


def everything_is_good(cluster: LocalCluster) -> None:
    """All processes run, all links are open, everybody knows one leader, and the drill has left no key."""
    assert {cluster.process_state(name) for name in cluster.names} == {"running"}
    assert not cluster.rules()
    assert wait_until(lambda: len(leaders := known_leaders(cluster)) == 1 and NO_LEADER not in leaders, WAIT_S)
    with raftkv.connect(",".join(cluster.endpoints.values())) as kv:
        assert kv.count(prefix="raftkv-drill/") == 0
        assert kv.get(KEY) is None


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    """The error of a command that failed."""
    return done.stderr.strip().splitlines()[-1]

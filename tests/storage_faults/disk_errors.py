"""Fail the N-th fsync, fdatasync and pwrite64, for every N: the process stops with a named error and has lost nothing.

    python -m tests.storage_faults.disk_errors [--every K]         (make disk-errors)

First `driver.py`, whose one thread makes every disk call a node makes: at each N it must end with a named error, and what it
promised before must be there. Then a real node, alone in its cluster: at each N, counted in every thread, it must stop with
one line, and after a restart on a healthy disk every write that it acknowledged is read back.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from raftkv.lab import logs
from raftkv.lab.cluster import LocalCluster
from raftkv.lab.traffic import Traffic
from tests.failover.load import wait_until
from tests.storage_faults import driver
from tests.storage_faults.crash_points import attempt, count_calls
from tests.storage_faults.faulty_serve import COMMAND, faults_path
from tests.storage_faults.support import has_ended, last_word

CALLS = ("fsync", "fdatasync", "pwrite64")
WRITES_A_LIFE = 60
SURVIVED_MAX = 3
"""So many N in a row that a life never reached: no later N will be."""
FLAGS = ("--snapshot-count", "20")


@dataclass
class Summary:
    driver: dict[str, int] = field(default_factory=dict)
    node: dict[str, int] = field(default_factory=dict)
    acknowledged: int = 0
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0


def fault(call: str, number: int) -> str:
    return f"{call}:error=EIO:when={number}"


# --- the driver -------------------------------------------------------------------------------------------------------


def points(parent: Path, *, every: int) -> list[tuple[str, int]]:
    """Every `every`-th call of the driver's."""
    counts = count_calls(parent / "counted")
    return [(call, number) for call in CALLS for number in range(1, counts[call] + 1)][::every]


def fail_driver(directory: Path, donated: Path, call: str, number: int) -> None:
    """AssertionError or StorageError if the error is passed over, has no name, or breaks a promise."""
    shutil.copyfile(donated, f"{directory}.donated")
    promised, status, said = attempt(directory, fault(call, number))
    assert status, f"the driver went on as if nothing had happened, and promised {promised}"
    assert said.startswith("raftkv.errors."), said
    driver.check(directory, promised)
    driver.check(directory, promised)


# --- a node -----------------------------------------------------------------------------------------------------------


def fail_node(cluster: LocalCluster, traffic: Traffic, call: str, number: int) -> bool:
    """One life with the fault and one without; whether the fault ended the first. All acknowledged writes are there."""
    (name,) = cluster.names
    faults_path(cluster.data_path(name)).write_text(fault(call, number))
    before = traffic.counts.acknowledged
    cluster.start(wait=False)
    traffic.start()
    wait_until(lambda: has_ended(cluster, name) or traffic.counts.acknowledged - before >= WRITES_A_LIFE, "a life")
    faults_path(cluster.data_path(name)).unlink()
    is_ended = has_ended(cluster, name)
    if is_ended:
        said = last_word(cluster, name)
        assert "Input/output error" in said, said
        cluster.start()
    else:
        cluster.restart(name)
    traffic.stop()
    cluster.wait_for_leader()
    verdict = traffic.read_back()
    assert verdict.good, verdict
    cluster.stop(name)
    return is_ended


def node_points(cluster: LocalCluster, summary: Summary, *, every: int) -> Iterator[tuple[str, int, str | None]]:
    """Fail a node at every `every`-th N, until it no longer gets that far; each with what went wrong, if anything did."""
    with Traffic(list(cluster.endpoints.values()), writers=2, pause_s=0.0, timeout_s=20.0) as traffic:
        for call in CALLS:
            survived = 0
            for number in itertools.count(1, every):
                try:
                    survived = 0 if fail_node(cluster, traffic, call, number) else survived + 1
                except AssertionError as error:
                    tail = logs.tail(cluster.log_path(cluster.names[0]), 5)
                    yield call, number, f"{error}; {tail}"
                    return
                summary.acknowledged = traffic.counts.acknowledged
                yield call, number, None
                if survived == SURVIVED_MAX:
                    break


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="try every K-th call only")
    parser.add_argument("--output", type=Path, default=Path(".raftkv/disk-errors"), help="folder of the summary")
    arguments = parser.parse_args()
    summary, began = Summary(), time.monotonic()
    tried: dict[str, Counter[str]] = {"driver": Counter(), "node": Counter()}
    try:
        with tempfile.TemporaryDirectory(prefix="raftkv-errors-") as name:
            for who, call, number, failure in everything(Path(name), every=arguments.every, summary=summary):
                tried[who][call] += 1
                if failure is not None:
                    summary.failures.append(f"{who}, {call} {number}: {failure}")
                counts = ", ".join(f"{one} {dict(calls)}" for one, calls in tried.items())
                print(f"\r{counts}, {len(summary.failures)} failures", end="", flush=True)  # noqa: T201
    finally:
        summary.driver, summary.node = dict(tried["driver"]), dict(tried["node"])
        summary.seconds = round(time.monotonic() - began, 1)
        arguments.output.mkdir(parents=True, exist_ok=True)
        (arguments.output / "summary.json").write_text(json.dumps(asdict(summary), indent=2) + "\n")
        print(f"\n{json.dumps(asdict(summary))}")  # noqa: T201
    return 1 if summary.failures else 0


def everything(parent: Path, *, every: int, summary: Summary) -> Iterator[tuple[str, str, int, str | None]]:
    (parent / "counted").mkdir()
    donated = parent / "donated"
    driver.donate(donated)
    for call, number in points(parent / "counted", every=every):
        directory = parent / f"{call}{number}"
        failure = None
        try:
            fail_driver(directory, donated, call, number)
        except Exception as error:
            failure = f"{type(error).__name__}: {error}"
        shutil.rmtree(directory, ignore_errors=True)
        yield "driver", call, number, failure
    with LocalCluster.create(
        parent / "cluster", nodes=1, proxy=False, command=COMMAND, flags=FLAGS, leashed=True
    ) as cluster:
        for call, number, failure in node_points(cluster, summary, every=every):
            yield "node", call, number, failure


if __name__ == "__main__":
    sys.exit(main())

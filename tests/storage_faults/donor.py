"""The data directory of a member of a real cluster, written until it holds every kind of file and page, then stopped.

What is not there by itself is put there: a snapshot in flight, another one half swapped in, a sealed one beside them.
"""

from __future__ import annotations

import os
import random
import shutil
import time
from pathlib import Path

import raftkv
from raftkv.lab.cluster import LocalCluster
from raftkv.statemachine import StateMachine
from tests.failover.load import nodes_agree
from tests.storage_faults.small_serve import COMMAND

FLAGS = ("--snapshot-count", "60")
MEMBER = "n2"
SEALED = "sealed.snapshot"
"""A snapshot as it is sent, in the directory beside what a member has there."""
ROUNDS = 15
PUTS_A_TXN = 60


def make_member(parent: Path, *, seed: int = 1) -> Path:
    """A stopped member's data directory below `parent`."""
    cluster = LocalCluster.create(parent / "cluster", proxy=False, command=COMMAND, flags=FLAGS, leashed=True)
    with cluster:
        cluster.up()
        fill(cluster, random.Random(seed))
        nodes_agree(cluster)
        cluster.stop(*cluster.names)
        member = cluster.data_path(MEMBER)
        pristine = parent / "member"
        copy_tree(member, pristine)
    add_snapshots(pristine)
    return pristine


def fill(cluster: LocalCluster, rng: random.Random) -> None:
    """Enough keys for branches; a key with a tree of versions; values larger than a page; deletions, a compaction, restarts."""
    with raftkv.connect(",".join(cluster.endpoints.values()), timeout=20.0) as client:
        for round_number in range(ROUNDS):
            for _ in range(2):
                puts = [
                    client.op.put(f"key/{number:05}", rng.randbytes(rng.choice((20, 200, 900))))
                    for number in rng.sample(range(1500), PUTS_A_TXN)
                ]
                client.txn().then(*puts).commit()
            for number in range(20):
                client.put("hot", b"%d" % number)
            client.put(f"large/{round_number}", rng.randbytes(rng.choice((5_000, 9_000, 30_000))))
            client.delete(f"key/{rng.randrange(1500):05}")
            if round_number == ROUNDS // 3:
                client.compact(client.put("compacted", b"").revision - 40, physical=True)
                client.delete("large/", end="large/3")
            if round_number == ROUNDS // 2:
                cluster.restart(MEMBER)


def add_snapshots(pristine: Path) -> None:
    machine = StateMachine.open(pristine / "state")
    machine.snapshot_to(pristine / SEALED)
    machine.close()
    sealed = (pristine / SEALED).read_bytes()
    (pristine / "snapshots").mkdir(exist_ok=True)
    (pristine / "snapshots" / "incoming-1").write_bytes(sealed[: len(sealed) * 2 // 3])
    (pristine / "state" / "incoming.mdb").write_bytes(sealed[:-300])


def copy_tree(source: Path, target: Path) -> None:
    """A copy with the holes of its files: most of them are preallocated."""
    target.mkdir(parents=True, exist_ok=True)
    for entry in os.scandir(source):
        if entry.is_dir():
            copy_tree(Path(entry.path), target / entry.name)
        else:
            copy_file(Path(entry.path), target / entry.name)


def copy_file(source: Path, target: Path) -> None:
    reading = os.open(source, os.O_RDONLY)
    writing = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        size = os.fstat(reading).st_size
        os.truncate(writing, size)
        for begin, end in extents(reading, size):
            os.pwrite(writing, os.pread(reading, end - begin, begin), begin)
    finally:
        os.close(reading)
        os.close(writing)


def extents(descriptor: int, size: int) -> list[tuple[int, int]]:
    """Where a file has data."""
    found, offset = [], 0
    while offset < size:
        try:
            begin = os.lseek(descriptor, offset, os.SEEK_DATA)
        except OSError:  # None behind here.
            break
        offset = os.lseek(descriptor, begin, os.SEEK_HOLE)
        found.append((begin, offset))
    return found


def remove_tree(path: Path) -> None:
    shutil.rmtree(path)


if __name__ == "__main__":
    import sys

    began = time.monotonic()
    print(make_member(Path(sys.argv[1])), f"{time.monotonic() - began:.1f} s")  # noqa: T201

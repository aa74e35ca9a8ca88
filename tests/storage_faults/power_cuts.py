"""Cut the power of one, a majority or all of three nodes under load, again and again.

    python -m tests.storage_faults.power_cuts --cuts 100        (make power-cuts CUTS=100)

A *life* is a fresh cluster, load on it, and some cuts. At its end every acknowledged write must be there, linearizably read,
and the nodes must agree on their hashes. Each node's data lies on a disk of its own (`disks.py`).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from raftkv.lab.cluster import LocalCluster
from raftkv.lab.errors import LabError
from raftkv.lab.traffic import Traffic
from tests.failover.load import load, write
from tests.storage_faults.disks import Disk, disks_at, missing_for_disks

NODES = 3
VICTIMS = {"one": 1, "majority": 2, "all": 3}
CUTS_PER_LIFE = 20
WRITES_BEFORE_CUT = (20, 400)
FLAGS = ("--snapshot-count", "500")
"""Few entries are kept, so that compaction and snapshots happen between the cuts."""


@dataclass
class Summary:
    cuts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(VICTIMS, 0))
    acknowledged: int = 0
    unknown: int = 0
    seconds: float = 0.0
    seed: int = 0
    failure: str | None = None


def cut(cluster: LocalCluster, disks: dict[str, Disk], victims: list[str]) -> None:
    """Processes first, then their disks, all within a millisecond: after its power has gone, nobody says anything.

    A process that went on for that moment could tell a lie that no power cut brings about: Linux lets an fdatasync that is
    under way when its file system is shut down return success, and lose what it was for (measured: in 8 % of 60 cuts).
    """
    for pid in [cluster.pid(name) for name in victims]:
        if pid is not None:  # One may have ended by itself: its disk had failed before.
            os.kill(pid, signal.SIGSTOP)  # In force before the process sees what a system call under way returns.
    for name in victims:
        disks[name].cut_power()
    for name in victims:
        with suppress(LabError):  # It may have ended by itself: its disk has failed.
            cluster.kill(name)
    for name in victims:
        disks[name].unmount()
        disks[name].mount()


def live(directory: Path, kinds: list[str], rng: random.Random, summary: Summary, *, progress: bool = False) -> None:
    """One life: a cluster, and a cut of each of these kinds."""
    cluster = LocalCluster.create(directory / "cluster", nodes=NODES, proxy=False, flags=FLAGS, leashed=True)
    names = cluster.names
    with disks_at([cluster.data_path(name) for name in names], directory / "images") as mounted, cluster:
        disks = dict(zip(names, mounted, strict=True))
        cluster.up()
        with load(cluster) as traffic:
            for kind in kinds:
                write(traffic, rng.randint(*WRITES_BEFORE_CUT))
                victims = rng.sample(names, VICTIMS[kind])
                cut(cluster, disks, victims)
                cluster.start(victims)
                cluster.wait_for_leader()
                summary.cuts[kind] += 1
                if progress:
                    tell(summary, traffic)
        summary.acknowledged += traffic.counts.acknowledged
        summary.unknown += traffic.counts.unknown


def tell(summary: Summary, traffic: Traffic) -> None:
    acknowledged = summary.acknowledged + traffic.counts.acknowledged
    print(f"\r{sum(summary.cuts.values())} cuts {summary.cuts}, {acknowledged} acknowledged", end="", flush=True)  # noqa: T201


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cuts", type=int, default=100)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--output", type=Path, default=Path(".raftkv/power-cuts"), help="folder of the summary")
    arguments = parser.parse_args()
    if (missing := missing_for_disks()) is not None:
        print(f"no {missing}: cannot mount a disk of its own for each node", file=sys.stderr)  # noqa: T201
        return 1
    seed = random.SystemRandom().randrange(1 << 32) if arguments.seed is None else arguments.seed
    rng, summary, began = random.Random(seed), Summary(seed=seed), time.monotonic()
    try:
        while (left := arguments.cuts - sum(summary.cuts.values())) > 0:
            kinds = [rng.choice(list(VICTIMS)) for _ in range(min(left, CUTS_PER_LIFE))]
            with tempfile.TemporaryDirectory(prefix="raftkv-power-") as directory:
                live(Path(directory), kinds, rng, summary, progress=True)
    except Exception as error:
        summary.failure = f"{type(error).__name__}: {error}"
        raise
    finally:
        summary.seconds = round(time.monotonic() - began, 1)
        arguments.output.mkdir(parents=True, exist_ok=True)
        (arguments.output / "summary.json").write_text(json.dumps(asdict(summary), indent=2) + "\n")
        print(f"\n{json.dumps(asdict(summary))}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())

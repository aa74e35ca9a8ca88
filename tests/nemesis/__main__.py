"""`make nemesis ROUNDS=… SEED=…`: many rounds, a line for each, a summary; what failed is kept.

Clusters live, and what failed stays, below ``.raftkv/nemesis/``, on the disk of the checkout: a tmpfs would hide what only a disk
does. A new cluster is made every few rounds, and after a failure.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from raftkv.lab.cluster import LocalCluster
from raftkv.lab.history import Operation, dump
from tests.nemesis.faults import FAULTS
from tests.nemesis.rounds import Round, play

HOME = Path(".raftkv/nemesis")
ROUNDS_PER_CLUSTER = 10


def main() -> int:
    """Play; 0 if every round was good."""
    options = parse_arguments()
    HOME.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    rounds: list[Round] = []
    number = options.first
    last = options.first + options.rounds
    while number < last:
        with new_cluster(random.Random(f"{options.seed}/{number}/cluster")) as cluster:
            carried: list[Operation] = []
            for _ in range(ROUNDS_PER_CLUSTER):
                result = play(cluster, f"{options.seed}-{number}", faults=options.faults, carried=carried)
                rounds.append(result)
                carried += result.unknown
                report(result, len(rounds), options.rounds)
                number += 1
                if result.problem is not None:
                    say(f"  {keep(cluster, result)}")
                if result.problem is not None or number == last:
                    break
    return summarize(rounds, options.seed, time.monotonic() - began)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.nemesis", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", default="1", help="of everything that is drawn")
    parser.add_argument("--first", type=int, default=1, help="number of the first round")
    parser.add_argument("--faults", type=lambda text: text.split(","), help=f"of {', '.join(FAULTS)}")
    options = parser.parse_args()
    for name in options.faults or ():
        if name not in FAULTS:
            parser.error(f"no fault {name!r}; there are {', '.join(FAULTS)}")
    return options


@contextmanager
def new_cluster(rng: random.Random) -> Iterator[LocalCluster]:
    """Three nodes with a proxy; every other cluster keeps so short a log that who was away needs a snapshot."""
    flags = ["--snapshot-count", "100"] if rng.random() < 0.5 else []
    with LocalCluster.temporary(parent=HOME, flags=flags) as cluster:
        cluster.start()
        cluster.wait_for_leader()
        yield cluster


def keep(cluster: LocalCluster, result: Round) -> str:
    """Copy data, logs and the history of a failed round."""
    place = HOME / f"failed-{result.seed}"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(cluster.directory, place, ignore_dangling_symlinks=True)
    dump(place / "history.jsonl", result.history)
    (place / "problem.txt").write_text(f"{result.did}\n{result.problem}\n")
    return f"kept in {place}"


def report(result: Round, played: int, total: int) -> None:
    known = sum(operation.known for operation in result.history)
    say(
        f"{played}/{total} {result.seed}: {'FAILED' if result.problem else 'good'}; {'; '.join(result.did)}; {known} done, "
        f"{len(result.unknown)} unknown, outage {result.outage_s:.1f} s, took {result.seconds:.0f} s"
    )
    if result.problem is not None:
        say(f"  {result.problem}")


def summarize(rounds: list[Round], seed: str, seconds: float) -> int:
    failed = [result for result in rounds if result.problem is not None]
    operations = sum(len(result.history) for result in rounds)
    summary = {
        "rounds": len(rounds),
        "failed": [result.seed for result in failed],
        "operations": operations,
        "seconds": round(seconds),
    }
    (HOME / f"summary-{seed}.json").write_text(json.dumps(summary, indent=1) + "\n")
    say(f"{len(rounds)} rounds, {len(failed)} failed, {operations} operations, {seconds:.0f} s")
    return 1 if failed else 0


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())

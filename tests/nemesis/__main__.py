"""`make nemesis ROUNDS=… SEED=…`: many rounds, a line for each, a summary; what failed is kept, with the line that replays it.

    make nemesis ROUNDS=100                              one to three faults a round, drawn from all
    make nemesis ROUNDS=120 ARGS="--scenario members"    one fault a round, of one scenario
    make nemesis ROUNDS=120 ARGS="--scenario all"        so many rounds of each of the twelve scenarios

Clusters live, and what failed stays, below ``.raftkv/nemesis/``, on the disk of the checkout: a tmpfs would hide what only a disk
does. A round without real traffic before its fault is void: it counts neither way. A new cluster is made every few rounds, and after a failure. A seed repeats what is broken, and for how long; it does not
repeat who leads then.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from raftkv.lab.cluster import LocalCluster
from raftkv.lab.history import Operation, dump
from tests.nemesis.faults import FAULTS, SCENARIOS
from tests.nemesis.rounds import Round, play

HOME = Path(".raftkv/nemesis")
ROUNDS_PER_CLUSTER = 10


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is played: `rounds` of them, numbered from `first`, each with one of these sets of faults in turn.

    Attributes:
        scenarios: name to faults; without any, one to three faults a round are drawn from `faults`, or from all.
    """

    seed: str
    first: int
    rounds: int
    scenarios: dict[str, list[str]]
    faults: list[str] | None

    def scenario(self, number: int) -> str:
        return list(self.scenarios)[number % len(self.scenarios)] if self.scenarios else ""

    def replay(self, number: int) -> str:
        """The line that plays this round again."""
        chosen = f" --faults {','.join(self.faults)}" if self.faults else ""
        if self.scenarios:
            chosen = f" --scenario {self.scenario(number)}"
        return f".venv/bin/python -m tests.nemesis --seed {self.seed} --first {number} --rounds 1{chosen}"


def main() -> int:
    """Play; 0 if every round was good."""
    plan = parse_arguments()
    HOME.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    rounds: list[Round] = []
    number, last = plan.first, plan.first + plan.rounds
    while number < last:
        with new_cluster(plan.seed, number) as cluster:
            carried: list[Operation] = []
            while number < last:
                result = play_one(cluster, plan, number, carried)
                rounds.append(result)
                carried += result.unknown
                report(result, len(rounds), plan.rounds, time.monotonic() - began)
                if result.problem is not None:
                    say(f"  {keep(cluster, result)}\n  replay: {plan.replay(number)}")
                number += 1
                summarize(rounds, plan, time.monotonic() - began)
                if result.problem is not None or number % ROUNDS_PER_CLUSTER == 0:
                    break
    failed, void = sum(has_failed(result) for result in rounds), sum(result.is_void for result in rounds)
    operations = sum(len(result.history) for result in rounds)
    say(
        f"{len(rounds)} rounds, {failed} failed, {void} void, {operations} operations, {time.monotonic() - began:.0f} s"
    )
    return 1 if failed else 0


def has_failed(result: Round) -> bool:
    return result.problem is not None and not result.is_void


def play_one(cluster: LocalCluster, plan: Plan, number: int, carried: list[Operation]) -> Round:
    name = plan.scenario(number)
    faults = plan.scenarios[name] if name else plan.faults
    seed = f"{plan.seed}-{number}" + (f"-{name}" if name else "")
    return play(cluster, seed, faults=faults, single=bool(name), carried=carried)


def parse_arguments() -> Plan:
    parser = argparse.ArgumentParser(
        prog="python -m tests.nemesis", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=20, help="of each scenario, where there are scenarios")
    parser.add_argument("--seed", default="1", help="of everything that is drawn")
    parser.add_argument("--first", type=int, default=1, help="number of the first round")
    parser.add_argument("--faults", type=lambda text: text.split(","), help=f"draw from: {', '.join(FAULTS)}")
    parser.add_argument("--scenario", default="", help=f"'all', or some of: {', '.join(SCENARIOS)}")
    options = parser.parse_args()
    names = list(SCENARIOS) if options.scenario == "all" else [name for name in options.scenario.split(",") if name]
    for name in names:
        if name not in SCENARIOS:
            parser.error(f"no scenario {name!r}; there are {', '.join(SCENARIOS)}")
    for name in options.faults or ():
        if name not in FAULTS:
            parser.error(f"no fault {name!r}; there are {', '.join(FAULTS)}")
    return Plan(
        seed=options.seed,
        first=options.first,
        rounds=options.rounds * max(1, len(names)),
        scenarios={name: SCENARIOS[name] for name in names},
        faults=options.faults,
    )


@contextmanager
def new_cluster(seed: str, number: int) -> Iterator[LocalCluster]:
    """Three nodes with a proxy; about every other cluster keeps so short a log that who was away needs a snapshot."""
    rng = random.Random(f"{seed}/{number // ROUNDS_PER_CLUSTER}/cluster")
    flags = ["--snapshot-count", "100"] if rng.random() < 0.5 else []
    with LocalCluster.temporary(parent=HOME, flags=flags) as cluster:
        cluster.up()
        yield cluster


def keep(cluster: LocalCluster, result: Round) -> str:
    """Copy data, logs and the history of a failed round."""
    place = HOME / f"failed-{result.seed}"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(cluster.directory, place, ignore_dangling_symlinks=True)
    dump(place / "history.jsonl", result.history)
    (place / "problem.txt").write_text(f"{result.did}\n{result.problem}\n")
    return f"kept in {place}"


def word_for(result: Round) -> str:
    return "void" if result.is_void else "good" if result.problem is None else "FAILED"


def report(result: Round, played: int, total: int, seconds: float) -> None:
    known = sum(operation.known for operation in result.history)
    say(
        f"{played}/{total} {result.seed}: {word_for(result)}; {'; '.join(result.did)}; {known} done, "
        f"{len(result.unknown)} unknown, outage {result.outage_s:.1f} s, took {result.seconds:.0f} s "
        f"({3600 * played / seconds:.0f} an hour)"
    )
    if result.problem is not None:
        say(f"  {result.problem}")


def summarize(rounds: list[Round], plan: Plan, seconds: float) -> None:
    """Rewritten after each round, so that a run that is cut short leaves one."""
    numbers = range(plan.first, plan.first + len(rounds))
    failed = [number for number, result in zip(numbers, rounds, strict=True) if has_failed(result)]
    summary = {
        "rounds": len(rounds),
        "failed": [rounds[number - plan.first].seed for number in failed],
        "void": [result.seed for result in rounds if result.is_void],
        "replay": [plan.replay(number) for number in failed],
        "rounds_of_scenario": dict(Counter(plan.scenario(number) or "mixed" for number in numbers)),
        "operations": sum(len(result.history) for result in rounds),
        "unknown": sum(len(result.unknown) for result in rounds),
        "longest_outage_s": round(max(result.outage_s for result in rounds), 1),
        "seconds": round(seconds),
    }
    (HOME / f"summary-{plan.seed}.json").write_text(json.dumps(summary, indent=1) + "\n")


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())

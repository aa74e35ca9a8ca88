"""`python -m tests.sim.mutants`: plant each known bug in turn, and tell which seed caught it, by which property, how fast."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from typing import TextIO

from tests.sim.known_bugs import BUGS, KnownBug, planted
from tests.sim.tiers import Failure, run_seed

SEEDS_MAX = 400
NO_FIT = ("AttributeError", "TypeError", "NameError")
"""What a patch raises when the code that it was made for has changed: that is no catch."""


@dataclass(frozen=True, slots=True)
class Caught:
    seed: int
    by: str
    seeds_tried: int
    elapsed_s: float


def hunt(known: KnownBug, *, seeds_max: int = SEEDS_MAX) -> Caught | None:
    """Run seeds until one catches the bug: first the one that did last, then 0, 1, 2, ... None if none of them does."""
    started = time.monotonic()
    with planted(known):
        for count, seed in enumerate([known.seed, *range(seeds_max - 1)], start=1):
            result = run_seed(known.tier, seed)
            if isinstance(result, Failure):
                assert not any(kind in result.what for kind in NO_FIT), f"{known.name} fits no more: {result.where}"
                return Caught(seed, result.name, count, time.monotonic() - started)
    return None


def main(out: TextIO = sys.stdout) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim.mutants", description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS_MAX, help="per bug, at most (default: %(default)s)")
    parser.add_argument("--only", default="", help="bugs whose name contains this")
    parser.add_argument("--tier", type=int, default=0, help="only bugs for this tier of the simulator")
    arguments = parser.parse_args()
    chosen = [
        known
        for known in sorted(BUGS, key=lambda known: (known.number, known.tier))
        if arguments.only in known.name and arguments.tier in (0, known.tier)
    ]
    missed = 0
    print(f"{'bug':<63} {'tier':>4} {'seconds':>7} {'seeds':>5}  caught by", file=out)
    for known in chosen:
        caught = hunt(known, seeds_max=arguments.seeds)
        label = f"{known.number:>2} {known.name}"
        if caught is None:
            missed += 1
            print(f"{label:<63} {known.tier:>4} {'-':>7} {arguments.seeds:>5}  NOT CAUGHT", file=out, flush=True)
        else:
            seconds = f"{caught.elapsed_s:.1f}"
            print(
                f"{label:<63} {known.tier:>4} {seconds:>7} {caught.seeds_tried:>5}  {caught.by} (seed {caught.seed})",
                file=out,
                flush=True,
            )
    print(f"{len(chosen) - missed} of {len(chosen)} caught", file=out)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

"""`python -m tests.sim`: run many seeds, or replay one.

    python -m tests.sim --seeds 10000                       # seeds 0..9999 of tier one, on all cores
    python -m tests.sim --tier 2 --seeds 500 --first 70000  # seeds 70000..70499 of tier two
    python -m tests.sim --replay 438 --trace                # one seed, with everything that happened in it
    python -m tests.sim --replay 438 --shrink               # find the least of it that still fails

Every failure prints the line that replays it. The summary goes to `tests/sim/results/`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TextIO

from tests.sim.scenario import Result
from tests.sim.schedule import Schedule
from tests.sim.shrink import shrink
from tests.sim.tiers import TIERS, Failure, run_seed

RESULTS = Path(__file__).parent / "results"
PROGRESS_INTERVAL_S = 5.0
FAILURES_SHOWN_MAX = 20
SEEDS_PER_TASK = {1: 20, 2: 2}
TOTALS = ("events", "terms_led", "committed", "acknowledged", "reads", "changes", "installs")


def run_seeds(tier: int, first: int, count: int, jobs: int) -> Iterator[Result | Failure]:
    seeds = range(first, first + count)
    run = partial(run_seed, tier)
    if jobs == 1:
        yield from map(run, seeds)
        return
    with multiprocessing.Pool(jobs) as pool:
        yield from pool.imap_unordered(run, seeds, chunksize=SEEDS_PER_TASK[tier])


def campaign(tier: int, first: int, count: int, jobs: int, out: TextIO) -> list[Failure]:
    """Run, report as it goes, and leave a summary behind."""
    started = reported = time.monotonic()
    failures: list[Failure] = []
    totals = dict.fromkeys(TOTALS, 0)
    slowest = {"quorum_ticks": 0, "catch_up_ticks": 0}
    done = 0
    for result in run_seeds(tier, first, count, jobs):
        done += 1
        if isinstance(result, Failure):
            failures.append(result)
            if len(failures) <= FAILURES_SHOWN_MAX:
                print(f"FAILED seed {result.seed}: {result.what}\n  replay: {result.replay}", file=out, flush=True)
        else:
            for name in TOTALS:
                totals[name] += getattr(result, name)
            for name in slowest:
                slowest[name] = max(slowest[name], getattr(result, name))
        now = time.monotonic()
        if now - reported >= PROGRESS_INTERVAL_S:
            reported = now
            print(
                f"{done:>8} of {count} seeds, {done / (now - started):.1f}/s, {len(failures)} failed",
                file=out,
                flush=True,
            )
    elapsed = time.monotonic() - started
    summary = {
        "tier": tier,
        "first_seed": first,
        "seeds": done,
        "failures": [{"seed": one.seed, "what": one.what, "replay": one.replay} for one in failures],
        "elapsed_s": round(elapsed, 1),
        "jobs": jobs,
        "seeds_per_minute": round(60 * done / elapsed),
        "totals": totals,
        "slowest": slowest,
    }
    path = _write(tier, summary)
    print(f"{done} seeds in {elapsed:.0f} s on {jobs} processes: {summary['seeds_per_minute']} a minute", file=out)
    print("  " + ", ".join(f"{value} {name}" for name, value in totals.items()), file=out)
    print(f"  {len(failures)} failed; summary in {path}", file=out)
    return failures


def _write(tier: int, summary: dict[str, object]) -> Path:
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"tier-{tier}-{time.strftime('%Y%m%d-%H%M%S')}.json"
    path.write_text(json.dumps(summary, indent=1) + "\n")
    return path


def replay(tier: int, seed: int, schedule: Schedule, *, with_trace: bool, out: TextIO) -> bool:
    """One seed; False if it fails."""
    trace: list[str] | None = [] if with_trace else None
    result = run_seed(tier, seed, schedule=schedule, trace=trace)
    for line in trace or ():
        print(line, file=out)
    if isinstance(result, Failure):
        print(f"{result.where}after {result.strikes} faults", file=out)
        return False
    print("\n".join(f"{f.name:>16} {getattr(result, f.name)}" for f in fields(result)), file=out)
    return True


def shrink_seed(tier: int, seed: int, schedule: Schedule, out: TextIO) -> bool:
    """Cut a failing seed down; False if it does fail."""
    result = run_seed(tier, seed, schedule=schedule)
    if not isinstance(result, Failure):
        print(f"seed {seed} does not fail", file=out)
        return True
    print(f"seed {seed}, after {result.strikes} faults: {result.what}", file=out)
    smallest = shrink(result, out)
    print(f"{smallest.what}\n  replay: {smallest.replay}", file=out)
    return False


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description="The simulator: one seed, one run.")
    parser.add_argument("--tier", type=int, choices=sorted(TIERS), default=1, help="1: bare cores; 2: whole nodes")
    parser.add_argument("--seeds", type=int, default=1000, help="how many (default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="the first one (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one a core)")
    parser.add_argument("--replay", type=int, metavar="SEED", help="run this seed alone")
    parser.add_argument("--trace", action="store_true", help="with --replay: print everything that happens")
    parser.add_argument("--shrink", action="store_true", help="with --replay: leave out what the failure does not need")
    parser.add_argument("--without", default="", metavar="KINDS", help="with --replay: faults that are left out, a,b,c")
    parser.add_argument("--faults", type=int, metavar="N", help="with --replay: only the first N faults")
    parser.add_argument("--skip", default="", metavar="NUMBERS", help="with --replay: faults left out by number, 1,2,3")
    asked = parser.parse_args()
    if asked.replay is None:
        return 1 if campaign(asked.tier, asked.first, asked.seeds, asked.jobs, sys.stdout) else 0
    schedule = Schedule(
        without=frozenset(filter(None, asked.without.split(","))),
        faults_max=asked.faults,
        skipped=frozenset(map(int, filter(None, asked.skip.split(",")))),
    )
    if asked.shrink:
        return 0 if shrink_seed(asked.tier, asked.replay, schedule, sys.stdout) else 1
    return 0 if replay(asked.tier, asked.replay, schedule, with_trace=asked.trace, out=sys.stdout) else 1


if __name__ == "__main__":
    sys.exit(main())

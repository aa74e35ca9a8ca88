"""`python -m tests.sim`: run many seeds, or replay one.

    python -m tests.sim --seeds 10000               # seeds 0..9999 on all cores
    python -m tests.sim --seeds 500 --first 70000   # seeds 70000..70499
    python -m tests.sim --replay 438 --trace        # one seed, with everything that happened in it

Every failure prints the line that replays it. The summary goes to `tests/sim/results/`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TextIO

from tests.sim.scenario import Result
from tests.sim.tier_one.run import Run

RESULTS = Path(__file__).parent / "results"
PROGRESS_INTERVAL_S = 5.0
FAILURES_SHOWN_MAX = 20
SEEDS_PER_TASK = 20
TOTALS = ("events", "terms_led", "committed", "acknowledged", "reads", "changes", "installs")


@dataclass(frozen=True, slots=True)
class Failure:
    seed: int
    what: str

    @property
    def replay(self) -> str:
        return f"python -m tests.sim --tier 1 --replay {self.seed} --trace"


def run_seed(seed: int) -> Result | Failure:
    """In whatever process: a broken run is a value, not an end of everything."""
    try:
        return Run(seed).run()
    except Exception as error:
        return Failure(seed, f"{type(error).__name__}: {error}")


def run_seeds(first: int, count: int, jobs: int) -> Iterator[Result | Failure]:
    seeds = range(first, first + count)
    if jobs == 1:
        yield from map(run_seed, seeds)
        return
    with multiprocessing.Pool(jobs) as pool:
        yield from pool.imap_unordered(run_seed, seeds, chunksize=SEEDS_PER_TASK)


def campaign(first: int, count: int, jobs: int, out: TextIO) -> list[Failure]:
    """Run, report as it goes, and leave a summary behind."""
    started = reported = time.monotonic()
    failures: list[Failure] = []
    totals = dict.fromkeys(TOTALS, 0)
    slowest = {"quorum_ticks": 0, "catch_up_ticks": 0}
    done = 0
    for result in run_seeds(first, count, jobs):
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
        "tier": 1,
        "first_seed": first,
        "seeds": done,
        "failures": [asdict(failure) for failure in failures],
        "elapsed_s": round(elapsed, 1),
        "jobs": jobs,
        "seeds_per_minute": round(60 * done / elapsed),
        "totals": totals,
        "slowest": slowest,
    }
    path = _write(summary)
    print(f"{done} seeds in {elapsed:.0f} s on {jobs} processes: {summary['seeds_per_minute']} a minute", file=out)
    print("  " + ", ".join(f"{value} {name}" for name, value in totals.items()), file=out)
    print(f"  {len(failures)} failed; summary in {path}", file=out)
    return failures


def _write(summary: dict[str, object]) -> Path:
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"tier-one-{time.strftime('%Y%m%d-%H%M%S')}.json"
    path.write_text(json.dumps(summary, indent=1) + "\n")
    return path


def replay(seed: int, *, with_trace: bool, out: TextIO) -> bool:
    """One seed; False if it fails."""
    trace: list[str] | None = [] if with_trace else None
    try:
        result = Run(seed, trace=trace).run()
    except Exception:
        ending, is_fine = traceback.format_exc(), False
    else:
        ending, is_fine = "\n".join(f"{f.name:>16} {getattr(result, f.name)}" for f in fields(result)), True
    for line in trace or ():
        print(line, file=out)
    print(ending, file=out)
    return is_fine


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description="The simulator: one seed, one run.")
    parser.add_argument("--tier", type=int, choices=(1,), default=1)
    parser.add_argument("--seeds", type=int, default=1000, help="how many (default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="the first one (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one a core)")
    parser.add_argument("--replay", type=int, metavar="SEED", help="run this seed alone")
    parser.add_argument("--trace", action="store_true", help="with --replay: print everything that happens")
    arguments = parser.parse_args()
    if arguments.replay is not None:
        return 0 if replay(arguments.replay, with_trace=arguments.trace, out=sys.stdout) else 1
    return 1 if campaign(arguments.first, arguments.seeds, arguments.jobs, sys.stdout) else 0


if __name__ == "__main__":
    sys.exit(main())

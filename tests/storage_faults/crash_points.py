"""Kill the process at its N-th disk system call, for every N, and open what is left.

    python -m tests.storage_faults.crash_points [--every K]        (make crash-points)

The process is `driver.py`; strace counts its calls and kills it before the N-th one takes effect.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.storage_faults import driver
from tests.storage_faults.strace import under_strace

CALLS = ("write", "pwrite64", "fdatasync", "fsync", "rename", "unlink", "ftruncate", "truncate", "fallocate", "mkdir")


def attempt(directory: Path, *faults: str, log: str = "/dev/null") -> tuple[list[tuple[str, int]], int, str]:
    """Run the driver; what it promised, its exit status, and its last line on stderr."""
    reading, writing = os.pipe()
    command = [sys.executable, "-m", "tests.storage_faults.driver", str(directory), str(writing)]
    with open(reading) as reports:
        done = subprocess.run(
            under_strace(command, *faults, log=log), pass_fds=[writing], stderr=subprocess.PIPE, text=True, check=False
        )
        os.close(writing)
        promised = [(line.split()[0], int(line.split()[1])) for line in reports if line.endswith("\n")]
    said = done.stderr.strip().splitlines() or [""]
    return promised, done.returncode, said[-1]


def run(directory: Path, *faults: str, log: str = "/dev/null") -> list[tuple[str, int]]:
    """Run the driver; what it promised."""
    return attempt(directory, *faults, log=log)[0]


def count_calls(directory: Path) -> Counter[str]:
    """How often an undisturbed run makes each of the calls; it must promise everything."""
    log = directory.parent / "calls"
    driver.donate(Path(f"{directory}.donated"))
    promised = run(directory, *(f"{call}:delay_exit=0" for call in CALLS), log=str(log))
    assert promised[-1] == ("reset", driver.INSTALLED_INDEX), promised
    driver.check(directory, promised)
    words = [line.split(maxsplit=1)[1] for line in log.read_text().splitlines()]
    return Counter(word.partition("(")[0] for word in words if "(" in word and not word.startswith("<"))


def crash_at(directory: Path, donated: Path, call: str, number: int) -> int:
    """One crash and what follows; how many promises there were."""
    shutil.copyfile(donated, f"{directory}.donated")
    promised = run(directory, f"{call}:signal=KILL:when={number}")
    driver.check(directory, promised)
    driver.check(directory, promised)  # What was recovered stays recovered.
    return len(promised)


def crash_points(parent: Path, *, every: int) -> dict[str, list[int]]:
    """The points of which every `every`-th is to be tried, over all calls in turn."""
    counts = count_calls(parent / "counted")
    points = [(call, number) for call in CALLS for number in range(1, counts[call] + 1)]
    chosen: dict[str, list[int]] = {}
    for call, number in points[::every]:
        chosen.setdefault(call, []).append(number)
    return chosen


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="try every K-th point only")
    parser.add_argument("--output", type=Path, default=Path(".raftkv/crash-points"), help="folder of the summary")
    arguments = parser.parse_args()
    began, tried, failures = time.monotonic(), 0, []
    with tempfile.TemporaryDirectory(prefix="raftkv-crash-") as name:
        parent = Path(name)
        (parent / "old").mkdir()
        donated = parent / "donated"
        driver.donate(donated)
        points = crash_points(parent / "old", every=arguments.every)
        total = sum(map(len, points.values()))
        for call, numbers in points.items():
            for number in numbers:
                directory = parent / f"{call}{number}"
                try:
                    crash_at(directory, donated, call, number)
                except Exception as error:
                    failures.append(f"{call} {number}: {type(error).__name__}: {error}")
                shutil.rmtree(directory, ignore_errors=True)
                tried += 1
                print(f"\r{tried} of {total} crash points, {len(failures)} failures", end="", flush=True)  # noqa: T201
    summary = {"tried": tried, "failures": failures, "seconds": round(time.monotonic() - began, 1)}
    summary["points"] = {call: len(numbers) for call, numbers in points.items()}
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    print(f"\n{json.dumps(summary)}")  # noqa: T201
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

"""Flip one bit, or cut one file short, in the data directory of a stopped member, and start a node on it: again and again.

    python -m tests.storage_faults.damage --flips 1000 --truncations 1000        (make damage FLIPS=... TRUNCATIONS=...)

Whatever was damaged, the node refuses with a named error, or has exactly what the undamaged directory holds: the byte was not
in use, or what it said is said elsewhere. Anything else is a violation: other contents, an error without a name, a hang, the
death of the process. What a start believes, `opening` says; where damage goes, `places`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import select
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.storage_faults.donor import SEALED, copy_tree, make_member, remove_tree
from tests.storage_faults.places import Place, places_of
from tests.support import memory_directory

OPENING_S_MAX = 60.0
SCRATCH_PREFIX = "raftkv-damage-"


@dataclass(frozen=True)
class Damage:
    """One flipped bit, or everything from a byte on cut away."""

    place: Place
    offset: int
    bit: int | None

    def __str__(self) -> str:
        what = "cut at" if self.bit is None else f"bit {self.bit} flipped in"
        return f"{self.place.kind}: {self.place.file} {what} byte {self.offset}"

    def inflict(self, directory: Path) -> None:
        file = directory / self.place.file
        if self.bit is None:
            os.truncate(file, self.offset)
            return
        with file.open("r+b") as stream:
            stream.seek(self.offset)
            byte = stream.read(1)[0]
            stream.seek(self.offset)
            stream.write(bytes([byte ^ 1 << self.bit]))


@dataclass
class Summary:
    seed: int
    flips: int = 0
    truncations: int = 0
    seconds: float = 0.0
    kinds: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    violations: list[str] = field(default_factory=list)

    def add(self, damage: Damage, verdict: str) -> None:
        if damage.bit is None:
            self.truncations += 1
        else:
            self.flips += 1
        name = verdict if verdict in ("refused", "same contents") else "violation"
        self.kinds[f"{damage.place.kind}, {'cut' if damage.bit is None else 'flipped'}"][name] += 1
        if name == "violation":
            self.violations.append(f"{damage}: {verdict}")

    def as_json(self) -> dict[str, Any]:
        return vars(self) | {"kinds": {kind: dict(counts) for kind, counts in sorted(self.kinds.items())}}


class Opener:
    """A process that opens directories. If one kills it, that is the answer, and the next one gets a new process."""

    def __init__(self, pristine: Path, scratch: Path) -> None:
        self._pristine = pristine
        self._scratch = scratch
        self._process: subprocess.Popen[str] | None = None
        self.expected: Any = None

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def judge(self, damage: Damage) -> str:
        """What becomes of a member with this damage."""
        directory = self._scratch / "member"
        copy_tree(self._pristine, directory)
        try:
            damage.inflict(directory)
            path = directory / SEALED if damage.place.file == SEALED else directory
            answer = self._ask(path)
        finally:
            remove_tree(directory)
        if "error" in answer:
            return "refused"
        if "contents" in answer and (path != directory or answer["contents"] == self.expected):
            return "same contents"
        return json.dumps(answer)

    def _ask(self, path: Path) -> dict[str, Any]:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.storage_faults.opening"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            healthy = self._scratch / "healthy"
            copy_tree(self._pristine, healthy)
            answer = self._exchange(healthy)
            remove_tree(healthy)
            assert "contents" in answer, f"the undamaged member does not start: {answer}"
            assert self.expected in (None, answer["contents"]), "two starts on the same directory differ"
            self.expected = answer["contents"]
        return self._exchange(path)

    def _exchange(self, path: Path) -> dict[str, Any]:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{path}\n")
        process.stdin.flush()
        if not select.select([process.stdout], [], [], OPENING_S_MAX)[0]:
            self.close()
            return {"hang": f"no answer within {OPENING_S_MAX:.0f} s"}
        line = process.stdout.readline()
        if not line:
            status = process.wait()
            self.close()
            return {"died": status}
        answer: dict[str, Any] = json.loads(line)
        return answer


def draw(places: list[Place], rng: random.Random, *, flips: int, truncations: int) -> Iterator[Damage]:
    """So many of each, taking the kinds in turn and their bytes at random."""
    kinds: dict[str, list[Place]] = defaultdict(list)
    for place in places:
        kinds[place.kind].append(place)
    for number in range(flips + truncations):
        of_kind = kinds[sorted(kinds)[number % len(kinds)]]
        place = rng.choices(of_kind, weights=[place.end - place.begin for place in of_kind])[0]
        bit = rng.randrange(8) if number < flips else None
        yield Damage(place, rng.randrange(place.begin, place.end), bit)


def run(
    pristine: Path, scratch: Path, summary: Summary, *, flips: int, truncations: int, jobs: int, progress: bool = False
) -> None:
    """Judge so many damages; the summary has the verdicts."""
    openers = [Opener(pristine, scratch / str(number)) for number in range(jobs)]
    damages = draw(places_of(pristine), random.Random(summary.seed), flips=flips, truncations=truncations)
    free = list(openers)

    def judge(damage: Damage) -> tuple[Damage, str]:
        opener = free.pop()
        try:
            return damage, opener.judge(damage)
        finally:
            free.append(opener)

    try:
        with ThreadPoolExecutor(jobs) as pool:
            for damage, verdict in pool.map(judge, list(damages)):
                summary.add(damage, verdict)
                if progress:
                    print(  # noqa: T201
                        f"\r{summary.flips} flips, {summary.truncations} truncations, {len(summary.violations)} violations",
                        end="",
                        flush=True,
                    )
    finally:
        for opener in openers:
            opener.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flips", type=int, default=1000)
    parser.add_argument("--truncations", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--member", type=Path, default=None, help="a member's directory that `donor` has made")
    parser.add_argument("--output", type=Path, default=Path(".raftkv/damage"), help="folder of the summary")
    arguments = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 32) if arguments.seed is None else arguments.seed
    summary, began = Summary(seed), time.monotonic()
    try:
        with memory_directory(SCRATCH_PREFIX) as scratch:
            pristine = arguments.member or make_member(scratch)
            run(
                pristine,
                scratch,
                summary,
                flips=arguments.flips,
                truncations=arguments.truncations,
                jobs=arguments.jobs,
                progress=True,
            )
    finally:
        summary.seconds = round(time.monotonic() - began, 1)
        arguments.output.mkdir(parents=True, exist_ok=True)
        (arguments.output / "summary.json").write_text(json.dumps(summary.as_json(), indent=2) + "\n")
        print(f"\n{json.dumps(summary.as_json(), indent=2)}")  # noqa: T201
    return 1 if summary.violations else 0


if __name__ == "__main__":
    sys.exit(main())

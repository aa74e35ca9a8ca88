"""Test by test: what passes on etcd must pass on raftkv, or stand in the list of differences with its reason."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.compat.results import PASSED, Result, Results

BASELINE = Path(__file__).with_name("baseline.json")
MISSING = Result("did not run")


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """One judge on both systems.

    Attributes:
        on_etcd: how many tests pass there.
        on_raftkv: how many tests passed, failed and were skipped; among them some that pass on no system.
        explained: differences that are listed, with the reason.
        unexplained: tests that pass on etcd and not on raftkv, for no listed reason; with what was said.
        stale: listed differences that are none: the test passes on raftkv, or not even on etcd.
    """

    judge: str
    on_etcd: int
    on_raftkv: Counter[str]
    explained: dict[str, str]
    unexplained: dict[str, str]
    stale: list[str]

    @property
    def is_sound(self) -> bool:
        return not self.unexplained and not self.stale


def judge(name: str, passes_on_etcd: Sequence[str], ours: Results, expected: Mapping[str, str]) -> Judgement:
    """Compare what passes on etcd with what raftkv was found to do."""
    ends = {test: ours.get(test, MISSING) for test in sorted(passes_on_etcd)}
    differing = {test: end for test, end in ends.items() if end.outcome != PASSED}
    return Judgement(
        judge=name,
        on_etcd=len(passes_on_etcd),
        on_raftkv=count(ours),
        explained={test: expected[test] for test in differing if test in expected},
        unexplained={test: f"{end.outcome}: {end.reason}" for test, end in differing.items() if test not in expected},
        stale=sorted(set(expected) - set(differing)),
    )


def count(results: Results) -> Counter[str]:
    return Counter(result.outcome for result in results.values())


def passes(results: Results) -> list[str]:
    return sorted(test for test, result in results.items() if result.outcome == PASSED)


# --- the baseline -----------------------------------------------------------------------------------------------------


def read_baseline() -> dict[str, list[str]]:
    """By judge: the tests that passed on etcd when it was last asked."""
    found: dict[str, list[str]] = json.loads(BASELINE.read_text())
    return found


def write_baseline(baseline: Mapping[str, list[str]]) -> None:
    BASELINE.write_text(json.dumps(baseline, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


# --- the table --------------------------------------------------------------------------------------------------------


def table(judgements: Iterable[Judgement]) -> str:
    """For people; markdown, so that it can stand in a README."""
    lines = ["| suite | passes on etcd | passes on raftkv | differences |", "|---|---:|---:|---|"]
    for one in judgements:
        on_raftkv = one.on_etcd - len(one.explained) - len(one.unexplained)
        reasons = Counter(one.explained.values())
        told = [f"{number}: {reason}" for reason, number in reasons.items()]
        told += [f"**{len(one.unexplained)} unexplained**"] if one.unexplained else []
        told += [f"**{len(one.stale)} no longer there**"] if one.stale else []
        lines.append(f"| {one.judge} | {one.on_etcd} | {on_raftkv} | {'; '.join(told) or 'none'} |")
    return "\n".join(lines)


def details(judgements: Iterable[Judgement]) -> str:
    lines = []
    for one in judgements:
        lines += [f"{one.judge}: {test} differs without a reason\n    {said}" for test, said in one.unexplained.items()]
        lines += [f"{one.judge}: {test} is listed as a difference, and is none" for test in one.stale]
    return "\n".join(lines)

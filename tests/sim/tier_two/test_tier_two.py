"""A bounded part of tier two for every run of the suite; `make sim TIER=2` runs as many seeds as there is time."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import pytest

from tests.sim.scenario import Result
from tests.sim.tier_two.run import Run
from tests.sim.tiers import Failure, run_seed

SEEDS_PER_TEST = 5
TRACED = 20
"""A seed with crashes, snapshots and changes of the membership."""


@pytest.mark.parametrize("block", range(8))
def test_nothing_breaks_and_the_cluster_comes_back(block: int) -> None:
    for seed in range(block * SEEDS_PER_TEST, (block + 1) * SEEDS_PER_TEST):
        result = run_seed(2, seed)
        assert not isinstance(result, Failure), f"{result.what}\nreplay: {result.replay}"


def test_equal_seeds_give_equal_traces() -> None:
    first, second = [], []

    results = [Run(TRACED, trace=trace).run() for trace in (first, second)]

    assert first == second
    assert len(first) > 500
    assert results[0] == results[1]
    assert results[0] == Run(TRACED).run(), "looking at a run changed it"


def test_a_seed_is_the_same_to_the_byte_in_another_process() -> None:
    trace: list[str] = []
    Run(TRACED, trace=trace).run()
    here = hashlib.sha256("\n".join(trace).encode()).hexdigest()
    script = f"""
import hashlib
from tests.sim.tier_two.run import Run
trace = []
Run({TRACED}, trace=trace).run()
print(hashlib.sha256("\\n".join(trace).encode()).hexdigest())
"""

    for hash_seed in ("1", "2"):
        there = subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=300,
        )
        assert there.stdout.strip() == here


def test_the_disasters_are_real() -> None:
    """A run in which nothing happens proves nothing."""
    results = [result for seed in range(100, 125) if isinstance(result := run_seed(2, seed), Result)]

    assert len(results) == 25
    assert sum(result.terms_led for result in results) > 30
    assert sum(result.acknowledged for result in results) > 300
    assert sum(result.reads for result in results) > 100
    assert sum(result.changes for result in results) > 2
    assert sum(result.installs for result in results) > 3

"""A bounded part of tier one for every run of the suite; `make sim` runs as many seeds as there is time."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.sim.scenario import Result
from tests.sim.tier_one.run import Run
from tests.sim.tiers import Failure, run_seed

SEEDS_PER_TEST = 10


@pytest.mark.parametrize("block", range(10))
def test_nothing_breaks_and_the_cluster_comes_back(block: int) -> None:
    for seed in range(block * SEEDS_PER_TEST, (block + 1) * SEEDS_PER_TEST):
        result = run_seed(1, seed)
        assert not isinstance(result, Failure), f"{result.what}\nreplay: {result.replay}"


def test_equal_seeds_give_equal_traces() -> None:
    first, second = [], []

    results = [Run(13, trace=trace).run() for trace in (first, second)]

    assert first == second
    assert len(first) > 500
    assert results[0] == results[1]
    assert results[0] == Run(13).run(), "looking at a run changed it"


def test_a_seed_is_the_same_in_another_process() -> None:
    here = Run(13).run()
    script = "from tests.sim.tier_one.run import Run; print(Run(13).run().fingerprint)"

    for hash_seed in ("1", "2"):
        there = subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=300,
        )
        assert int(there.stdout) == here.fingerprint


def test_the_disasters_are_real() -> None:
    """A run in which nothing happens proves nothing."""
    results = [result for seed in range(40) if isinstance(result := run_seed(1, seed), Result)]

    assert len(results) == 40
    assert sum(result.terms_led for result in results) > 80
    assert sum(result.acknowledged for result in results) > 2000
    assert sum(result.reads for result in results) > 2000
    assert sum(result.changes for result in results) > 10
    assert sum(result.installs for result in results) > 10

"""Cuts a failing run down: fewer kinds of faults, fewer strikes, until nothing more can be left out.

A run counts as the same failure if the same property breaks. The result is the command line that still shows it.

What may not live here: what a schedule means to a run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TextIO

from tests.sim.schedule import NETWORK_FAULTS, Schedule
from tests.sim.swarm import FAULTS
from tests.sim.tier_two.swarm import EXTRA_FAULTS
from tests.sim.tiers import Failure, run_seed

STRIKES_TRIED_MAX = 200

Try = Callable[[Schedule], bool]


def shrink(failure: Failure, out: TextIO) -> Failure:
    """The smallest failure found on the way down from this one."""
    best = failure

    def fails(schedule: Schedule) -> bool:
        nonlocal best
        result = run_seed(failure.tier, failure.seed, schedule=schedule)
        if not isinstance(result, Failure) or result.name != failure.name:
            return False
        best = result
        print(f"  still fails: {result.schedule.options()}", file=out, flush=True)
        return True

    _fewer_kinds(failure.schedule, fails)
    _fewer_strikes(best.schedule, best.strikes, fails)
    _fewer_kinds(best.schedule, fails)
    _without_single_strikes(best.schedule, fails)
    return best


def _fewer_kinds(schedule: Schedule, fails: Try) -> None:
    for name in (*NETWORK_FAULTS, *FAULTS, *EXTRA_FAULTS):
        smaller = replace(schedule, without=schedule.without | {name})
        if name not in schedule.without and fails(smaller):
            schedule = smaller


def _fewer_strikes(schedule: Schedule, strikes: int, fails: Try) -> None:
    """Only the first so many: by halves, as far as that goes, then by steps that shrink."""
    count = strikes if schedule.faults_max is None else min(strikes, schedule.faults_max)
    step = max(1, count // 2)
    while count > 0:
        if count >= step and fails(replace(schedule, faults_max=count - step)):
            count -= step
        elif step == 1:
            return
        else:
            step = max(1, step // 2)


def _without_single_strikes(schedule: Schedule, fails: Try) -> None:
    last = min(schedule.faults_max if schedule.faults_max is not None else STRIKES_TRIED_MAX, STRIKES_TRIED_MAX)
    for number in range(last, 0, -1):
        smaller = replace(schedule, skipped=schedule.skipped | {number})
        if fails(smaller):
            schedule = smaller

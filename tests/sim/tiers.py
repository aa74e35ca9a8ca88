"""The two tiers by number, and what the command line and the tests do with a seed of either."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass

from tests.sim.checkers import Violation
from tests.sim.scenario import Result, Scenario
from tests.sim.schedule import Schedule
from tests.sim.tier_one.run import Run as CoreRun
from tests.sim.tier_two.run import Run as NodeRun

TIERS: dict[int, Callable[..., Scenario]] = {1: CoreRun, 2: NodeRun}
EVERYTHING = Schedule()


@dataclass(frozen=True, slots=True)
class Failure:
    tier: int
    seed: int
    name: str
    """Of the property that does not hold, or what was asserted."""
    what: str
    strikes: int = 0
    """How many faults there had been."""
    schedule: Schedule = EVERYTHING
    where: str = ""

    @property
    def replay(self) -> str:
        """The line that runs it again."""
        parts = [f"python -m tests.sim --tier {self.tier} --replay {self.seed}", self.schedule.options(), "--trace"]
        return " ".join(filter(None, parts))


def run_seed(
    tier: int, seed: int, *, schedule: Schedule = EVERYTHING, trace: list[str] | None = None
) -> Result | Failure:
    """In whatever process: a broken run is a value, not an end of everything."""
    run = TIERS[tier](seed, trace=trace, schedule=schedule)
    try:
        return run.run()
    except Exception as error:
        name = error.name if isinstance(error, Violation) else f"{type(error).__name__}: {str(error)[:60]}"
        what, where = f"{type(error).__name__}: {error}", traceback.format_exc()
        return Failure(tier, seed, name, what, run.strikes, schedule, where)

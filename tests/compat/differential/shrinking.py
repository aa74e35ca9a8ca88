"""The shortest sequence of steps that still differs: first only the last ones, then without what can be left out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from tests.compat.differential.runs import Run
from tests.compat.differential.steps import Step

TAILS = (1, 4, 16, 64, 256, 1024, 4096)
BUDGET_S = 180.0


def shrink(run: Run, again: Callable[[Sequence[Step]], Run], *, budget_s: float = BUDGET_S) -> Run:
    """The shortest run found in the time given, whose last step is of the same kind and still shows a difference.

    Args:
        run: it has a difference.
        again: sends steps to fresh servers.
    """
    end = time.monotonic() + budget_s
    best = run

    def still_differs(steps: Sequence[Step]) -> bool:
        nonlocal best
        tried = again(steps)
        if (
            tried.difference is None
            or best.difference is None
            or tried.difference.step.name != best.difference.step.name
        ):
            return False
        best = tried
        return True

    for tail in TAILS:
        if tail >= len(run.sent) or still_differs(run.sent[-tail:]):
            break
    chunk = len(best.sent) // 2
    while chunk and time.monotonic() < end:
        at = 0
        while at < len(best.sent) - 1 and time.monotonic() < end:
            if not still_differs(best.sent[:at] + best.sent[at + chunk :]):
                at += chunk
        chunk //= 2
    return best

"""Says in words why a history is not linearizable: as few operations as still show it.

    1. The shortest beginning of the history that cannot be placed: its last return is the operation that contradicts.
    2. Of that, what can be left out while it still contradicts: reads, and writes that nobody noticed.

What may not live here: the verdict itself. What is said here is taken from histories that the search has refused.
"""

from __future__ import annotations

import dataclasses
from bisect import bisect_left
from collections.abc import Sequence

from raftkv.lab.history import UNKNOWN
from raftkv.lab.history_model import Component, Normal, State
from raftkv.lab.history_revisions import Conflict
from raftkv.lab.history_search import Budget, LimitReached, Search, search

_STATES_MAX = 200_000
_ROWS_SHOWN = 40


def explain_revisions(conflict: Conflict) -> str:
    """The conflict and the operations in it."""
    return "\n".join([f"by revisions: {conflict.text}", *(f"    {normal.operation}" for normal in conflict.operations)])


def explain_search(component: Component, normals: Sequence[Normal], failed: Search, *, deadline: float) -> str:
    """Which operation cannot be placed, and the smallest window of operations, as far as time allows, that shows it."""
    shrinker = _Shrinker(component, deadline)
    window, failed = shrinker.shortest_beginning(list(normals), failed)
    window, failed = shrinker.thinned(window, failed)
    assert failed.stuck is not None, "only what failed is explained"
    rows = sorted(window, key=lambda normal: (normal.call, normal.returned))
    hidden = len(rows) - _ROWS_SHOWN
    start = min(normal.call for normal in rows)
    end = max((normal.returned for normal in rows if normal.required), default=start)
    head = (
        f"by search: no order fits {len(window)} of {len(normals)} operations on {_listed(component.keys)}, "
        f"from {start:.6f} to {end:.6f}:"
    )
    return "\n".join(
        [
            head,
            *([f"    … {hidden} more before these"] if hidden > 0 else []),
            *(f"  {'>' if normal is failed.stuck else ' '} {normal.operation}" for normal in rows[-_ROWS_SHOWN:]),
            f"  #{failed.stuck.operation.number} cannot be placed: the longest order that fits leaves {_state(component, failed.state)}",
            f"  ({_order(failed)})",
        ]
    )


class _Shrinker:
    def __init__(self, component: Component, deadline: float) -> None:
        self._component = component
        self._deadline = deadline

    def shortest_beginning(self, normals: list[Normal], failed: Search) -> tuple[list[Normal], Search]:
        """A beginning of a linearizable history is linearizable: so the shortest bad one is found by halving."""
        ends = sorted(normal.returned for normal in normals if normal.required)
        outcomes: dict[int, tuple[list[Normal], Search]] = {len(ends) - 1: (normals, failed)}

        def is_bad(position: int) -> bool:
            beginning = _until(normals, ends[position])
            result = self._search(beginning)
            if result is None or result.found:
                return False
            outcomes[position] = (beginning, result)
            return True

        shortest = bisect_left(range(len(ends) - 1), True, key=is_bad)
        return outcomes.get(shortest, (normals, failed))

    def thinned(self, normals: list[Normal], failed: Search) -> tuple[list[Normal], Search]:
        """Leave out, in chunks and then one by one, whatever is not needed for the contradiction."""
        size = max(1, len(normals) // 2)
        while size:
            position = 0
            while position < len(normals):
                rest = self._without(normals, position, position + size)
                result = self._search(rest) if len(rest) < len(normals) else None
                if result is not None and not result.found:
                    normals, failed = rest, result
                else:
                    position += size
            size //= 2
        return normals, failed

    def _without(self, normals: list[Normal], first: int, last: int) -> list[Normal]:
        """Leave out operations that may be left out: without them a good history stays good."""
        if any(normal.blind for normal in normals):
            observed = None
        else:
            observed = {value for normal in normals for value in normal.observed()}
        return [
            normal
            for number, normal in enumerate(normals)
            if not (first <= number < last and _may_be_left_out(normal, observed))
        ]

    def _search(self, normals: list[Normal]) -> Search | None:
        try:
            return search(self._component, normals, Budget(deadline=self._deadline, states_max=_STATES_MAX))
        except LimitReached:
            return None


def _may_be_left_out(normal: Normal, observed: set[str] | None) -> bool:
    if not normal.required:
        return observed is not None and not any(
            action.kind == "delete" or action.value in observed for action in normal.command.actions
        )
    assert normal.observation is not None, "required operations have an answer"
    branch = normal.command.branch(normal.observation.succeeded)
    if all(action.kind == "read" for action in branch):
        return True
    return (
        observed is not None
        and not normal.command.when
        and all(action.kind == "put" and action.value not in observed for action in branch)
    )


def _until(normals: Sequence[Normal], end: float) -> list[Normal]:
    """The history as it looked at a moment: what returned later was still under way."""
    beginning = []
    for normal in normals:
        if normal.returned <= end:
            beginning.append(normal)
        elif normal.call <= end and normal.command.writes:
            pending = dataclasses.replace(normal.operation, returned=UNKNOWN, result=None)
            beginning.append(Normal(pending, normal.command, None))
    return beginning


def _listed(keys: Sequence[str]) -> str:
    return ", ".join(keys[:6]) + (f" and {len(keys) - 6} more keys" if len(keys) > 6 else "")


def _state(component: Component, state: State) -> str:
    shown = [f"{key}={value!r}" for key, value in zip(component.keys, state, strict=True) if value is not None]
    return ", ".join(shown[:10]) + (", …" if len(shown) > 10 else "") if shown else "no key at all"


def _order(failed: Search) -> str:
    numbers = [f"#{normal.operation.number}" for normal in failed.order]
    return f"that order: {'… ' if len(numbers) > 20 else ''}{' '.join(numbers[-20:]) or 'nothing'}"

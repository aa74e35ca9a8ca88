"""Looks for an order in which operations on a few keys could have happened one at a time: Wing and Gong's search.

The order must respect time: an operation that returned before another was called comes first. So the next operation is always one
of those called before the first return among the operations not yet placed; each is tried, and taken back when nothing fits any
more. Two things keep that from growing beyond bounds:

- A set of operations placed and the state they led to are tried once (Lowe), in whatever order they were placed.
- An operation of unknown outcome is placed only where nothing else fits first, and never if the same state was reached with fewer
  of them.

Source: Wing and Gong, "Testing and verifying concurrent objects", 1993; Lowe, "Testing for linearizability", 2017. The shape with
one memo of states is that of Porcupine (Athalye, 2017).

What may not live here: what operations mean (``history_model.py``) and what a failure is called (``linearizability.py``).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from raftkv.lab.history_model import Component, Normal, State

_LOOKS_AT_CLOCK_EVERY = 256


class LimitReached(Exception):
    """The search was given up: that is no verdict, and never a pass."""


@dataclass(kw_only=True)
class Budget:
    """What all searches of one check may use together.

    Attributes:
        deadline: on ``time.monotonic()``.
        states_max: how many states of one component may be remembered: some 200 bytes each.
        states: how many were remembered in all, so far.
    """

    deadline: float
    states_max: int
    states: int = 0

    def check(self, remembered: int) -> None:
        """Raises LimitReached."""
        if remembered > self.states_max:
            raise LimitReached(f"more than {self.states_max} states of one component")
        if remembered % _LOOKS_AT_CLOCK_EVERY == 1 and time.monotonic() > self.deadline:
            raise LimitReached("out of time")


@dataclass(frozen=True, slots=True)
class Search:
    """What a search has found.

    Attributes:
        order: an order that works; where there is none, the longest beginning of one.
        state: the values of the keys after it.
        stuck: the operation that had to come next and could not; None where all were placed.
    """

    order: tuple[Normal, ...]
    state: State
    stuck: Normal | None

    @property
    def found(self) -> bool:
        return self.stuck is None


def search(component: Component, normals: Sequence[Normal], budget: Budget, *, start: State | None = None) -> Search:
    """Look for an order of the operations of one component.

    Raises:
        LimitReached: the budget is used up.
    """
    finder = _Finder(component, normals, budget)
    return finder.run(component.empty if start is None else start)


@dataclass(slots=True)
class _Frame:
    """A point in the search: what was placed, and what can still be tried next.

    Attributes:
        first: all required operations before this one are placed.
        mask: bit i: required operation ``first + i`` is placed.
        unknowns: bit i: unknown operation i is placed.
        placed: the operation that led here.
    """

    state: State
    first: int
    mask: int
    unknowns: int
    placed: Normal | None
    choices: Iterator[tuple[int, bool]]


class _Finder:
    def __init__(self, component: Component, normals: Sequence[Normal], budget: Budget) -> None:
        self._budget = budget
        self._required = sorted((normal for normal in normals if normal.required), key=lambda normal: normal.call)
        self._unknown = sorted((normal for normal in normals if not normal.required), key=lambda normal: normal.call)
        self._steps = [component.transition(normal) for normal in self._required]
        self._unknown_steps = [component.transition(normal) for normal in self._unknown]
        self._calls = [normal.call for normal in self._required]
        self._returns = [normal.returned for normal in self._required]
        self._seen: dict[tuple[int, int, State], list[int]] = {}
        self._remembered = 0

    def run(self, start: State) -> Search:
        stack = [self._frame(start, 0, 0, 0, None)]
        longest: list[_Frame] = list(stack)
        depth = -1
        while True:
            top = stack[-1]
            if top.first == len(self._required):
                return self._result(stack, None)
            following = self._next(top)
            if following is not None:
                stack.append(following)
                continue
            placed = top.first + top.mask.bit_count()
            if placed > depth:
                depth, longest = placed, list(stack)
            stack.pop()
            if not stack:
                return self._result(longest, self._due(longest[-1]))

    def _frame(self, state: State, first: int, mask: int, unknowns: int, placed: Normal | None) -> _Frame:
        return _Frame(state, first, mask, unknowns, placed, iter(self._choices(first, mask, unknowns)))

    def _choices(self, first: int, mask: int, unknowns: int) -> list[tuple[int, bool]]:
        """What may come next: every operation that was called before the first return of those not yet placed."""
        bound = float("inf")
        candidates = []
        for number in range(first, len(self._required)):
            if self._calls[number] > bound:
                break
            if not mask >> (number - first) & 1:
                candidates.append(number)
                bound = min(bound, self._returns[number])
        chosen = [(number, False) for number in candidates if self._calls[number] <= bound]
        for number, normal in enumerate(self._unknown):
            if normal.call > bound:
                break
            if not unknowns >> number & 1:
                chosen.append((number, True))
        return chosen

    def _next(self, top: _Frame) -> _Frame | None:
        for number, is_unknown in top.choices:
            step = (self._unknown_steps if is_unknown else self._steps)[number]
            state = step(top.state)
            if state is None:
                continue
            first, mask, unknowns = top.first, top.mask, top.unknowns
            if is_unknown:
                unknowns |= 1 << number
            else:
                mask |= 1 << (number - first)
                while mask & 1:
                    mask >>= 1
                    first += 1
            if self._is_new(first, mask, state, unknowns):
                placed = (self._unknown if is_unknown else self._required)[number]
                return self._frame(state, first, mask, unknowns, placed)
        return None

    def _is_new(self, first: int, mask: int, state: State, unknowns: int) -> bool:
        reached = self._seen.setdefault((first, mask, state), [])
        if any(earlier & unknowns == earlier for earlier in reached):
            return False
        reached.append(unknowns)
        self._remembered += 1
        self._budget.states += 1
        self._budget.check(self._remembered)
        return True

    def _due(self, frame: _Frame) -> Normal:
        """The operation that returned first of those not placed: it cannot wait."""
        left = [n for n in range(frame.first, len(self._required)) if not frame.mask >> (n - frame.first) & 1]
        return self._required[min(left, key=lambda number: self._returns[number])]

    def _result(self, stack: list[_Frame], stuck: Normal | None) -> Search:
        order = tuple(frame.placed for frame in stack if frame.placed is not None)
        return Search(order, stack[-1].state, stuck)

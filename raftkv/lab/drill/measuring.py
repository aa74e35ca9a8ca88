"""From the record of a round to figures: outages, and what a picture needs. Pure.

What may not live here: whether the figures are good enough (``verdict.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from raftkv.lab.history import Operation

BIN_S = 0.05


@dataclass(frozen=True, kw_only=True)
class Bin:
    """What returned within one span of a round, ``BIN_S`` long. ``at_s`` counts from the fault."""

    at_s: float
    reads: int
    writes: int
    failed: int
    read_max_ms: float | None
    write_max_ms: float | None


@dataclass(frozen=True, kw_only=True)
class Gap:
    """A time without any success, from one to the next. Seconds on the history's clock."""

    start: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.start


def outage(operations: Sequence[Operation], op: str, *, since: float, until: float) -> Gap:
    """The longest time between one success and the next, of those that reach into the span.

    Where nothing succeeded from some moment to the end, it lasts until the end; where nothing did before, from its beginning.
    """
    returns = sorted(operation.returned for operation in operations if operation.op == op and operation.known)
    before = [moment for moment in returns if moment <= since]
    within = [moment for moment in returns if since < moment < until]
    after = [moment for moment in returns if moment >= until]
    marks = [before[-1] if before else since, *within, after[0] if after else until]
    return max((Gap(start=earlier, end=later) for earlier, later in pairwise(marks)), key=lambda gap: gap.seconds)


def bins(operations: Sequence[Operation], *, fault_at: float, start: float, end: float) -> list[Bin]:
    """The round in spans of ``BIN_S``, each operation in the one in which it returned."""
    count = max(1, round((end - start) / BIN_S))
    sorted_in: list[list[Operation]] = [[] for _ in range(count)]
    for operation in operations:
        if not operation.unknown and start <= operation.returned < start + count * BIN_S:
            sorted_in[int((operation.returned - start) / BIN_S)].append(operation)
    return [
        Bin(
            at_s=round(start + number * BIN_S - fault_at, 3),
            reads=sum(o.known and o.op == "get" for o in inside),
            writes=sum(o.known and o.op == "put" for o in inside),
            failed=sum(o.refused for o in inside),
            read_max_ms=_slowest_ms(inside, "get"),
            write_max_ms=_slowest_ms(inside, "put"),
        )
        for number, inside in enumerate(sorted_in)
    ]


def _slowest_ms(operations: Sequence[Operation], op: str) -> float | None:
    times = [o.returned - o.call for o in operations if o.op == op and o.known]
    return round(max(times) * 1000, 2) if times else None

"""The judge: could one store, doing one thing at a time, have given these answers?

    history.jsonl ─► history.py ─► history_model.py ─┬─► history_search.py      an order that fits, or none  ┐
                     the format    one normal form   └─► history_revisions.py   the order the store claims   ┴─► Verdict

A history is linearizable if it is so for every group of keys that no operation joins (a range or a txn joins its keys), so each
group is searched by itself. A verdict is one of three. UNDECIDED, where time or memory ran out, is a failure and never a pass.

    python -m raftkv.lab.linearizability history.jsonl [--sole-writer]

prints the verdict; the exit status is 0 only if it is LINEARIZABLE. With ``--sole-writer`` revisions that nobody in the history
can have written are a violation too.

What may not live here: clients, clusters, faults.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from raftkv.lab.history import HistoryError, Operation, check_form, load
from raftkv.lab.history_explain import explain_revisions, explain_search
from raftkv.lab.history_model import Component, Normal, known_keys, normalized, touched
from raftkv.lab.history_revisions import check_revisions
from raftkv.lab.history_search import Budget, LimitReached, search


class Judgement(Enum):
    """LINEARIZABLE: both oracles agree. VIOLATION: one has found that no order fits. UNDECIDED: the search was given up."""

    LINEARIZABLE = "linearizable"
    VIOLATION = "not linearizable"
    UNDECIDED = "undecided"


@dataclass(frozen=True, kw_only=True)
class CheckLimits:
    """What a check may cost.

    Attributes:
        seconds: for searching all groups of keys; the explanation of a violation may take as long again.
        states_max: states remembered for one group of keys, some 200 bytes each.
    """

    seconds: float = 60.0
    states_max: int = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the judge says.

    Attributes:
        by_search: what looking for an order has shown.
        by_revisions: what the revisions have shown; None where no answer carried one.
        explanation: for people: what cannot be, and the operations that show it.
        operations: how many were judged, without those that were refused.
        unknown: how many of them have an unknown outcome.
        groups: of keys, judged by themselves.
        states: how many the search remembered.
        seconds: how long it took.
    """

    by_search: Judgement
    by_revisions: Judgement | None
    explanation: str
    operations: int
    unknown: int
    groups: int
    states: int
    seconds: float

    @property
    def judgement(self) -> Judgement:
        """The worse of the two."""
        both = (self.by_search, self.by_revisions)
        if Judgement.VIOLATION in both:
            return Judgement.VIOLATION
        return self.by_search

    @property
    def ok(self) -> bool:
        return self.judgement is Judgement.LINEARIZABLE

    def __str__(self) -> str:
        revisions = "no revisions" if self.by_revisions is None else f"revisions: {self.by_revisions.value}"
        summary = (
            f"{self.judgement.value.upper()}: {self.operations} operations ({self.unknown} of unknown outcome) in "
            f"{self.groups} groups of keys; search: {self.by_search.value}, {revisions}; "
            f"{self.states} states, {self.seconds:.2f} s"
        )
        return f"{summary}\n{self.explanation}" if self.explanation else summary


def check(operations: Sequence[Operation], *, limits: CheckLimits | None = None, sole_writer: bool = False) -> Verdict:
    """Judge a history.

    Args:
        operations: in any order.
        limits: what it may cost.
        sole_writer: nobody else wrote to the store in that time.

    Raises:
        HistoryError: it breaks the rules of ``history.py``, so it cannot be judged.
    """
    limits = limits or CheckLimits()
    began = time.monotonic()
    everything = [normalized(operation) for operation in operations]
    keys = sorted(known_keys(everything))
    touches = {normal.operation.number: touched(normal, keys) for normal in everything}
    check_form(operations, lambda operation: touches[operation.number])
    normals = [
        normal for normal in everything if normal.required or (normal.operation.unknown and normal.command.writes)
    ]
    refused = [normal for normal in everything if normal.operation.refused]
    groups = _groups(keys, normals, touches)
    budget = Budget(deadline=began + limits.seconds, states_max=limits.states_max)
    by_search, text = _search_all(groups, budget, limits)
    by_revisions = None
    if any(normal.operation.revision is not None for normal in normals):
        conflict = check_revisions(normals, refused, sole_writer=sole_writer)
        by_revisions = Judgement.LINEARIZABLE if conflict is None else Judgement.VIOLATION
        text = "\n".join(filter(None, (text, "" if conflict is None else explain_revisions(conflict))))
    return Verdict(
        by_search=by_search,
        by_revisions=by_revisions,
        explanation=text,
        operations=len(normals),
        unknown=sum(not normal.required for normal in normals),
        groups=len(groups),
        states=budget.states,
        seconds=time.monotonic() - began,
    )


def _search_all(
    groups: Sequence[tuple[Component, list[Normal]]], budget: Budget, limits: CheckLimits
) -> tuple[Judgement, str]:
    for component, normals in groups:
        try:
            found = search(component, _relevant(normals), budget)
        except LimitReached as reason:
            return Judgement.UNDECIDED, f"given up at keys {', '.join(component.keys[:5])}: {reason}"
        if not found.found:
            deadline = time.monotonic() + limits.seconds
            return Judgement.VIOLATION, explain_search(component, _relevant(normals), found, deadline=deadline)
    return Judgement.LINEARIZABLE, ""


def _groups(
    keys: Sequence[str], normals: Sequence[Normal], touches: dict[int, set[str]]
) -> list[tuple[Component, list[Normal]]]:
    """Keys that operations join, directly or through other keys, and the operations on them."""
    parent = {key: key for key in keys}

    def root(key: str) -> str:
        while parent[key] != key:
            parent[key] = key = parent[parent[key]]
        return key

    for normal in normals:
        joined = sorted(touches[normal.operation.number])
        for key in joined[1:]:
            parent[root(key)] = root(joined[0])
    members: defaultdict[str, list[str]] = defaultdict(list)
    for key in keys:
        members[root(key)].append(key)
    work: defaultdict[str, list[Normal]] = defaultdict(list)
    nowhere: list[Normal] = []  # A range without any key that is known: its answer must be empty.
    for normal in normals:
        names = touches[normal.operation.number]
        (work[root(min(names))] if names else nowhere).append(normal)
    groups = [(Component(members[name]), work[name]) for name in members if work[name]]
    return [*groups, (Component(()), nowhere)] if nowhere else groups


def _relevant(normals: Sequence[Normal]) -> list[Normal]:
    """Leave out writes of unknown outcome that nobody can have noticed: they need not have happened."""
    if any(normal.blind for normal in normals):
        return list(normals)
    observed = {value for normal in normals for value in normal.observed()}
    return [normal for normal in normals if normal.required or _may_be_noticed(normal, observed)]


def _may_be_noticed(normal: Normal, observed: set[str]) -> bool:
    return any(
        action.kind == "delete" or (action.kind == "put" and action.value in observed)
        for action in normal.command.actions
    )


def main(arguments: Sequence[str]) -> int:
    """Print the verdict on a file; 0 if it is linearizable."""
    paths = [argument for argument in arguments if not argument.startswith("-")]
    options = {argument for argument in arguments if argument.startswith("-")}
    if len(paths) != 1 or options - {"--sole-writer"}:
        sys.stderr.write("usage: python -m raftkv.lab.linearizability HISTORY.jsonl [--sole-writer]\n")
        return 2
    try:
        verdict = check(load(Path(paths[0])), sole_writer=bool(options))
    except HistoryError as error:
        sys.stdout.write(f"CANNOT BE JUDGED: {error}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"cannot read {paths[0]}: {error.strerror}\n")
        return 2
    sys.stdout.write(f"{verdict}\n")
    return 0 if verdict.ok else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

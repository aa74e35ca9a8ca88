"""The judge on random histories: never wrong about what really happened, never wrong where every order can be tried."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from raftkv.lab.history import Operation, dump, load
from raftkv.lab.linearizability import Judgement, check
from tests.lab.histories import any_order_fits, execution, mutated

SEEDS = st.integers(min_value=0, max_value=2**32)


@settings(max_examples=150, deadline=None)
@given(seed=SEEDS, count=st.integers(1, 60), spread=st.sampled_from([0.0, 1.0, 4.0]), lost=st.sampled_from([0.0, 0.2]))
def test_what_really_happened_is_accepted_by_both_oracles(seed: int, count: int, spread: float, lost: float) -> None:
    operations = execution(random.Random(seed), count, spread=spread, unknown=lost)

    verdict = check(operations, sole_writer=True)

    assert verdict.ok, str(verdict)


@settings(max_examples=250, deadline=None)
@given(seed=SEEDS, count=st.integers(2, 6))
def test_one_changed_answer_is_judged_as_trying_every_order_judges_it(seed: int, count: int) -> None:
    rng = random.Random(seed)
    operations = execution(rng, count, unknown=0.25)
    if not any(operation.known for operation in operations):
        return
    changed = mutated(rng, operations)

    verdict = check(changed)

    wanted = Judgement.LINEARIZABLE if any_order_fits(changed) else Judgement.VIOLATION
    assert verdict.by_search is wanted, str(verdict)


def test_many_of_those_changes_are_lies() -> None:
    """Otherwise the test above shows little."""
    lies = 0
    for seed in range(200):
        rng = random.Random(seed)
        operations = execution(rng, 5, unknown=0.1)
        if any(operation.known for operation in operations):
            lies += not check(mutated(rng, operations)).ok
    assert lies >= 60


@settings(max_examples=100, deadline=None)
@given(seed=SEEDS)
def test_the_revision_oracle_never_accuses_what_trying_every_order_accepts(seed: int) -> None:
    """Without revisions in the headers of reads it must keep quiet wherever an order exists."""
    rng = random.Random(seed)
    operations = execution(rng, 6, unknown=0.3)
    writes = [operation for operation in operations if operation.op != "get"]

    verdict = check(writes)

    assert verdict.by_revisions in (None, Judgement.LINEARIZABLE), str(verdict)


def acknowledged_puts(operations: list[Operation]) -> list[int]:
    return [n for n, operation in enumerate(operations) if operation.known and operation.op == "put"]


@settings(max_examples=100, deadline=None)
@given(seed=SEEDS)
def test_writes_whose_revisions_are_swapped_are_convicted_by_the_revisions(seed: int) -> None:
    rng = random.Random(seed)
    operations = execution(rng, 40, spread=0.4, unknown=0.1)
    puts = acknowledged_puts(operations)
    if len(puts) < 2:
        return
    first, second = sorted(rng.sample(puts, 2))
    a, b = operations[first], operations[second]
    assert a.result is not None
    assert b.result is not None
    operations[first] = replace(a, result={**a.result, "revision": b.revision})
    operations[second] = replace(b, result={**b.result, "revision": a.revision})

    assert check(operations).by_revisions is Judgement.VIOLATION


def test_a_history_survives_its_file(tmp_path: Path) -> None:
    operations = execution(random.Random(7), 50)

    dump(tmp_path / "history.jsonl", operations)

    assert load(tmp_path / "history.jsonl") == operations


def long_history(rng: random.Random) -> list[Operation]:
    """10,000 operations on 100 groups of three keys, some six at once in each group, and some lost."""
    operations: list[Operation] = []
    for number in range(100):
        for operation in execution(rng, 100, spread=6.0, unknown=0.03):
            renamed = rename(operation, f"k{number:02}/")
            operations.append(replace(renamed, number=len(operations) + 1, client=f"{number}.{operation.client}"))
    return operations


def rename(operation: Operation, prefix: str) -> Operation:
    """Move an operation to keys, and to values, of its own. Its revisions say nothing any more."""

    def moved(value: object, name: str = "") -> object:
        if isinstance(value, dict):
            return {key: moved(inner, key) for key, inner in value.items() if key != "revision"}
        if isinstance(value, list):
            return [moved(inner, "item") for inner in value if not isinstance(inner, int)]
        return prefix + value if isinstance(value, str) and name not in ("op", "error") else value

    args, result = moved(operation.args), moved(operation.result)
    return replace(operation, args=args, result=result)  # type: ignore[arg-type]


def test_ten_thousand_operations_take_seconds() -> None:
    operations = long_history(random.Random(1))
    assert len(operations) == 10_000

    began = time.process_time()
    verdict = check(operations)

    assert verdict.ok, str(verdict)
    assert time.process_time() - began < 15.0

"""The index of known bugs cannot rot: every number is in it, and every test that it names exists."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

from tests.known_bugs import KNOWN_BUGS, TESTS, Held
from tests.sim.known_bugs import BUGS

COUNT = 61


@cache
def functions_of(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text())
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_every_number_is_there_once() -> None:
    assert list(KNOWN_BUGS) == list(range(1, COUNT + 1))


@pytest.mark.parametrize(
    ("number", "held"), KNOWN_BUGS.items(), ids=lambda value: str(value) if isinstance(value, int) else ""
)
def test_the_tests_that_hold_a_bug_exist(number: int, held: Held) -> None:
    assert held.tests, f"{number}: {held.bug}: no test"
    for name in held.tests:
        file, _, function = name.partition("::")
        path = TESTS / file
        assert path.is_file(), name
        assert not function or function in functions_of(path), name


def test_planted_bugs_have_numbers_of_the_list() -> None:
    assert {bug.number for bug in BUGS} <= {0, *KNOWN_BUGS}  # 0: bugs of our own.

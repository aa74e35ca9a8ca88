"""The judge on histories by hand: what must pass, what must not, and what it says about it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from raftkv.lab.history import HistoryError, dump
from raftkv.lab.linearizability import CheckLimits, Judgement, Verdict, check
from tests.lab.histories import Script


def verdict_on(script: Script, *, sole_writer: bool = False) -> Verdict:
    return check(script.operations, sole_writer=sole_writer)


GOOD: dict[str, Callable[[], Script]] = {
    "nothing": Script,
    "a read of a key never written": lambda: Script().get("a", None, (0, 1)),
    "a read of the last write": lambda: Script().put("a", "1", (0, 1)).get("a", "1", (2, 3)),
    "a read beside a write sees the old value": lambda: Script().put("a", "1", (0, 3)).get("a", None, (1, 2)),
    "a read beside a write sees the new value": lambda: Script().put("a", "1", (0, 3)).get("a", "1", (1, 2)),
    "two writes at once, in either order": lambda: (
        Script().put("a", "1", (0, 3)).put("a", "2", (0, 3)).get("a", "1", (4, 5))
    ),
    "an unknown write that happened": lambda: Script().put("a", "1", (0, None)).get("a", "1", (2, 3)),
    "an unknown write that did not happen": lambda: Script().put("a", "1", (0, None)).get("a", None, (2, 3)),
    "an unknown write that happened late": lambda: (
        Script().put("a", "1", (0, None)).get("a", None, (2, 3)).get("a", "1", (4, 5)).get("a", "1", (6, 7))
    ),
    "an unknown deletion": lambda: Script().put("a", "1", (0, 1)).delete("a", (1, None)).get("a", None, (2, 3)),
    "an unknown swap that explains a failed one": lambda: (
        Script()
        .put("a", "1", (0, 1))
        .cas("a", "1", "2", (2, None))
        .cas("a", "1", "3", (4, 5), succeeded=False)
        .get("a", "2", (6, 7))
    ),
    "an unknown write that only a failed swap has noticed": lambda: (
        Script().put("a", "1", (0, 1)).put("a", "2", (2, None)).cas("a", "1", "3", (4, 5), succeeded=False)
    ),
    "a swap that wins and one that loses": lambda: (
        Script().cas("a", None, "1", (0, 2)).cas("a", None, "2", (0, 2), succeeded=False).get("a", "1", (3, 4))
    ),
    "a range over what two clients wrote": lambda: (
        Script().put("a", "1", (0, 1)).put("b", "2", (0, 1)).range({"a": "1", "b": "2"}, (2, 3))
    ),
    "a range of one moment": lambda: (
        Script().put("a", "1", (0, 10)).put("b", "2", (0, 10)).range({"b": "2"}, (1, 2)).range({"b": "2"}, (3, 4))
    ),
    "a refused write that is not there": lambda: (
        Script().refused("put", {"key": "a", "value": "1"}, (0, 1)).get("a", None, (2, 3))
    ),
    "revisions in order": lambda: (
        Script().put("a", "1", (0, 1), 2).put("b", "2", (2, 3), 3).get("a", "1", (4, 5), 3, mod=2)
    ),
}

BAD: dict[str, Callable[[], Script]] = {
    "a stale read": lambda: Script().put("a", "1", (0, 1)).put("a", "2", (2, 3)).get("a", "1", (4, 5)),
    "a read that goes back in time": lambda: (
        Script().put("a", "1", (0, 9)).get("a", "1", (1, 2)).get("a", None, (3, 4))
    ),
    "a lost write": lambda: Script().put("a", "1", (0, 1)).get("a", None, (2, 3)),
    "a lost update": lambda: (
        Script().put("a", "1", (0, 1)).cas("a", "1", "2", (2, 4)).cas("a", "1", "3", (2, 4)).get("a", "3", (5, 6))
    ),
    "reordered writes": lambda: (
        Script()
        .put("a", "1", (0, 9))
        .put("a", "2", (0, 9))
        .get("a", "1", (1, 2))
        .get("a", "2", (3, 4))
        .get("a", "1", (5, 6))
    ),
    "a value never written": lambda: Script().put("a", "1", (0, 1)).get("a", "7", (2, 3)),
    "a value of another key": lambda: Script().put("a", "1", (0, 1)).get("b", "1", (2, 3)),
    "a value from the future": lambda: Script().get("a", "1", (0, 1)).put("a", "1", (2, 3)),
    "an unknown write from the future": lambda: Script().get("a", "1", (0, 1)).put("a", "1", (2, None)),
    "an unknown write that happened and was taken back": lambda: (
        Script().put("a", "1", (0, None)).get("a", "1", (2, 3)).get("a", None, (4, 5))
    ),
    "a retried write applied twice": lambda: (
        Script()
        .put("a", "1", (0, None))
        .get("a", "1", (1, 2))
        .put("a", "2", (3, 4))
        .get("a", "2", (5, 6))
        .get("a", "1", (7, 8))
    ),
    "a refused write that is there": lambda: (
        Script().refused("put", {"key": "a", "value": "1"}, (0, 1)).get("a", "1", (2, 3))
    ),
    "a deletion of nothing that deleted something": lambda: Script().delete("a", (0, 1), deleted=1),
    "a swap that must not have succeeded": lambda: Script().put("a", "1", (0, 1)).cas("a", None, "2", (2, 3)),
    "a swap that must not have failed": lambda: (
        Script().put("a", "1", (0, 1)).cas("a", "1", "2", (2, 3), succeeded=False)
    ),
    "a range that misses a key": lambda: Script().put("a", "1", (0, 1)).put("b", "2", (0, 1)).range({"a": "1"}, (2, 3)),
    "ranges that disagree on the order of two writes": lambda: (
        Script().put("a", "1", (0, 10)).put("b", "2", (0, 10)).range({"a": "1"}, (1, 2)).range({"b": "2"}, (3, 4))
    ),
    "a range out of order": lambda: (
        Script().put("a", "1", (0, 1)).put("b", "2", (0, 1)).range({"b": "2", "a": "1"}, (2, 3))
    ),
    "a range with a key that it must not show": lambda: (
        Script().put("a", "1", (0, 1)).put("b", "2", (0, 1)).range({"a": "1", "b": "2"}, (2, 3), end="b")
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_accepts(name: str) -> None:
    verdict = verdict_on(GOOD[name]())

    assert verdict.ok, str(verdict)
    assert verdict.explanation == ""


@pytest.mark.parametrize("name", BAD)
def test_rejects(name: str) -> None:
    verdict = verdict_on(BAD[name]())

    assert verdict.by_search is Judgement.VIOLATION
    assert not verdict.ok
    assert "cannot be placed" in verdict.explanation


def test_a_txn_that_is_seen_in_half_is_rejected() -> None:
    both = [{"op": "put", "args": {"key": "a", "value": "1"}}, {"op": "put", "args": {"key": "b", "value": "2"}}]
    txn = {"when": [], "then": both, "otherwise": []}

    def seen(items: dict[str, str]) -> Verdict:
        script = Script().add("txn", txn, (0, 9), {"succeeded": True, "responses": [{}, {}]})
        return verdict_on(script.range(items, (1, 2)))

    assert seen({}).ok
    assert seen({"a": "1", "b": "2"}).ok
    assert not seen({"a": "1"}).ok
    assert not seen({"b": "2"}).ok


def test_a_txn_of_unknown_outcome_happens_as_a_whole_or_not_at_all() -> None:
    both = [{"op": "put", "args": {"key": "a", "value": "1"}}, {"op": "put", "args": {"key": "b", "value": "2"}}]
    txn = {"when": [["a", None]], "then": both, "otherwise": []}

    def seen(a: str | None, b: str | None) -> Verdict:
        return verdict_on(Script().add("txn", txn, (0, None), {}).get("a", a, (1, 2)).get("b", b, (3, 4)))

    assert seen(None, None).ok
    assert seen("1", "2").ok
    assert seen(None, "2").ok, "it may have happened in between"
    assert not seen("1", None).ok


def test_a_read_in_a_txn_sees_what_the_txn_has_written() -> None:
    then = [{"op": "put", "args": {"key": "a", "value": "1"}}, {"op": "get", "args": {"key": "a"}}]
    txn = {"when": [], "then": then, "otherwise": []}

    def seen(item: list[object] | None) -> Verdict:
        result = {"succeeded": True, "responses": [{}, {"item": item}], "revision": 2}
        return verdict_on(Script().add("txn", txn, (0, 1), result))

    assert seen(["a", "1", 2]).ok
    verdict = seen(None)
    assert (verdict.by_search, verdict.by_revisions) == (Judgement.VIOLATION, Judgement.VIOLATION)


BAD_REVISIONS: dict[str, Callable[[], Script]] = {
    "two writes at one revision": lambda: Script().put("a", "1", (0, 2), 2).put("b", "2", (0, 2), 2),
    "a later write with an earlier revision": lambda: Script().put("a", "1", (0, 1), 3).put("b", "2", (2, 3), 2),
    "a read from before an acknowledged write": lambda: Script().put("b", "1", (0, 1), 2).get("a", None, (2, 3), 1),
    "reads that go back": lambda: Script().get("a", None, (0, 1), 5).get("b", None, (2, 3), 4),
    "a write below what was read before": lambda: Script().get("a", None, (0, 1), 5).put("b", "1", (2, 3), 5),
    "a stale value": lambda: Script().put("a", "1", (0, 1), 2).put("a", "2", (0, 1), 3).get("a", "1", (0, 5), 3, mod=2),
    "a value at a revision that is not its own": lambda: (
        Script().put("a", "1", (0, 1), 2).put("b", "2", (0, 1), 3).get("a", "1", (4, 5), 3, mod=3)
    ),
    "an unknown write seen at two revisions": lambda: (
        Script().put("a", "1", (0, None)).get("a", "1", (1, 2), 4, mod=3).get("a", "1", (1, 2), 4, mod=4)
    ),
    "a deleted key that is shown": lambda: (
        Script().put("a", "1", (0, 1), 2).delete("a", (2, 3), revision=3).get("a", "1", (2, 5), 3, mod=2)
    ),
    "a key that is not shown": lambda: (
        Script().put("a", "1", (0, 4), 2).put("b", "2", (0, 4), 3).range({"b": "2"}, (0, 5), revision=3)
    ),
    "a value never written": lambda: Script().get("a", "7", (0, 1), 2),
    "a refused write that is there": lambda: (
        Script().refused("put", {"key": "a", "value": "1"}, (0, 1)).get("a", "1", (0, 3), 2, mod=2)
    ),
    "a swap on another value": lambda: (
        Script().put("a", "1", (0, 4), 2).put("a", "2", (0, 4), 3).cas("a", "1", "3", (0, 5), revision=4)
    ),
    "a swap that failed without a reason": lambda: (
        Script().put("a", "1", (0, 4), 2).cas("a", "1", "3", (0, 5), succeeded=False, revision=2)
    ),
}


@pytest.mark.parametrize("name", BAD_REVISIONS)
def test_the_revisions_alone_convict(name: str) -> None:
    verdict = verdict_on(BAD_REVISIONS[name]())

    assert verdict.by_revisions is Judgement.VIOLATION
    assert not verdict.ok
    assert "by revisions: " in verdict.explanation


def test_a_write_applied_twice_that_nobody_has_read_shows_as_a_revision_without_an_owner() -> None:
    script = Script().put("a", "1", (0, 1), 2).put("b", "2", (2, 3), 4)

    assert verdict_on(script).ok, "somebody else may have written revision 3"
    verdict = verdict_on(script, sole_writer=True)
    assert verdict.by_revisions is Judgement.VIOLATION
    assert "(3)" in verdict.explanation
    assert verdict_on(script.put("c", "3", (0, None)), sole_writer=True).ok, "the unknown write is its owner"


def test_a_violation_names_the_operation_and_the_few_that_it_contradicts() -> None:
    script = Script()
    for number in range(60):
        script.put("a", f"before{number}", (number, number + 0.5))
    script.put("a", "old", (100, 101)).put("a", "new", (102, 103)).get("a", "old", (104, 105))
    for number in range(60):
        script.put("a", f"after{number}", (200 + number, 200.5 + number))

    verdict = verdict_on(script)

    assert "no order fits 3 of 123 operations on a, from 100.000000 to 105.000000" in verdict.explanation
    assert '> #63 c63 [104.000000 … 105.000000] get key="a" → item=["a", "old", null]' in verdict.explanation
    assert "leaves a='new'" in verdict.explanation


def test_a_search_without_time_is_no_pass() -> None:
    script = Script().put("a", "1", (0, 1)).get("a", "1", (2, 3))

    verdict = check(script.operations, limits=CheckLimits(seconds=-1))

    assert verdict.judgement is Judgement.UNDECIDED
    assert not verdict.ok
    assert "out of time" in verdict.explanation


def test_a_search_without_memory_is_no_pass() -> None:
    script = Script()
    for number in range(20):
        script.put("a", str(number), (0, 100))
    script.get("a", "nobody wrote this", (200, 201))

    verdict = check(script.operations, limits=CheckLimits(states_max=1_000))

    assert verdict.judgement is Judgement.UNDECIDED
    assert "more than 1000 states" in verdict.explanation


def test_keys_are_judged_by_themselves_unless_an_operation_joins_them() -> None:
    apart = Script().put("a", "1", (0, 1)).put("b", "2", (0, 1)).put("c", "3", (0, 1))
    assert verdict_on(apart).groups == 3

    assert verdict_on(apart.range({"a": "1", "b": "2"}, (2, 3), end="c")).groups == 2


@pytest.mark.parametrize(
    ("script", "what"),
    [
        (Script().put("a", "1", (0, 1)).put("b", "1", (2, 3)), "#1 and #2 both write '1'"),
        (Script().add("swap", {"key": "a"}, (0, 1), {}), "line 1 is not a well-formed swap"),
        (Script().add("put", {"key": "a"}, (0, 1), {}), "line 1 is not a well-formed put"),
    ],
)
def test_a_history_that_breaks_the_rules_is_not_judged(script: Script, what: str) -> None:
    with pytest.raises(HistoryError, match=what):
        verdict_on(script)


def test_more_than_200_operations_on_a_key_are_not_judged() -> None:
    script = Script()
    for number in range(201):
        script.put("a", str(number), (number, number + 1))

    with pytest.raises(HistoryError, match="key 'a' is touched by 201 operations"):
        verdict_on(script)


def run_module(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "raftkv.lab.linearizability", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30)


def test_the_module_prints_the_verdict_and_tells_it_by_its_status(tmp_path: Path) -> None:
    good, bad, odd = (tmp_path / f"{name}.jsonl" for name in ("good", "bad", "odd"))
    dump(good, GOOD["revisions in order"]().operations)
    dump(bad, BAD["a stale read"]().operations)
    odd.write_text(json.dumps({"op": "put"}) + "\n")

    results = [run_module(str(path)) for path in (good, bad, odd)]

    assert [result.returncode for result in results] == [0, 1, 1]
    assert results[0].stdout.startswith("LINEARIZABLE: 3 operations")
    assert results[1].stdout.startswith("NOT LINEARIZABLE: 3 operations")
    assert results[2].stdout.startswith("CANNOT BE JUDGED: line 1 is no operation")
    assert run_module().returncode == 2
    assert run_module(str(tmp_path / "none")).stderr.endswith("No such file or directory\n")

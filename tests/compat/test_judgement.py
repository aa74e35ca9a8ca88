"""The judges' judge: what runners write is read as they mean it, and no difference goes without a word."""

from __future__ import annotations

import json
from pathlib import Path

from tests.compat.differences import EXPECTED, LEFT_OUT
from tests.compat.judgement import Judgement, details, judge, read_baseline, table
from tests.compat.judges import JUDGES
from tests.compat.results import FAILED, PASSED, SKIPPED, Result, Results, of_junit, of_mocha

JUNIT = """<testsuites><testsuite>
<testcase classname="tests.test_kv" name="test_get"/>
<testcase classname="tests.test_kv.TestX" name="test_put"><failure message="assert 1\n  == 2">trace</failure></testcase>
<testcase classname="tests.test_kv" name="test_alarm"/>
<testcase classname="tests.test_kv" name="test_alarm"><error message="failed on teardown"/></testcase>
<testcase classname="tests.test_kv" name="test_auth"><skipped message="no"/></testcase>
</testsuite></testsuites>"""

MOCHA = {
    "passes": [{"fullTitle": "crud gets"}],
    "pending": [{"fullTitle": "watch() later"}],
    "failures": [{"fullTitle": "lease() lives", "err": {"message": "12 UNIMPLEMENTED"}}],
}


def judged(ours: Results, expected: dict[str, str] | None = None) -> Judgement:
    return judge("one", ["a", "b"], ours, expected or {})


def test_a_report_of_pytest_is_read_and_a_failing_teardown_fails_the_test(tmp_path: Path) -> None:
    (tmp_path / "report").write_text(JUNIT)

    assert of_junit(tmp_path / "report") == {
        "test_kv::test_get": Result(PASSED),
        "TestX::test_put": Result(FAILED, "assert 1 == 2"),
        "test_kv::test_alarm": Result(FAILED, "failed on teardown"),
        "test_kv::test_auth": Result(SKIPPED),
    }


def test_a_report_of_mocha_is_read(tmp_path: Path) -> None:
    (tmp_path / "report").write_text(json.dumps(MOCHA))

    assert of_mocha(tmp_path / "report") == {
        "crud gets": Result(PASSED),
        "watch() later": Result(SKIPPED),
        "lease() lives": Result(FAILED, "12 UNIMPLEMENTED"),
    }


def test_what_passes_on_both_is_no_difference() -> None:
    judgement = judged({"a": Result(PASSED), "b": Result(PASSED), "c": Result(FAILED)})

    assert judgement.is_sound
    assert table([judgement]).endswith("| one | 2 | 2 | none |")


def test_a_failure_a_skip_and_a_test_that_never_ran_are_differences() -> None:
    assert judged({"a": Result(FAILED, "why"), "b": Result(PASSED)}).unexplained == {"a": "failed: why"}
    assert judged({"a": Result(SKIPPED), "b": Result(PASSED)}).unexplained == {"a": "skipped: "}
    assert judged({"b": Result(PASSED)}).unexplained == {"a": "did not run: "}
    assert "differs without a reason" in details([judged({})])


def test_a_listed_difference_is_explained_and_one_that_is_none_any_more_fails() -> None:
    explained = judged({"a": Result(FAILED), "b": Result(PASSED)}, {"a": "bbolt"})
    stale = judged({"a": Result(PASSED), "b": Result(PASSED)}, {"a": "bbolt"})

    assert (explained.is_sound, explained.explained) == (True, {"a": "bbolt"})
    assert "1: bbolt" in table([explained])
    assert (stale.is_sound, stale.stale) == (False, ["a"])


def test_every_judge_has_its_lists_and_every_listed_difference_passes_on_etcd() -> None:
    baseline = read_baseline()

    assert set(LEFT_OUT) == set(EXPECTED) == set(JUDGES) == set(baseline)
    for name, expected in EXPECTED.items():
        assert set(expected) <= set(baseline[name]), name

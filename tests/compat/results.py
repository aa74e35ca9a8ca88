"""What a judge's runner has written down, test by test."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"
REASON_CHARACTERS_MAX = 300


@dataclass(frozen=True)
class Result:
    """How one test ended.

    Attributes:
        outcome: passed, failed or skipped.
        reason: of a failure, in one line.
    """

    outcome: str
    reason: str = ""


Results = dict[str, Result]


def of_junit(path: Path) -> Results:
    """From pytest's ``--junitxml``. A test whose teardown fails has two entries: the worse one counts."""
    results: Results = {}
    for case in ElementTree.parse(path).iter("testcase"):
        name = f"{case.get('classname', '').rpartition('.')[2]}::{case.get('name')}"
        wrong = next((child for child in case if child.tag in ("failure", "error")), None)
        if wrong is not None:
            results[name] = Result(FAILED, _one_line(wrong.get("message") or wrong.text or ""))
        elif case.find("skipped") is not None:
            results[name] = Result(SKIPPED)
        else:
            results.setdefault(name, Result(PASSED))
    return results


def of_mocha(path: Path) -> Results:
    """From mocha's reporter ``json``. A hook that fails stands there as a failure of its own."""
    written = json.loads(path.read_text())
    results = {test["fullTitle"]: Result(PASSED) for test in written["passes"]}
    results |= {test["fullTitle"]: Result(SKIPPED) for test in written["pending"]}
    failures = {
        test["fullTitle"]: Result(FAILED, _one_line(test["err"].get("message", ""))) for test in written["failures"]
    }
    return results | failures


def _one_line(text: str) -> str:
    """Beginning and end: what went wrong stands in one of them."""
    line, half = " ".join(text.split()), REASON_CHARACTERS_MAX // 2
    return line if len(line) <= REASON_CHARACTERS_MAX else f"{line[:half]} ... {line[-half:]}"

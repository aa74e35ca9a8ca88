"""What passes and what does not."""

from __future__ import annotations

from typing import Any

import pytest

from raftkv.lab.drill.verdict import hashes_in_words, is_passed, judge
from raftkv.lab.probe import KvHash
from tests.lab.drill.rounds import good_round


def test_a_good_round_passes() -> None:
    assert judge(good_round(), max_outage_s=0.05) == []


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"write_outage_s": 0.051}, "no write succeeded for 0.051 s; 0.05 s is the limit"),
        ({"read_outage_s": 0.2}, "no read succeeded for 0.200 s"),
        ({"write_outage_s": None}, "no write outage was measured"),
        ({"lost": ["#7 put k=v"]}, "1 acknowledged writes are lost, among them #7 put k=v"),
        ({"linearizable": "not linearizable"}, "the history is not linearizable"),
        ({"linearizable": "undecided"}, "the history is undecided"),
        ({"linearizable": ""}, "the history is not judged"),
        ({"hashes": {"n1": "1", "n2": "2"}}, "do not hold the same: n1 1, n2 2"),
        ({"hashes": {}}, "do not hold the same: no hashes"),
        ({"hashes": {"n1": "1", "n2": "cannot be reached"}}, "n2 cannot be reached"),
    ],
    ids=[
        "write outage",
        "read outage",
        "not measured",
        "lost",
        "violation",
        "undecided",
        "unjudged",
        "hashes",
        "none",
        "silent",
    ],
)
def test_each_thing_that_is_wrong_fails_the_round(changes: dict[str, Any], says: str) -> None:
    (problem,) = judge(good_round(**changes), max_outage_s=0.05)

    assert says in problem


def test_an_outage_counts_from_when_a_node_could_answer() -> None:
    found = good_round(write_outage_s=2.04, read_outage_s=2.03, not_before_s=2.0)

    assert judge(found, max_outage_s=0.05) == []


def test_a_drill_that_ended_early_did_not_pass() -> None:
    assert is_passed([good_round()], planned=1)
    assert not is_passed([good_round()], planned=2)
    assert not is_passed([good_round(problems=["n2 does not come back"])], planned=1)


def test_a_node_without_a_hash_is_told_apart() -> None:
    answers = {"n1": KvHash(value=0xB8966FD9, revision=7, compact_revision=0), "n2": "cannot be reached"}

    assert hashes_in_words(answers) == {"n1": "b8966fd9", "n2": "cannot be reached"}

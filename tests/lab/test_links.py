from __future__ import annotations

import pytest

from raftkv.lab.errors import LabError
from raftkv.lab.links import Mode, Rule, one_way_rules, parse_groups, partition_rules, rules_from_wire, rules_to_wire

NAMES = ["n1", "n2", "n3"]


@pytest.mark.parametrize(
    ("text", "groups"),
    [
        ("n1|n2,n3", [["n1"], ["n2", "n3"]]),
        (" n1 | n2 , n3 ", [["n1"], ["n2", "n3"]]),
        ("n2", [["n2"], ["n1", "n3"]]),
        ("n1|n3", [["n1"], ["n3"], ["n2"]]),
        ("n1|n2|n3", [["n1"], ["n2"], ["n3"]]),
    ],
)
def test_groups_are_read_and_the_unnamed_form_their_own(text: str, groups: list[list[str]]) -> None:
    assert parse_groups(text, NAMES) == groups


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("n1|n4", "no node 'n4' in this cluster; it has n1, n2, n3"),
        ("n1|n1,n2", "stands twice"),
        ("n1,n2,n3", "at least two groups"),
        ("", "at least two groups"),
        ("|", "at least two groups"),
    ],
)
def test_a_bad_partition_is_named(text: str, complaint: str) -> None:
    with pytest.raises(LabError, match=complaint):
        parse_groups(text, NAMES)


def test_a_partition_cuts_between_groups_only() -> None:
    rules = partition_rules([["n1"], ["n2", "n3"]])

    assert set(rules) == {("n1", "n2"), ("n2", "n1"), ("n1", "n3"), ("n3", "n1")}
    assert set(rules.values()) == {Rule(mode=Mode.CUT)}


def test_a_one_way_cut_has_one_way() -> None:
    assert set(one_way_rules(["n1"], ["n2", "n3"])) == {("n1", "n2"), ("n1", "n3")}


def test_rules_survive_the_wire_and_open_ones_are_left_out() -> None:
    rules = {("n1", "n2"): Rule(mode=Mode.RESET), ("n2", "n1"): Rule(delay_s=0.25), ("n1", "n3"): Rule()}

    assert rules_from_wire(rules_to_wire(rules)) == {
        ("n1", "n2"): Rule(mode=Mode.RESET),
        ("n2", "n1"): Rule(delay_s=0.25),
    }

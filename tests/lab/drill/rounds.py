"""Rounds made by hand, for tests of verdicts and reports."""

from __future__ import annotations

from typing import Any

from raftkv.lab.drill.measuring import Bin
from raftkv.lab.drill.target import Member, Target
from raftkv.lab.drill.verdict import Mark, Round

TARGET = Target(
    cluster_id=0xC1,
    members=tuple(Member(name=f"n{number}", member_id=number, endpoint=f"127.0.0.1:{number}") for number in (1, 2, 3)),
)


def good_round(**changes: Any) -> Round:
    found = Round(
        fault="crash",
        number=1,
        did="killed n1",
        leader_before="n1",
        leader_after="n2",
        terms=1,
        write_outage_s=0.04,
        read_outage_s=0.03,
        write_gap=(0.0, 0.04),
        leader_known_s=0.02,
        operations=100,
        linearizable="linearizable",
        hashes={"n1": "b8966fd9", "n2": "b8966fd9", "n3": "b8966fd9"},
        bins=[
            Bin(at_s=-0.05, reads=5, writes=4, failed=0, read_max_ms=2.0, write_max_ms=3.0),
            Bin(at_s=0.0, reads=0, writes=0, failed=1, read_max_ms=None, write_max_ms=None),
            Bin(at_s=0.05, reads=5, writes=4, failed=0, read_max_ms=2.0, write_max_ms=52.0),
        ],
        marks=[Mark(at_s=0.0, kind="fault", text="killed n1"), Mark(at_s=0.02, kind="leader", text="n2 leads term 3")],
    )
    for name, value in changes.items():
        assert hasattr(found, name), name
        setattr(found, name, value)
    return found

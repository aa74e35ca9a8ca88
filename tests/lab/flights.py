"""Flight records for tests: real ones, captured from three nodes while one thing was done to them, and ones written by hand.

A captured file holds the records of all nodes one after the other, each with its head.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from raftkv.lab.timeline import Bounds, Record, Timeline, merge, parse_record

CAPTURED = Path(__file__).parent / "captured_flights"


def captured_lines(name: str) -> list[list[bytes]]:
    """The lines of each node's record of one run."""
    records: list[list[bytes]] = []
    for line in (CAPTURED / f"{name}.jsonl").read_bytes().splitlines():
        if b'"kind":"record"' in line:
            records.append([])
        records[-1].append(line)
    return records


def captured(name: str, *, without: str = "") -> list[Record]:
    """The nodes' records of one run; `without` that of a node that cannot be asked."""
    records = [parse_record(lines, source=name) for lines in captured_lines(name)]
    return [record for record in records if record.node != without]


def timeline(name: str, *, without: str = "") -> Timeline:
    return merge(captured(name, without=without))


class Book:
    """One node's record, written by hand: `book.say(12.5, "leader", 3, leader="n1")`."""

    def __init__(self, node: str, *, clock_ahead_s: float = 0.0) -> None:
        self.node = node
        self.clock_ahead_s = clock_ahead_s
        self.lines: list[bytes] = [
            json.dumps({"kind": "record", "name": node, "member_id": f"{ord(node[-1]):x}", "cluster_id": "c"}).encode()
        ]

    def say(self, at: float, kind: str, term: int, **fields: Any) -> Book:
        """An event at a true time, stamped by this node's clock."""
        event = {"seq": len(self.lines), "run": 1, "at": at + self.clock_ahead_s, "kind": kind, "term": term, **fields}
        self.lines.append(json.dumps(event).encode())
        return self

    def record(self, reader: Bounds | None = None) -> Record:
        return parse_record(self.lines, source=self.node, reader=reader)


def elect(at: float, term: int, winner: Book, *voters: Book, cause: str = "silence", **evidence: Any) -> float:
    """A whole election, on everybody's record; messages take a millisecond. When it led."""
    winner.say(at, "campaign", term - 1, for_term=term, pre_vote=True, cause=cause, **evidence)
    for voter in voters:
        voter.say(at + 0.001, "answer", term - 1, candidate=winner.node, for_term=term, pre_vote=True, granted=True)
    for voter in voters:
        winner.say(at + 0.002, "counted", term - 1, voter=voter.node, for_term=term, pre_vote=True, granted=True)
    winner.say(at + 0.003, "campaign", term, for_term=term, pre_vote=False, cause="pre-votes")
    for voter in voters:
        voter.say(at + 0.004, "answer", term, candidate=winner.node, for_term=term, pre_vote=False, granted=True)
    for voter in voters:
        winner.say(at + 0.005, "counted", term, voter=voter.node, for_term=term, pre_vote=False, granted=True)
    winner.say(at + 0.006, "leader", term, leader=winner.node, role="leader")
    for voter in voters:
        voter.say(at + 0.007, "leader", term, leader=winner.node, role="follower")
    return at + 0.006

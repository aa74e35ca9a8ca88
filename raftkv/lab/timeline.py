"""Flight records of several nodes, made one timeline: read, clocks compared, put in an order that contradicts no message.

Each node stamps its events with its own wall clock. Two clocks may disagree by more than a failover takes, so the order is
not left to them. What is known for certain: a node's own events are in its own order; a vote is given after it was asked for
and counted after it was given; who leads is known to others after it leads.

From the same exchanges (asked on A at a1, answered on B at b, counted on A at a2) follow bounds on how far B's clock was ahead
of A's: between b - a2 and b - a1. A reader that asked the nodes adds its own: each clock at the moment of the answer. Where
zero is within the bounds, nothing is corrected: the clocks may agree. Where it is not, B's times are moved by the middle of
the bounds of the exchange nearest in time, and the timeline says so. An order by messages that still contradicts the times
wins, and such an event is marked.

What may not live here: what the events mean (`incidents`), words (`narration`), sockets and files.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from itertools import pairwise
from typing import Any

CONTRADICTION_S = 0.0005
"""An event that stands behind one which is later by more than this, is marked."""
NEIGHBOURS = 8
READER = ""
"""Stands for the clock of whoever asked the nodes."""


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a node's record. `at` is on the node's own clock; the rest as `raftkv.node.flight_record` says."""

    node: str
    run: int
    seq: int
    at: float
    kind: str
    term: int
    fields: Mapping[str, Any]

    def get(self, name: str, default: Any = None) -> Any:
        return self.fields.get(name, default)

    @property
    def key(self) -> tuple[str, int, int]:
        return (self.node, self.run, self.seq)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How far one clock was ahead of another at a moment: at least `low`, at most `high` seconds."""

    at: float
    low: float
    high: float

    @property
    def middle(self) -> float:
        """The correction to make: none where the clocks may agree."""
        return 0.0 if self.low <= 0.0 <= self.high else (self.low + self.high) / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What one node remembers.

    Attributes:
        node: its name.
        source: where it was read: an endpoint, or a directory.
        events: in the node's own order.
        unreadable_count: lines that a crash has cut or a disk has spoilt.
        missing_count: events that should be between those that are there.
        is_cut: there are older ones that were not given out.
        reader: its clock against the reader's; None when it was read from a disk.
    """

    node: str
    source: str
    events: tuple[Event, ...]
    member_id: str = ""
    cluster_id: str = ""
    unreadable_count: int = 0
    missing_count: int = 0
    is_cut: bool = False
    reader: Bounds | None = None


@dataclass(frozen=True, slots=True)
class Placed:
    """An event at its place in the timeline; `at` is corrected, `contradicts` says that clocks would place it elsewhere."""

    event: Event
    at: float
    contradicts: bool = False

    @property
    def node(self) -> str:
        return self.event.node

    @property
    def kind(self) -> str:
        return self.event.kind

    @property
    def term(self) -> int:
        return self.event.term

    def get(self, name: str, default: Any = None) -> Any:
        return self.event.fields.get(name, default)


@dataclass(frozen=True, slots=True)
class Timeline:
    """All events in order, and by how many seconds each node's clock is ahead, where clocks disagree."""

    events: tuple[Placed, ...]
    nodes: tuple[str, ...]
    ahead_s: Mapping[str, float] = field(default_factory=dict)
    reference: str = ""
    """The node whose clock the times are on, where clocks disagree."""


def parse_record(
    lines: Iterable[bytes], *, source: str, node: str = "", is_cut: bool = False, reader: Bounds | None = None
) -> Record:
    """Read a record's lines. Whatever is no whole event is counted and skipped; heads of segments say whose record it is."""
    events: dict[tuple[int, int], Event] = {}
    unreadable = 0
    head: dict[str, Any] = {}
    for line in lines:
        fields = _parse(line)
        if fields is None:
            unreadable += bool(line.strip(b"\0 "))
        elif fields.get("kind") == "record":
            head = fields
        else:
            run, seq = fields.pop("run"), fields.pop("seq")
            at, kind, term = fields.pop("at"), fields.pop("kind"), fields.pop("term")
            events[run, seq] = Event("", run, seq, at, kind, term, fields)
    name = node or str(head.get("name") or source)
    ordered = tuple(replace(events[key], node=name) for key in sorted(events))
    numbers = [event.seq for event in ordered]
    return Record(
        node=name,
        source=source,
        events=ordered,
        member_id=str(head.get("member_id", "")),
        cluster_id=str(head.get("cluster_id", "")),
        unreadable_count=unreadable,
        missing_count=sum(max(0, after - before - 1) for before, after in pairwise(numbers)),
        is_cut=is_cut,
        reader=reader,
    )


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        fields = json.loads(line)
    except ValueError:
        return None
    if not isinstance(fields, dict):
        return None
    if fields.get("kind") == "record":
        return fields
    numbers = all(isinstance(fields.get(name), int) for name in ("run", "seq", "term"))
    whole = numbers and isinstance(fields.get("at"), int | float) and isinstance(fields.get("kind"), str)
    return fields if whole else None


def merge(records: Sequence[Record]) -> Timeline:
    """One timeline of all records, which must be of different nodes."""
    records = _with_names(records)
    bounds = _clock_bounds(records)
    reference, corrections = _corrections(records, bounds)
    placed = {
        event.key: Placed(event, event.at - _correction(corrections.get(record.node, ()), event.at))
        for record in records
        for event in record.events
    }
    ahead = {}
    for node, samples in corrections.items():
        newest = max(samples, key=lambda sample: sample.at)
        if newest.middle:
            ahead[node] = newest.middle
    return Timeline(
        _ordered(records, placed), tuple(sorted(r.node for r in records)), ahead, reference if ahead else ""
    )


def _with_names(records: Sequence[Record]) -> list[Record]:
    """A member that was not known by its name yet stands in records by its id."""
    names = {record.member_id: record.node for record in records if record.member_id}

    def named(value: Any) -> Any:
        if isinstance(value, str):
            return names.get(value, value)
        if isinstance(value, list):
            return [named(part) for part in value]
        if isinstance(value, dict):
            return {names.get(key, key): part for key, part in value.items()}
        return value

    return [
        replace(
            record,
            events=tuple(
                replace(event, fields={key: named(value) for key, value in event.fields.items()})
                for event in record.events
            ),
        )
        for record in records
    ]


# --- what happened before what ----------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Exchange:
    """One question for a (pre-)vote between two nodes, as far as the records have it."""

    asked: list[Event] = field(default_factory=list)
    answered: list[Event] = field(default_factory=list)
    counted: list[Event] = field(default_factory=list)


def _exchanges(records: Sequence[Record]) -> dict[tuple[str, str], list[_Exchange]]:
    """By candidate and voter."""
    asked: dict[tuple[str, int, bool], list[Event]] = defaultdict(list)
    found: dict[tuple[str, str, int, bool], _Exchange] = defaultdict(_Exchange)
    for event in (event for record in records for event in record.events):
        poll = (event.get("for_term"), bool(event.get("pre_vote")))
        match event.kind:
            case "campaign":
                asked[event.node, *poll].append(event)
            case "answer":
                found[event.get("candidate"), event.node, *poll].answered.append(event)
            case "counted":
                found[event.node, event.get("voter"), *poll].counted.append(event)
    pairs: dict[tuple[str, str], list[_Exchange]] = defaultdict(list)
    for (candidate, voter, term, is_pre_vote), exchange in found.items():
        exchange.asked = asked.get((candidate, term, is_pre_vote), [])
        pairs[candidate, voter].append(exchange)
    return pairs


def _edges(records: Sequence[Record]) -> dict[tuple[str, int, int], list[tuple[str, int, int]]]:
    """From each event to those that cannot have been before it, beyond each node's own order."""
    after: dict[tuple[str, int, int], list[tuple[str, int, int]]] = defaultdict(list)
    for exchanges in _exchanges(records).values():
        for exchange in exchanges:
            if exchange.asked and exchange.answered:
                after[exchange.asked[0].key].append(exchange.answered[0].key)
            if exchange.answered and exchange.counted:
                after[exchange.answered[0].key].append(exchange.counted[0].key)
    leads: dict[int, Event] = {}
    events = [event for record in records for event in record.events]
    for event in events:
        if event.kind == "leader" and event.get("role") == "leader":
            leads.setdefault(event.term, event)
    for event in events:
        first = leads.get(event.term)
        if event.kind == "leader" and first is not None and event.node != first.node:
            after[first.key].append(event.key)
    return after


def _ordered(records: Sequence[Record], placed: Mapping[tuple[str, int, int], Placed]) -> tuple[Placed, ...]:
    """By time, except where a message says otherwise."""
    after = _edges(records)
    for record in records:
        for event, following in pairwise(record.events):
            after[event.key].append(following.key)
    waiting = dict.fromkeys(placed, 0)
    for targets in after.values():
        for target in targets:
            waiting[target] += 1
    heap: list[tuple[float, tuple[str, int, int]]] = []
    for key, count in waiting.items():
        if count == 0:
            heappush(heap, (placed[key].at, key))
    ordered: list[Placed] = []
    newest = float("-inf")
    while waiting:
        if not heap:  # Records that contradict themselves (a directory was put back): by time, then.
            key = min(waiting, key=lambda key: (placed[key].at, key))
            heappush(heap, (placed[key].at, key))
        _, key = heappop(heap)
        if key not in waiting:
            continue
        del waiting[key]
        one = placed[key]
        ordered.append(replace(one, contradicts=True) if one.at < newest - CONTRADICTION_S else one)
        newest = max(newest, one.at)
        for target in after.get(key, ()):
            if target in waiting:
                waiting[target] -= 1
                if waiting[target] == 0:
                    heappush(heap, (placed[target].at, target))
    return tuple(ordered)


# --- clocks -----------------------------------------------------------------------------------------------------------


def _clock_bounds(records: Sequence[Record]) -> dict[tuple[str, str], list[Bounds]]:
    """(A, B): how far B's clock was ahead of A's, at moments on B's clock."""
    bounds: dict[tuple[str, str], list[Bounds]] = defaultdict(list)
    for (candidate, voter), exchanges in _exchanges(records).items():
        for exchange in exchanges:
            if [len(exchange.asked), len(exchange.answered), len(exchange.counted)] != [1, 1, 1]:
                continue  # Asked more than once: which answer is to which question is not known.
            asked, answered, counted = exchange.asked[0].at, exchange.answered[0].at, exchange.counted[0].at
            if asked <= counted:  # Else the clock was set in between.
                bounds[candidate, voter].append(Bounds(at=answered, low=answered - counted, high=answered - asked))
                bounds[voter, candidate].append(Bounds(at=asked, low=asked - answered, high=counted - answered))
    for record in records:
        if record.reader is not None:
            low, high = record.reader.low, record.reader.high
            bounds[READER, record.node].append(record.reader)
            bounds[record.node, READER].append(Bounds(at=record.reader.at, low=-high, high=-low))
    return {pair: sorted(samples, key=_at) for pair, samples in bounds.items()}


def _correction(samples: Sequence[Bounds], at: float) -> float:
    return _nearest(samples, at).middle if samples else 0.0


def _corrections(
    records: Sequence[Record], bounds: Mapping[tuple[str, str], Sequence[Bounds]]
) -> tuple[str, dict[str, list[Bounds]]]:
    """For each node, how far it is ahead of a reference: the node that agrees with most others."""
    nodes = sorted(record.node for record in records)
    if not nodes:
        return "", {}
    against = {
        node: {other: _against(node, other, bounds, nodes) for other in nodes if other != node} for node in nodes
    }
    disagreement = {
        node: sum(any(sample.middle for sample in samples) for samples in others.values())
        for node, others in against.items()
    }
    reference = min(nodes, key=lambda node: (disagreement[node], node))
    return reference, {other: samples for other, samples in against[reference].items() if samples}


def _against(
    reference: str, node: str, bounds: Mapping[tuple[str, str], Sequence[Bounds]], nodes: Sequence[str]
) -> list[Bounds]:
    """Bounds of `node` ahead of `reference`: from exchanges between the two, and from those that a third one had with both."""
    samples = list(bounds.get((reference, node), ()))
    for third in (READER, *nodes):
        near = bounds.get((reference, third), ())
        for one in bounds.get((third, node), ()) if near else ():
            other = _nearest(near, one.at)
            samples.append(Bounds(at=one.at, low=one.low + other.low, high=one.high + other.high))
    return sorted(samples, key=_at)


def _nearest(samples: Sequence[Bounds], at: float) -> Bounds:
    """Of some in order of time: the nearest to a moment, the surest among those that are about equally near."""
    position = bisect_left(samples, at, key=_at)
    around = samples[max(0, position - NEIGHBOURS) : position + NEIGHBOURS]
    return min(around, key=lambda sample: (round(abs(sample.at - at), 1), sample.high - sample.low))


def _at(sample: Bounds) -> float:
    return sample.at

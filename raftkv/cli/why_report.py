"""What `raftkv why` prints: failovers and members that were away, as sentences, JSON, a table or fields.

What may not live here: where records come from (`why`), what they mean (`raftkv.lab.incidents`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import click

from raftkv.cli.exits import Exit, Failure
from raftkv.cli.goformat import quote
from raftkv.cli.printers.table import draw
from raftkv.lab import narration
from raftkv.lab.explanation import Failover
from raftkv.lab.incidents import Absence
from raftkv.lab.timeline import Placed, Record, Timeline

HEADINGS = ("BEGAN", "CAUSE", "FROM", "TO", "TERM", "OUTAGE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything there is to print.

    Attributes:
        records: what was read.
        silent: whose record is missing: name or address, and why.
        failovers, absences: those that were asked for, oldest first.
        left_out: how many earlier failovers there were.
        events: the whole timeline, if it was asked for.
    """

    timeline: Timeline
    records: Sequence[Record]
    silent: Mapping[str, str]
    failovers: Sequence[Failover]
    absences: Sequence[Absence]
    left_out: int = 0
    events: Sequence[Placed] | None = None


def printer(write_out: str) -> Callable[[Report], None]:
    """The function that prints a report in a format.

    Raises:
        Failure: there is no such format of it.
    """
    formats = {"simple": _simple, "json": _json, "table": _table, "fields": _fields}
    if write_out not in formats:
        raise Failure(f"{write_out} not supported as output format", Exit.NOT_SUPPORTED)
    lines = formats[write_out]

    def show(report: Report) -> None:
        for line in lines(report):
            click.echo(line)

    return show


# --- sentences --------------------------------------------------------------------------------------------------------


def _simple(report: Report) -> Iterator[str]:
    yield from _preamble(report)
    if report.events is not None:
        yield from _every_event(report)
        return
    dates = _Dates()
    if not report.failovers and not report.absences:
        yield "no failover in these records"
    incidents: list[Failover | Absence] = [*report.failovers, *report.absences]
    for incident in sorted(incidents, key=lambda one: one.at if isinstance(one, Absence) else one.began_at):
        if isinstance(incident, Absence):
            yield from dates.lines(incident.at)
            yield f"{_time(incident.at)}  {narration.absence(incident)}"
            continue
        yield from dates.lines(incident.began_at)
        yield f"{_time(incident.began_at)}  {click.style(narration.headline(incident), bold=True)}"
        for line in narration.story(incident):
            yield f"    {_time(line.at)}{'~' if line.contradicts else ' '} {line.text}"
    if report.left_out:
        left_out = narration.counted(report.left_out, "earlier failover is", "earlier failovers are")
        yield f"({left_out} left out: --last {report.left_out + len(report.failovers)} shows all)"


def _preamble(report: Report) -> Iterator[str]:
    """Whose word this is, and how far it can be trusted."""
    yield f"records of {narration.names(record.node for record in report.records)}"
    for node, why in report.silent.items():
        yield click.style(f"no record of {node}: {why}", fg="yellow")
    for record in report.records:
        gaps = []
        if record.is_cut:
            gaps.append("older events are left out")
        if record.missing_count:
            gaps.append(f"{narration.counted(record.missing_count, 'event is', 'events are')} missing")
        if record.unreadable_count:
            gaps.append(f"{narration.counted(record.unreadable_count, 'line', 'lines')} cannot be read")
        if gaps:
            yield click.style(f"the record of {record.node} is not whole: {', '.join(gaps)}", fg="yellow")
    for node, ahead_s in report.timeline.ahead_s.items():
        which = "ahead of" if ahead_s > 0 else "behind"
        yield click.style(
            f"clocks disagree: {node}'s is {narration.duration(abs(ahead_s))} {which} {report.timeline.reference}'s; "
            f"all times are on {report.timeline.reference}'s",
            fg="yellow",
        )
    yield ""


def _every_event(report: Report) -> Iterator[str]:
    dates = _Dates()
    headlines = [(failover.began_at, narration.headline(failover)) for failover in report.failovers]
    for event in report.events or ():
        while headlines and headlines[0][0] <= event.at:
            yield from dates.lines(headlines[0][0])
            yield click.style(f"-- {headlines.pop(0)[1]}", bold=True)
        yield from dates.lines(event.at)
        yield f"{_time(event.at)}{'~' if event.contradicts else ' '} {narration.sentence(event)}"


class _Dates:
    """A line for each new day: the others show the time alone."""

    def __init__(self) -> None:
        self._day = ""

    def lines(self, at: float) -> Iterator[str]:
        day = datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d (%Z)")
        if day != self._day:
            self._day = day
            yield day


def _time(at: float) -> str:
    return datetime.fromtimestamp(round(at, 3)).astimezone().strftime("%H:%M:%S.%f")[:-3]


# --- for programs -----------------------------------------------------------------------------------------------------


def _json(report: Report) -> Iterator[str]:
    answer: dict[str, Any] = {
        "records": [
            {
                "node": record.node,
                "source": record.source,
                "events": len(record.events),
                "from": record.events[0].at if record.events else None,
                "older_left_out": record.is_cut,
                "missing": record.missing_count,
                "unreadable": record.unreadable_count,
                "clock_ahead_s": report.timeline.ahead_s.get(record.node, 0.0),
            }
            for record in report.records
        ],
        "silent": [{"node": node, "reason": why} for node, why in report.silent.items()],
        "failovers": [_failover(failover) for failover in report.failovers],
        "absences": [
            {
                "node": one.node,
                "how": one.how,
                "detail": one.detail,
                "began_at": one.began_at,
                "back_at": one.back_at,
                "summary": narration.absence(one),
            }
            for one in report.absences
        ],
    }
    if report.events is not None:
        answer["events"] = [_event(event) for event in report.events]
    yield json.dumps(answer)


def _failover(failover: Failover) -> dict[str, Any]:
    return {
        "cause": failover.cause.value,
        "detail": failover.detail,
        "previous": failover.previous or None,
        "leader": failover.leader or None,
        "term": failover.term,
        "began_at": failover.began_at,
        "led_at": failover.led_at,
        "outage_ms": _ms(failover.outage_s),
        "known_to_all_after_ms": _ms(failover.known_s),
        "stood_still_ms": _ms(failover.stood_still_s),
        "terms": failover.terms,
        "summary": narration.headline(failover),
        "story": [{"at": line.at, "text": line.text} for line in narration.story(failover)],
        "events": [_event(event) for event in failover.events],
    }


def _event(event: Placed) -> dict[str, Any]:
    one = event.event
    return {
        "at": event.at,
        "node": one.node,
        "own_clock": one.at,
        "run": one.run,
        "seq": one.seq,
        "term": one.term,
        "kind": one.kind,
        **one.fields,
    }


def _table(report: Report) -> Iterator[str]:
    yield draw(HEADINGS, [_row(failover) for failover in report.failovers]).decode().rstrip("\n")


def _row(failover: Failover) -> tuple[str, ...]:
    began = datetime.fromtimestamp(failover.began_at).astimezone().strftime("%Y-%m-%d ") + _time(failover.began_at)
    outage = "" if failover.outage_s is None else narration.duration(failover.outage_s)
    cause = failover.cause.value
    return (began, cause, failover.previous, failover.leader or "nobody", str(failover.term), outage)


def _fields(report: Report) -> Iterator[str]:
    for failover in report.failovers:
        named: dict[str, str | float | int | None] = {
            "BeganAt": failover.began_at,
            "Cause": failover.cause.value,
            "Previous": failover.previous,
            "Leader": failover.leader,
            "Term": failover.term,
            "OutageMs": _ms(failover.outage_s),
            "Summary": narration.headline(failover),
        }
        for name, value in named.items():
            text = quote(value.encode()).decode() if isinstance(value, str) else value
            if value is not None:
                yield f'"{name}" : {text}'
        yield ""


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)

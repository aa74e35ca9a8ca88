"""`raftkv why`: the nodes' flight records, merged and told.

Every endpoint is asked, then every member that the answers name and that has not answered yet; who does not answer is named,
and the rest is told without it. With --data-dir records are read where they lie, also of nodes that are down for good.

What may not live here: what the records mean (`raftkv.lab`), how it is printed (`why_report`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from raftkv.cli.exits import Failure, bad_arguments
from raftkv.cli.goformat import parse_duration
from raftkv.cli.lazy import CliCommand
from raftkv.cli.options import ENVIRONMENT_PREFIXES, Integer, Settings, flag, given, settings_of
from raftkv.errors import RequestError, Unimplemented

LAST_DEFAULT = 5
ANSWER_WAIT_S = 2.0
"""A node that hangs must not hold up the story of its own end."""
DIAL_WAIT_S = 0.5
PARALLEL_MAX = 16

EXAMPLES = """
raftkv why                                      the last failovers, each with its cause and how it went
raftkv why --since 10m                          those of the last ten minutes
raftkv why --last 1 --all                       every event since the last one began
raftkv why -w table
raftkv why --data-dir n1.raftkv --data-dir n2.raftkv      from the disks, the nodes may be down
"""


class Since(click.ParamType):  # type: ignore[type-arg]  # Not generic in older clicks.
    """Seconds since 1970, written as a duration (before now), a time of day, or a date and time."""

    name = "since"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        seconds = value if isinstance(value, float) else _moment(value)
        if seconds is None:
            self.fail(f'"{value}" is none of 10m, 14:02, 14:02:03, 2026-01-31, 2026-01-31T14:02:03', param, ctx)
        return seconds


def _moment(text: str) -> float | None:
    with suppress(ValueError):
        return time.time() - parse_duration(text)
    today = datetime.now().astimezone().date()
    for written in (text, f"{today.isoformat()}T{text}"):
        with suppress(ValueError):
            return datetime.fromisoformat(written).astimezone().timestamp()
    return None


@dataclass(slots=True)
class Gathered:
    """What was read, by member; and who did not answer."""

    records: dict[str, Any] = field(default_factory=dict)
    """Records (`raftkv.lab.timeline.Record`) by member id."""
    members: dict[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)
    """Name and client addresses of everybody, by member id, as those tell who answered."""
    refusals: dict[str, RequestError] = field(default_factory=dict)
    """By endpoint."""


@click.command("why", cls=CliCommand, examples=EXAMPLES)
@click.argument("arguments", nargs=-1, metavar="")
@click.option("--since", type=Since(), metavar="TIME", help="Only what came after: 10m, 14:02, 2026-01-31T14:02:03.")
@click.option(
    "--last",
    type=Integer(minimum=1),
    metavar="N",
    help=f"Only the last failovers.  [default: {LAST_DEFAULT}; with --since: all]",
)
@flag("--all", "every_event", help="Every event, one line each.")
@click.option(
    "--data-dir",
    "data_dirs",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Read a node's record from its data directory; repeatable. No node is asked unless --endpoints is given.",
)
@flag("--json", "as_json", help="The same as -w json.")
@click.pass_context
def why(
    ctx: click.Context,
    arguments: tuple[str, ...],
    since: float | None,
    last: int | None,
    every_event: bool,
    data_dirs: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Tell why leadership changed: cause, evidence, votes, outage.

    Every node keeps a record of elections, failures and their evidence. This merges the records of all members into one
    timeline. It works while nodes are down: who does not answer is named.
    """
    settings = settings_of(ctx)
    if arguments:
        raise bad_arguments("why command does not accept argument")

    from raftkv.cli.why_report import Report, printer
    from raftkv.lab.incidents import absences, failovers
    from raftkv.lab.timeline import merge

    show = printer("json" if as_json else settings.write_out)
    gathered = Gathered()
    for path in data_dirs:
        _read(path, gathered)
    if not data_dirs or _wants_endpoints(ctx):
        _ask_everybody(settings, gathered)
    records = _checked(gathered)
    timeline = merge(records)
    found = failovers(timeline)
    away = absences(timeline, found)
    chosen = [one for one in found if since is None or (one.led_at or time.time()) >= since]
    kept = chosen[-(last or len(chosen) or 1) :] if since is not None or last else chosen[-LAST_DEFAULT:]
    begin = since if since is not None else 0.0
    if len(kept) < len(chosen):
        begin = max(begin, kept[0].began_at)
    show(
        Report(
            timeline=timeline,
            records=records,
            silent=_silent(gathered),
            failovers=kept,
            absences=[one for one in away if (one.back_at or one.began_at) >= begin],
            left_out=len(chosen) - len(kept),
            events=[event for event in timeline.events if event.at >= begin] if every_event else None,
        )
    )


def _wants_endpoints(ctx: click.Context) -> bool:
    """Whether endpoints were named, by flag or in the environment."""
    return "endpoints" in given(ctx) or any(os.environ.get(f"{prefix}ENDPOINTS") for prefix in ENVIRONMENT_PREFIXES)


def _read(path: Path, gathered: Gathered) -> None:
    """A record on a disk.

    Raises:
        StorageError: there is none.
        Failure: another directory holds the same member's.
    """
    from raftkv.lab.timeline import parse_record
    from raftkv.storage.flight_file import read_lines

    record = parse_record(read_lines(path), source=str(path))
    member = record.member_id or str(path)
    if member in gathered.records:
        raise Failure(f"{gathered.records[member].source} and {path} both hold the record of {record.node}")
    gathered.records[member] = record


def _ask_everybody(settings: Settings, gathered: Gathered) -> None:
    """The endpoints, then those members that they name and that have not answered."""
    settings = replace(
        settings,
        command_timeout=min(settings.command_timeout, ANSWER_WAIT_S),
        dial_timeout=min(settings.dial_timeout, DIAL_WAIT_S),
    )
    asked = {endpoint.rpartition("://")[2] for endpoint in settings.endpoints}
    _ask(settings, settings.endpoints, gathered)
    others = [
        address
        for member, (_, addresses) in sorted(gathered.members.items())
        if member not in gathered.records
        for address in addresses
        if address not in asked
    ]
    _ask(settings, others, gathered)


def _ask(settings: Settings, endpoints: Sequence[str], gathered: Gathered) -> None:
    """Side by side; a live answer takes the place of what was read from a disk."""
    from raftkv.cli.rpc import Connection
    from raftkv.lab.timeline import Bounds, parse_record

    def ask(endpoint: str) -> tuple[Any, float, float] | RequestError:
        with Connection(settings, [endpoint]) as connection:
            try:
                connection.member_list()  # Opens the connection: the next call's time tells how clocks differ.
                sent = time.time()
                return connection.flight_record(), sent, time.time()
            except RequestError as error:
                return error

    with ThreadPoolExecutor(PARALLEL_MAX) as pool:
        outcomes = list(pool.map(ask, endpoints))
    for endpoint, outcome in zip(endpoints, outcomes, strict=True):
        if isinstance(outcome, RequestError):
            gathered.refusals[endpoint] = outcome
            continue
        answer, sent, received = outcome
        member = f"{answer.header.member_id:x}"
        bounds = Bounds(at=answer.clock, low=answer.clock - received, high=answer.clock - sent)
        record = parse_record(answer.lines, source=endpoint, node=answer.name, is_cut=answer.is_cut, reader=bounds)
        gathered.records[member] = replace(record, member_id=member, cluster_id=f"{answer.header.cluster_id:x}")
        for one in answer.members:
            addresses = tuple(url.rpartition("://")[2] for url in one.clientURLs)
            gathered.members[f"{one.ID:x}"] = (one.name or f"{one.ID:x}", addresses)


def _checked(gathered: Gathered) -> list[Any]:
    """The records, if there are any and they are of one cluster.

    Raises:
        Failure: says which nodes did not answer and why, or which clusters were mixed up.
    """
    records = sorted(gathered.records.values(), key=lambda record: record.node)
    if not records:
        foreign = [at for at, error in gathered.refusals.items() if isinstance(error, Unimplemented)]
        if foreign:
            raise Failure(f"{', '.join(foreign)}: not a raftkv server, or an old one: it keeps no flight record")
        raise Failure("no node answers: " + "; ".join(f"{at}: {_text(e)}" for at, e in gathered.refusals.items()))
    clusters = {record.cluster_id: record.node for record in records if record.cluster_id}
    if len(clusters) > 1:
        told = ", ".join(f"{node} is of cluster {cluster}" for cluster, node in clusters.items())
        raise Failure(f"these nodes are of different clusters: {told}")
    return records


def _silent(gathered: Gathered) -> dict[str, str]:
    """Members, and endpoints that belong to no known member, without a record."""
    silent: dict[str, str] = {}
    told: set[str] = set()
    for member, (name, addresses) in sorted(gathered.members.items()):
        told.update(addresses)
        if member not in gathered.records:
            reasons = [f"{at}: {_text(gathered.refusals[at])}" for at in addresses if at in gathered.refusals]
            silent[name] = "; ".join(reasons) or "its address is not known"
    for endpoint, error in gathered.refusals.items():
        if endpoint.rpartition("://")[2] not in told:
            silent[endpoint] = _text(error)
    return silent


def _text(error: RequestError) -> str:
    if isinstance(error, Unimplemented):
        return "it keeps no flight record"
    text = error.message
    return text.partition(": ")[2] if text.startswith("cannot connect to ") else text

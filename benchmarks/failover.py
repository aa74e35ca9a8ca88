"""How long clients of three nodes go without an acknowledged write when the leader fails, by fault; raftkv beside etcd.

    python -m benchmarks.failover [--against etcd] [--fault kill --fault sigstop …] [--rounds 20] [--load idle]

A writer with one put in flight, 200 ms for each, tries the endpoints in turn, the leader's first: the same plain etcd client and
the same faults for both systems, round by round in one run. The outage of a round is the longest time between two acknowledgements
while the fault lasts. Each round also looks for every acknowledged put, and for elections that healing causes.

The load generator, three nodes and the disk share this machine: figures compare within one run only.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from typing import Any

import click
import uvloop

from benchmarks import measure
from benchmarks.failover_client import EtcdClient, Writer
from benchmarks.failover_faults import FAULTS, Fault
from benchmarks.failover_load import BackgroundLoad, full_rate
from benchmarks.failover_plot import plot
from benchmarks.failover_systems import System
from benchmarks.systems import against_option, chosen, described, json_option, note, preamble

ACKNOWLEDGED_BEFORE = 50
WARM_S = 0.5
RESUMED = 20
RESUME_WAIT_S = 15.0
SETTLE_S = 1.0
POLL_S = 0.02


@dataclass(frozen=True, kw_only=True)
class Round:
    """One fault, as clients saw it.

    Attributes:
        outage_ms: the longest time between two acknowledgements while the fault lasted.
        outage_heal_ms: the same from healing to the end.
        terms: by how much the highest term had grown at the end.
        elections_healing: whether the term grew after the fault was made good.
        lost: acknowledged puts that are not there.
        errors: failed puts by what the client was told.
        resumed: whether writes went on before the fault was made good.
    """

    system: str
    load: str
    fault: str
    outage_ms: float
    outage_heal_ms: float
    terms: int
    elections_healing: bool
    lost: int
    acknowledged: int
    errors: dict[str, int]
    resumed: bool


async def play(system: System, load: str, name: str, number: int) -> Round:
    """One round on a quiet cluster."""
    fault = FAULTS[name]
    leader = await asyncio.to_thread(system.wait_until_quiet)
    prefix = f"failover/{name}/{number}/".encode()
    client = EtcdClient(system.endpoints(first=leader))
    await client.connect()
    writer = Writer(client, prefix, value_bytes=fault.value_bytes)
    writing = asyncio.create_task(writer.run())
    try:
        await _until(lambda: len(writer.acknowledged_at) >= ACKNOWLEDGED_BEFORE, writing)
        await asyncio.sleep(WARM_S)
        term = await asyncio.to_thread(system.term)
        began, healed, resumed, at_heal = await _break_and_heal(system, fault, leader, writer)
        await asyncio.to_thread(system.wait_until_quiet)
        await asyncio.sleep(SETTLE_S)
        ended = time.monotonic()
        at_end = await asyncio.to_thread(_leader_and_term, system)
    finally:
        writer.stop()
        await writing
    there = await client.keys(prefix)
    await client.delete(prefix)
    await client.compact()
    await client.close()
    return Round(
        system=system.name,
        load=load,
        fault=name,
        outage_ms=round(writer.longest_gap_s(began, healed) * 1000, 1),
        outage_heal_ms=round(writer.longest_gap_s(healed, ended) * 1000, 1),
        terms=at_end[1] - term,
        elections_healing=at_end[1] > at_heal[1] > 0,
        lost=len(writer.acknowledged - there),
        acknowledged=len(writer.acknowledged),
        errors=dict(writer.errors),
        resumed=resumed,
    )


async def _break_and_heal(
    system: System, fault: Fault, leader: str, writer: Writer
) -> tuple[float, float, bool, tuple[str | None, int]]:
    """When the fault was made and made good, whether writes went on between, and who led in which term at the end of it."""
    began = time.monotonic()
    heal = await asyncio.to_thread(fault.make, system, leader)
    try:
        await asyncio.sleep(max(0.0, began + fault.hold_s - time.monotonic()))
        deadline = began + RESUME_WAIT_S
        await _resumed(writer, until=deadline)
        at_heal = await asyncio.to_thread(_leader_and_term, system)
        resumed = writer.acknowledged_since(time.monotonic() - 0.5) > 0
    finally:
        healed = time.monotonic()
        await asyncio.to_thread(heal)
    return began, healed, resumed, at_heal


async def _resumed(writer: Writer, *, until: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(max(0.0, until - time.monotonic())):
            while writer.acknowledged_since(time.monotonic() - 0.5) < RESUMED:  # noqa: ASYNC110 - what passes is time
                await asyncio.sleep(POLL_S)


def _leader_and_term(system: System) -> tuple[str | None, int]:
    """Who leads in the highest term that has a leader, and that term."""
    found = measure.leadership(system.cluster)
    return found.leader, found.term


async def _until(condition: Any, work: asyncio.Task[None]) -> None:
    async with asyncio.timeout(RESUME_WAIT_S):
        while not condition():
            if work.done():
                work.result()
            await asyncio.sleep(POLL_S)


def measure_all(systems: Sequence[System], loads: Sequence[str], faults: Sequence[str], rounds: int) -> list[Round]:
    """Every fault, rounds times, on each system in turn, so that what disturbs the machine disturbs all alike."""
    results: list[Round] = []
    for load in loads:
        rates = {system.name: _rate(system, load) for system in systems}
        for name in faults:
            for number in range(rounds):
                for system in systems:
                    beside = _load(system, rates[system.name])
                    try:
                        results.append(uvloop.run(play(system, load, name, number)))
                    finally:
                        if beside is not None:
                            beside.stop()
                    note(f"{number + 1:>3}/{rounds} {_in_one_line(results[-1])}")
    return results


def _in_one_line(found: Round) -> str:
    return (
        f"{found.load:>4} {found.fault:<12} {found.system:<7} {found.outage_ms:>7.0f} ms   healing {found.outage_heal_ms:>5.0f} ms"
        f"   terms +{found.terms}   lost {found.lost}   errors {sum(found.errors.values())}"
        f"{'' if found.resumed else '   writes did not go on'}"
    )


def _rate(system: System, load: str) -> float:
    """Puts a second beside the writer."""
    if load == "idle":
        return 0.0
    full = full_rate(system.endpoints(first=system.wait_until_quiet()))
    note(f"{system.name}: full load is {full:,.0f} puts/s; half of it from now on")
    return full / 2


def _load(system: System, rate: float) -> BackgroundLoad | None:
    return BackgroundLoad(system.endpoints(first=system.wait_until_quiet()), rate) if rate else None


def summary(rounds: Sequence[Round]) -> list[dict[str, Any]]:
    """One row for each system, load and fault: medians and maxima."""
    rows = []
    for key in dict.fromkeys((r.load, r.fault, r.system) for r in rounds):
        mine = [r for r in rounds if (r.load, r.fault, r.system) == key]
        outages = [r.outage_ms for r in mine]
        rows.append(
            dict(zip(("load", "fault", "system"), key, strict=True))
            | {
                "rounds": len(mine),
                "outage_median_ms": round(statistics.median(outages), 1),
                "outage_max_ms": max(outages),
                "outage_heal_max_ms": max(r.outage_heal_ms for r in mine),
                "terms_max": max(r.terms for r in mine),
                "healing_elections": sum(r.elections_healing for r in mine),
                "failed_puts": sum(sum(r.errors.values()) for r in mine),
                "lost": sum(r.lost for r in mine),
                "stuck": sum(not r.resumed for r in mine),
            }
        )
    return rows


def report(result: dict[str, Any]) -> str:
    """The result for people."""
    lines = [
        described(result),
        "the longest time without an acknowledged write, ms; one put in flight, 200 ms each, endpoints in turn",
        "",
        _table_line(
            ("load", "fault on the leader", "system", "rounds", "median", "max", "healing", "terms", "failed", "lost")
        ),
    ]
    for row in result["summary"]:
        stuck = f"   {row['stuck']} without a write until healed" if row["stuck"] else ""
        again = f"   {row['healing_elections']} with an election after healing" if row["healing_elections"] else ""
        cells = (
            row["load"],
            FAULTS[row["fault"]].title,
            row["system"],
            row["rounds"],
            f"{row['outage_median_ms']:.0f}",
            f"{row['outage_max_ms']:.0f}",
            f"{row['outage_heal_max_ms']:.0f}",
            f"+{row['terms_max']}",
            row["failed_puts"],
            row["lost"],
        )
        lines.append(_table_line(cells) + stuck + again)
    return "\n".join(lines)


def _table_line(cells: Sequence[object]) -> str:
    load, fault, system, *figures = cells
    return f"{load:<5}{fault:<46}{system:<8}" + "".join(f"{figure:>8}" for figure in figures)


def possible(faults: Sequence[str]) -> list[str]:
    """Leave out what this machine cannot do, and say so by name."""
    found = []
    for name in faults:
        missing = FAULTS[name].lacks()
        if missing is None:
            found.append(name)
        else:
            note(f"{name} is left out: no {missing}")
    return found


@click.command()
@against_option
@click.option(
    "--fault", "faults", multiple=True, type=click.Choice(list(FAULTS)), help="Repeatable.  [default: all of them]"
)
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Of each fault; 20 for figures.")
@click.option(
    "--load", "loads", multiple=True, type=click.Choice(["idle", "half"]), help="Repeatable.  [default: both]"
)
@json_option
def main(against: str | None, faults: tuple[str, ...], rounds: int, loads: tuple[str, ...], as_json: bool) -> None:
    """Measure the outage by fault.

    \b
    python -m benchmarks.failover --fault kill --fault sigstop --load idle
    python -m benchmarks.failover --against etcd --rounds 20
    """  # noqa: D301 - click reads the \b
    names_of_systems = chosen(against)
    names = possible(faults or list(FAULTS))
    result: dict[str, Any] = preamble(names_of_systems)
    found: list[Round] = []
    for own_disks in (False, True):
        these = [fault for fault in names if FAULTS[fault].own_disks is own_disks]
        if these:
            with ExitStack() as stack:
                systems = []
                for name in names_of_systems:
                    note(f"{name}: starting 3 nodes{', each with a disk of its own' if own_disks else ''}")
                    systems.append(stack.enter_context(System(name, own_disks=own_disks)))
                found += measure_all(systems, loads or ("idle", "half"), these, rounds)
    result["summary"] = summary(found)
    result["rounds"] = [asdict(round_) for round_ in found]
    path = measure.keep("failover", result)
    plot(result["rounds"], {name: fault.title for name, fault in FAULTS.items()}, path.with_suffix(".svg"))
    print(json.dumps(result, indent=1) if as_json else report(result))
    note(f"kept in {path}, with a picture beside it")


if __name__ == "__main__":
    main()

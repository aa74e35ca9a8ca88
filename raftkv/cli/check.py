"""`raftkv check perf`: is the cluster fast enough for a load of a given size?

So many writers put keys of 256 and values of 1024 bytes, at a bounded rate, for a minute. The judgement is etcdctl's: nine tenths
of the rate are reached, no put takes more than half a second, and their times do not vary by more than a tenth.

Not done: etcdctl opens a connection for every writer; these share one, and raftkv's client sends what queues up together.

Source: loads, limits, texts and exit codes are etcdctl 3.4's; `--duration` is ours.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import click

from raftkv.cli.exits import Exit, Failure
from raftkv.cli.lazy import CliCommand, Lazy, LazyGroup
from raftkv.cli.options import Duration, Settings, flag, settings_of
from raftkv.errors import RequestError

if TYPE_CHECKING:
    from raftkv.client import AsyncClient

EXAMPLES = """
raftkv check perf
raftkv check perf --load m --auto-compact --auto-defrag
"""
KEY_BYTES, VALUE_BYTES = 256, 1024
SLOWEST_MAX_S = 0.5
DEVIATION_MAX_S = 0.1
RATE_MIN = 0.9
DELETE_S = 30.0


@dataclass(frozen=True, slots=True)
class Load:
    puts_per_s: int
    writers: int


LOADS = {"s": Load(150, 50), "m": Load(1_000, 200), "l": Load(8_000, 500), "xl": Load(15_000, 1_000)}
ALIASES = {"s": "s", "small": "s", "m": "m", "medium": "m", "l": "l", "large": "l", "xl": "xl", "xLarge": "xl"}

check = LazyGroup(
    "check",
    lazy={"perf": Lazy(module=__name__, name="perf", help="Whether the cluster is fast enough for a load.")},
    help="Checks of a cluster's properties.",
    examples=EXAMPLES,
)


@click.command("perf", cls=CliCommand, examples=EXAMPLES)
@click.argument("arguments", nargs=-1, metavar="")
@click.option("--load", default="s", metavar="LOAD", help="s(mall), m(edium), l(arge), xl(arge).  [default: s]")
@click.option("--prefix", default="/etcdctl-check-perf/", help="Of the keys that are written, and deleted at the end.")
@click.option("--duration", type=Duration(), default="60s", help="How long to write.  [default: 60s]")
@flag("--auto-compact", help="Compact afterwards.")
@flag("--auto-defrag", help="Defragment every server given afterwards.")
@click.pass_context
def perf(
    ctx: click.Context,
    arguments: tuple[str, ...],
    load: str,
    prefix: str,
    duration: float,
    auto_compact: bool,
    auto_defrag: bool,
) -> None:
    """Write for a minute, and judge: PASS or FAIL, and exit code 1."""
    del arguments  # etcdctl ignores them.
    settings = settings_of(ctx)
    if load not in ALIASES:
        raise Failure(f"unknown load option {load}", Exit.NOT_SUPPORTED)
    chosen = LOADS[ALIASES[load]]
    times = asyncio.run(_run(settings, chosen, prefix.encode(), duration, auto_compact, auto_defrag))
    lines, is_fast_enough = judgement(times, chosen)
    for line in lines:
        click.echo(line)
    if not is_fast_enough:
        ctx.exit(Exit.FAILED)


@dataclass(slots=True)
class Times:
    """What the writers measured, in seconds."""

    took_s: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    total_s: float = 0.0


async def _run(
    settings: Settings, load: Load, prefix: bytes, duration_s: float, auto_compact: bool, auto_defrag: bool
) -> Times:
    import raftkv

    async with raftkv.aio.connect(settings.endpoints, timeout=settings.command_timeout) as kv:
        if await kv.count(prefix=prefix):
            text = prefix.decode()
            raise Failure(
                f'prefix "{text}" has keys. Delete with etcdctl del --prefix {text} first', Exit.INVALID_INPUT
            )
        times = Times()
        started = time.monotonic()
        ticks = _ticks(load.puts_per_s, duration_s)
        taking = asyncio.Lock()
        await asyncio.gather(*(_write(kv, prefix, ticks, taking, times) for _ in range(load.writers)))
        times.total_s = time.monotonic() - started
        deleted = await kv.delete(prefix=prefix, timeout=DELETE_S)
        if auto_compact:
            click.echo(f"Compacting with revision {deleted.revision}")
            await kv.compact(deleted.revision, physical=True, timeout=DELETE_S)
            click.echo(f"Compacted with revision {deleted.revision}")
        if auto_defrag:
            for endpoint in settings.endpoints:
                click.echo(f'Defragmenting "{endpoint}"')
                await kv.maintenance.defragment(endpoint)
                click.echo(f'Defragmented "{endpoint}"')
    return times


async def _ticks(per_s: int, duration_s: float) -> AsyncIterator[None]:
    """One for every put that may be sent, none of them early; what is late is not made up for by a burst."""
    start = at = time.monotonic()
    shown = 0
    while (now := time.monotonic()) < start + duration_s:
        if now < at:
            await asyncio.sleep(at - now)
        at = max(at, now - 1 / per_s) + 1 / per_s
        if sys.stderr.isatty() and int(now - start) > shown:
            shown = int(now - start)
            click.echo(f"\r {shown} / {duration_s:.0f} s", nl=False, err=True)
        yield


async def _write(
    kv: AsyncClient, prefix: bytes, ticks: AsyncIterator[None], taking: asyncio.Lock, times: Times
) -> None:
    value = bytes(VALUE_BYTES)
    while True:
        async with taking:
            try:
                await anext(ticks)
            except StopAsyncIteration:
                return
        key = prefix + random.randbytes(9).hex().encode().ljust(KEY_BYTES, b"\0")
        started = time.monotonic()
        try:
            await kv.put(key, value)
        except RequestError as error:
            times.errors[error.message] += 1
        else:
            times.took_s.append(time.monotonic() - started)


def judgement(times: Times, load: Load) -> tuple[list[str], bool]:
    """What is printed, and whether the cluster is fast enough."""
    lines: list[str] = []
    is_fast_enough = not times.errors
    if times.errors:
        lines.append("FAIL: too many errors")
        lines += [f"FAIL: ERROR({text}) -> {count}" for text, count in times.errors.items()]
    rate = len(times.took_s) / times.total_s if times.total_s else 0.0
    slowest_s = max(times.took_s, default=0.0)
    deviation_s = statistics.pstdev(times.took_s) if times.took_s else 0.0
    for is_good, good, bad in (
        (
            rate / load.puts_per_s > RATE_MIN,
            f"PASS: Throughput is {int(rate) + 1} writes/s",
            f"FAIL: Throughput too low: {int(rate) + 1} writes/s",
        ),
        (
            slowest_s <= SLOWEST_MAX_S,
            f"PASS: Slowest request took {slowest_s:f}s",
            f"Slowest request took too long: {slowest_s:f}s",
        ),
        (deviation_s <= DEVIATION_MAX_S, f"PASS: Stddev is {deviation_s:f}s", f"Stddev too high: {deviation_s:f}s"),
    ):
        lines.append(good if is_good else bad)
        is_fast_enough &= is_good
    lines.append("PASS" if is_fast_enough else "FAIL")
    return lines, is_fast_enough

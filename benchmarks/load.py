"""The load: many concurrent callers of one Python client, putting random keys, and what they saw.

What may not live here: clusters, printing.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hdrh.histogram import HdrHistogram

from raftkv import aio
from raftkv.errors import RequestError

_VALUES = 256
_LATENCY_HIGHEST_US = 60_000_000
_CALL_TIMEOUT_S = 10.0


@dataclass(frozen=True, kw_only=True)
class Load:
    """What is done.

    Attributes:
        callers: asyncio tasks with one put in flight each.
        keys: how many different ones, each 16 bytes.
        warmup_s: not counted.
        puts_max: end after so many, however long it takes; 0: end after ``seconds``.
    """

    callers: int
    seconds: float
    warmup_s: float = 3.0
    keys: int = 100_000
    value_bytes: int = 256
    puts_max: int = 0


@dataclass(kw_only=True)
class Seen:
    """What the callers saw after the warm-up. Latencies in milliseconds. The two ``in_all`` count from start to end."""

    callers: int
    seconds: float = 0.0
    puts: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    max_ms: float = 0.0
    longest_gap_ms: float = 0.0
    client_cpu_s: float = 0.0
    acknowledged_in_all: int = 0
    failed_in_all: int = 0

    @property
    def puts_per_s(self) -> float:
        return self.puts / self.seconds if self.seconds else 0.0


class Run:
    """One load in progress."""

    def __init__(self, client: Any, load: Load) -> None:
        self._client = client
        self._load = load
        self._keys = [f"{number:016}".encode() for number in range(load.keys)]
        self._values = [os.urandom(load.value_bytes) for _ in range(_VALUES)]
        self._latencies = array("d")
        self._errors: Counter[str] = Counter()
        self._puts_max = load.puts_max or sys.maxsize
        self._enough = asyncio.Event()
        self._warmup_puts = 0
        self._warmup_errors = 0
        self._going = True
        self._last = 0.0
        self._gap = 0.0

    @property
    def puts(self) -> int:
        """Acknowledged since the last reset."""
        return len(self._latencies)

    async def measure(self) -> Seen:
        """Warm up, measure, stop."""
        load = self._load
        async with asyncio.TaskGroup() as group:
            for _ in range(load.callers):
                group.create_task(self._call())
            await asyncio.sleep(load.warmup_s)
            self._reset()
            start, cpu = time.perf_counter(), time.process_time()
            if load.puts_max:
                await self._enough.wait()
            else:
                await asyncio.sleep(load.seconds)
            seconds, used = time.perf_counter() - start, time.process_time() - cpu
            seen = self._seen(seconds, used)
            self._going = False
        seen.acknowledged_in_all = self._warmup_puts + len(self._latencies)
        seen.failed_in_all = self._warmup_errors + self._errors.total()
        return seen

    async def _call(self) -> None:
        put, keys, values, clock = self._client.put, self._keys, self._values, time.perf_counter
        while self._going:
            start = clock()
            try:
                await put(random.choice(keys), random.choice(values))
            except RequestError as error:
                self._errors[f"{type(error).__name__}: {error} ({error.outcome.value})"] += 1
                continue
            end = clock()
            self._latencies.append(end - start)
            self._gap = max(self._gap, end - self._last)
            self._last = end
            if len(self._latencies) >= self._puts_max:
                self._enough.set()

    def _reset(self) -> None:
        self._warmup_puts, self._warmup_errors = len(self._latencies), self._errors.total()
        del self._latencies[:]
        self._errors.clear()
        self._gap, self._last = 0.0, time.perf_counter()

    def _seen(self, seconds: float, cpu_s: float) -> Seen:
        latencies = self._latencies[:]
        histogram = HdrHistogram(1, _LATENCY_HIGHEST_US, 3)
        for latency in latencies:
            histogram.record_value(max(1, int(latency * 1e6)))
        return Seen(
            callers=self._load.callers,
            seconds=seconds,
            puts=len(latencies),
            errors=dict(self._errors),
            p50_ms=histogram.get_value_at_percentile(50) / 1000,
            p99_ms=histogram.get_value_at_percentile(99) / 1000,
            max_ms=max(latencies, default=0.0) * 1000,
            longest_gap_ms=self._gap * 1000,
            client_cpu_s=cpu_s,
        )


async def run_load(endpoints: Sequence[str], load: Load) -> Seen:
    """Put a load on a cluster through one client; the first endpoint is the one it uses while it works."""
    async with aio.connect(",".join(endpoints), timeout=_CALL_TIMEOUT_S) as client:
        return await Run(client, load).measure()

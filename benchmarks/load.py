"""The load: many concurrent callers in one Python process, each with one operation in flight, and what they saw.

What may not live here: clusters, printing.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from array import array
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.stores import FAILURES, CompareFailed, OwnStore, Store, failure_text, key_of, stores

OPERATIONS = ("put", "get", "get-serializable", "mixed", "txn")
KEYS = 100_000
VALUE_BYTES = 256
PUTS_IN_MIXED = 0.1
_VALUES = 256
_FILL_KEYS = 100
"""In one transaction; etcd takes 128 operations at most."""
_FILL_CALLERS = 8
_PACE_S = 0.002
_BACKLOG_S = 0.1
"""What an outage held up for longer is not made up for."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """What is done.

    Attributes:
        operation: one of OPERATIONS. ``mixed``: nine linearizable gets to one put. ``txn``: put if the key has not changed since.
        callers: asyncio tasks with one operation in flight each.
        warmup_s: not counted.
        keys: how many different ones, drawn at random, each 16 bytes. They should be there.
        rate: operations a second, all callers together; 0: as many as they can.
    """

    callers: int
    operation: str = "put"
    seconds: float = 5.0
    warmup_s: float = 1.0
    keys: int = KEYS
    value_bytes: int = VALUE_BYTES
    rate: float = 0.0


@dataclass(kw_only=True)
class Seen:
    """What the callers saw in a span. Latencies in milliseconds. The three ``in_all`` count from the very start to the end."""

    seconds: float = 0.0
    done: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    max_ms: float = 0.0
    longest_gap_ms: float = 0.0
    load_cpu_s: float = 0.0
    writes_in_all: int = 0
    failed_in_all: int = 0

    @property
    def per_s(self) -> float:
        return self.done / self.seconds if self.seconds else 0.0


def latencies_ms(seconds: Sequence[float]) -> dict[str, float]:
    """Median, 99th percentile and maximum.

    With numpy, because a load that goes on meanwhile must not wait for it: 2 ms for 100,000, where sorting takes 30.
    """
    if not len(seconds):
        return {"p50_ms": 0.0, "p99_ms": 0.0, "max_ms": 0.0}
    p50, p99, most = np.percentile(np.asarray(seconds), [50, 99, 100], method="higher") * 1000
    return {"p50_ms": float(p50), "p99_ms": float(p99), "max_ms": float(most)}


class Run:
    """One load in progress: ``async with``, and ``lap`` as often as one likes.

    Args:
        targets: callers are spread over them in turn.
    """

    def __init__(self, targets: Sequence[Store], load: Load) -> None:
        self._load = load
        self._targets = targets
        self._values = [os.urandom(load.value_bytes) for _ in range(_VALUES)]
        self._latencies = array("d")
        self._errors: Counter[str] = Counter()
        self._going = True
        self._began = self._last = 0.0
        self._cpu = 0.0
        self._gap = 0.0
        self._writes = self._failed = self._taken = 0
        self._turns = asyncio.Semaphore(0) if load.rate else None
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Run:
        for number in range(self._load.callers):
            operation = self._operation(self._targets[number % len(self._targets)], number)
            self._tasks.append(asyncio.create_task(self._call(operation)))
        if self._turns is not None:
            self._tasks.append(asyncio.create_task(self._pace(self._turns)))
        self._reset()
        return self

    async def __aexit__(self, kind: Any, *_: object) -> None:
        """Let what is in flight end; after an error or an interrupt, end it."""
        self._going = False
        for task in self._tasks:
            if kind is not None:
                task.cancel()
            elif self._turns is not None:
                self._turns.release()  # Whoever waits for a turn sees that it is over.
        for outcome in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(outcome, Exception) and kind is None:
                raise outcome

    @property
    def failed(self) -> BaseException | None:
        """What a caller died of; a failed operation is no reason to die."""
        ended = (task.exception() for task in self._tasks if task.done() and not task.cancelled())
        return next((error for error in ended if error is not None), None)

    async def lap(self, seconds: float) -> Seen:
        """What was seen in so many seconds from the last lap (or the start) on."""
        await asyncio.sleep(max(0.0, self._began + seconds - time.perf_counter()))
        if self.failed is not None:
            raise self.failed
        now = time.perf_counter()
        latencies, errors = self._latencies[:], self._errors.copy()
        seen = Seen(
            seconds=now - self._began,
            done=len(latencies),
            errors=dict(errors),
            longest_gap_ms=max(self._gap, now - self._last) * 1000,
            load_cpu_s=time.process_time() - self._cpu,
        )
        self._reset()
        for name, value in latencies_ms(latencies).items():
            setattr(seen, name, value)
        return seen

    @property
    def writes(self) -> int:
        """Acknowledged since the start."""
        return self._writes

    @property
    def failures(self) -> int:
        """Failed operations since the start."""
        return self._failed

    def _reset(self) -> None:
        del self._latencies[:]
        self._errors.clear()
        self._gap, self._cpu = 0.0, time.process_time()
        self._began = self._last = time.perf_counter()

    async def _call(self, operation: tuple[Callable[[], Awaitable[Any]], Callable[[], int]]) -> None:
        perform, written = operation
        turns, clock = self._turns, time.perf_counter
        while self._going:
            if turns is not None:
                await turns.acquire()
                self._taken += 1
                if not self._going:
                    return
            start = clock()
            try:
                await perform()
            except FAILURES as error:
                self._errors[failure_text(error)] += 1
                self._failed += 1
                continue
            end = clock()
            self._latencies.append(end - start)
            self._writes += written()
            if end - self._last > self._gap:
                self._gap = end - self._last
            self._last = end

    async def _pace(self, turns: asyncio.Semaphore) -> None:
        """Hand out turns at the rate asked for, a few milliseconds' worth at a time."""
        rate, begun, due_before, given = self._load.rate, time.perf_counter(), 0, 0
        untaken_max = max(1, int(rate * _BACKLOG_S))
        while self._going:
            await asyncio.sleep(_PACE_S)
            due = int((time.perf_counter() - begun) * rate)
            now = min(due - due_before, untaken_max - (given - self._taken))
            for _ in range(now):
                turns.release()
            due_before, given = due, given + max(0, now)

    def _operation(self, store: Store, caller: int) -> tuple[Callable[[], Awaitable[Any]], Callable[[], int]]:
        """What a caller does again and again, and how many writes the last one was."""
        keys, values, draw = self._load.keys, self._values, random.random

        def put() -> Awaitable[Any]:
            return store.put(key_of(int(draw() * keys)), values[int(draw() * _VALUES)])

        match self._load.operation:
            case "put":
                return put, _one
            case "get":
                return lambda: store.get(key_of(int(draw() * keys))), _none
            case "get-serializable":
                return lambda: store.get_serializable(key_of(int(draw() * keys))), _none
            case "mixed":
                wrote = 0

                def mixed() -> Awaitable[Any]:
                    nonlocal wrote
                    wrote = int(draw() < PUTS_IN_MIXED)
                    return put() if wrote else store.get(key_of(int(draw() * keys)))

                return mixed, lambda: wrote
            case "txn":
                return _Swapper(store, key_of(caller % keys), values).swap, _one
        raise AssertionError(f"no operation {self._load.operation}")


class _Swapper:
    """Compare-and-swap of a key that nobody else writes: so each
    has to succeed, unless the end of the one before it is unknown.
    """

    def __init__(self, store: Store, key: bytes, values: Sequence[bytes]) -> None:
        self._store = store
        self._key = key
        self._values = values
        self._revision: int | None = None

    async def swap(self) -> None:
        revision, self._revision = self._revision, None
        if revision is None:
            revision = await self._store.revision_of(self._key)
        value = self._values[int(random.random() * _VALUES)]
        found = await self._store.swap(self._key, revision, value)
        if found is None:
            raise CompareFailed(f"{self._key.decode()} is not at the revision that this caller gave it")
        self._revision = found


def _one() -> int:
    return 1


def _none() -> int:
    return 0


async def run_load(targets: Sequence[Store], load: Load) -> Seen:
    """Warm up, measure, stop."""
    async with Run(targets, load) as run:
        await run.lap(load.warmup_s)
        seen = await run.lap(load.seconds)
    seen.writes_in_all, seen.failed_in_all = run.writes, run.failures
    return seen


async def load_cluster(generator: str, endpoints: list[str], load: Load, *, spread: bool = False) -> Seen:
    """Put a load on a cluster; the first endpoint is the one that is used, with ``spread`` all of them."""
    targets = stores(generator, endpoints, spread=spread)
    try:
        return await run_load(targets, load)
    finally:
        for target in targets:
            await target.close()


async def fill_cluster(
    endpoints: list[str], keys: int, *, first: int = 0, note: Callable[[int], None] | None = None
) -> None:
    """Put the keys numbered from ``first`` up to ``keys``, a hundred in a transaction, and forget the history."""
    store = OwnStore(endpoints)
    value = os.urandom(VALUE_BYTES)
    starts = iter(range(first, keys, _FILL_KEYS))

    async def work() -> None:
        for start in starts:
            await store.fill(start, min(start + _FILL_KEYS, keys), value)
            if note is not None and start % 100_000 == 0:
                note(start)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(_FILL_CALLERS):
                group.create_task(work())
        await store.compact()
    finally:
        await store.close()


async def compact_cluster(endpoints: list[str]) -> None:
    """Forget all history: benchmarks would fill the quota of a database with it."""
    store = OwnStore(endpoints)
    try:
        await store.compact()
    finally:
        await store.close()

"""The load beside the canary: writes nobody records, at a rate. What may not live here: what the canary sees."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence

from raftkv import aio
from raftkv.errors import RequestError

CALLERS = 64
KEYS = 1_000
VALUE = "x" * 256
TIMEOUT_S = 3.0
FULL_LOAD_S = 2.0
PAUSE_AFTER_FAILURE_S = 0.01


class BackgroundLoad:
    """Writers that together make ``rate`` writes a second while that is more than 0; infinity: as many as they can."""

    def __init__(self, endpoints: Sequence[str], prefix: str, *, timeout_s: float = TIMEOUT_S) -> None:
        self._client = aio.connect(list(endpoints), timeout=timeout_s)
        self._prefix = prefix
        self._rate = 0.0
        self._next_at = 0.0
        self._going = False
        self._rng = random.Random()
        self._work: list[asyncio.Task[None]] = []
        self.done = 0
        self.failed: Counter[str] = Counter()

    def start(self, rate: float) -> None:
        """Begin, or go on at another rate."""
        self._rate, self._next_at, self._going = rate, time.monotonic(), True
        if not self._work:
            self._work = [asyncio.create_task(self._write()) for _ in range(CALLERS)]

    async def full_rate(self) -> float:
        """How many writes a second the cluster takes from these writers; they stop then."""
        self.start(float("inf"))
        done, began = self.done, time.monotonic()
        await asyncio.sleep(FULL_LOAD_S)
        rate = (self.done - done) / (time.monotonic() - began)
        await self.stop()
        return rate

    async def stop(self) -> None:
        """End every writer after its write: one that was given up could come in later, when everything is cleaned up."""
        self._going = False
        await asyncio.gather(*self._work)
        self._work = []

    async def close(self) -> None:
        await self.stop()
        await self._client.close()

    async def _write(self) -> None:
        while self._going:
            await self._turn()
            key = f"{self._prefix}{self._rng.randrange(KEYS):04}"
            try:
                await self._client.put(key, VALUE)
            except RequestError as error:
                self.failed[f"load: {type(error).__name__}: {error} ({error.outcome.value})"] += 1
                await asyncio.sleep(PAUSE_AFTER_FAILURE_S)
            else:
                self.done += 1

    async def _turn(self) -> None:
        """Wait for this write's place in the common beat. Beats missed in an outage are not made up for."""
        now = time.monotonic()
        self._next_at = max(self._next_at + 1 / self._rate, now - 0.1)
        if self._next_at > now:
            await asyncio.sleep(self._next_at - now)

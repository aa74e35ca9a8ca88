"""The node's clock: ticks at a steady pace, and how late they came.

A tick that comes late says that the loop was held up, by our own work or because the machine gave us no time. Such a loop
must read what its peers sent meanwhile before it counts the silence against them: so the ticks that were missed are dropped,
but for a few. The lag is what a node knows of its own slowness.

What may not live here: what happens in a tick.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

TICKS_PER_CALL_MAX = 2
"""Ticks counted at once, however many were missed."""


class Ticker:
    """Calls `on_tick(ticks, missed_ticks, lag_s)` every `tick_s`.

    `ticks`: how many to count; `missed_ticks`: how many more have passed; `lag_s`: by how much this call is late.
    """

    def __init__(self, tick_s: float, on_tick: Callable[[int, int, float], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._tick_s = tick_s
        self._on_tick = on_tick
        self._next_at = 0.0
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._next_at = self._loop.time() + self._tick_s
        self._handle = self._loop.call_at(self._next_at, self._run)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _run(self) -> None:
        now = self._loop.time()
        lag_s = max(0.0, now - self._next_at)
        ticks = 1 + int(lag_s / self._tick_s)
        self._next_at = max(now, self._next_at + ticks * self._tick_s)
        self._handle = self._loop.call_at(self._next_at, self._run)
        counted = min(ticks, TICKS_PER_CALL_MAX)
        self._on_tick(counted, ticks - counted, lag_s)

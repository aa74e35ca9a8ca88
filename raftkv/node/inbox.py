"""Events from any thread, delivered on the loop in order, with one wake-up for a whole burst.

`loop.call_soon_threadsafe` costs a system call each time; a WAL group or a batch of applied entries would pay it per item.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any


class Inbox:
    """A queue with many writers and one reader, the loop.

    Unbounded by itself: what is in it answers work the node handed out before (saves, applied entries), whose amount is
    bounded where it is handed out.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, on_events: Callable[[], None]) -> None:
        self._loop = loop
        self._on_events = on_events
        self._events: deque[Any] = deque()
        self._is_scheduled = False

    def post(self, event: Any) -> None:
        """From any thread."""
        self._events.append(event)
        if not self._is_scheduled:  # Two threads may both get here: one wake-up too many, never one too few.
            self._is_scheduled = True
            self._loop.call_soon_threadsafe(self._run)

    def wake(self) -> None:
        """From the loop: have `on_events` called soon, even without an event."""
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._run)

    def take(self) -> Any | None:
        """The oldest event, None when there is none. From the loop."""
        return self._events.popleft() if self._events else None

    def _run(self) -> None:
        self._is_scheduled = False  # Before the queue is read: whoever appends from here on wakes the loop again.
        self._on_events()

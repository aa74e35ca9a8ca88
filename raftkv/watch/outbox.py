"""What waits to be sent on one stream, bounded in bytes; and the budget that all streams of a node share.

When it is full, events are refused, and their watcher is parked by the hub: it gets them from the history later. Answers to
requests are always taken: their number is bounded by not reading further requests (`is_full`).

What may not live here: sockets, tasks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from raftkv.watch import responses
from raftkv.watch.watcher import Watcher

MERGED_BYTES_MAX = 64 * 1024
"""Events of later revisions are added to a response that still waits, up to this size."""


@dataclass(slots=True)
class Budget:
    """Bytes that wait, over all streams.

    Beyond `bytes_max` a stream may have one response waiting and no second.
    """

    bytes_max: int
    bytes: int = 0


class _Events:
    """A response with events that waits. `barrier`: how many answers the stream had been given when it was queued."""

    __slots__ = ("barrier", "events", "revision", "size", "watcher")

    def __init__(self, watcher: Watcher, barrier: int) -> None:
        self.watcher = watcher
        self.barrier = barrier
        self.events: list[bytes] = []
        self.size = 0
        self.revision = 0


class Outbox:
    """The responses of one stream, in their order.

    Attributes:
        client: whose stream it is; the limit on watches counts by it.
        watchers: the stream's watches, by id.
        parked: those that wait for room.
        behind_count: how many are not live: parked, or catching up.
        progress_due: a progress response was asked for at this revision and has to wait; 0: none.
        is_closed: nobody reads any more; what is put here is dropped.
    """

    def __init__(
        self,
        client: str,
        *,
        bytes_max: int,
        budget: Budget,
        header: responses.Header,
        fragment_bytes: int,
        on_news: Callable[[Outbox], None],
    ) -> None:
        """Args:
        on_news: called when there is something to send after there was nothing.
        """
        self.client = client
        self.watchers: dict[int, Watcher] = {}
        self.next_id = 0
        self.parked: dict[Watcher, None] = {}
        self.behind_count = 0
        self.progress_due = 0
        self.is_closed = False
        self.bytes = 0
        self._bytes_max = bytes_max
        self._budget = budget
        self._header = header
        self._fragment_bytes = fragment_bytes
        self._on_news = on_news
        self._queue: deque[bytes | _Events] = deque()
        self._parts: deque[bytes] = deque()
        """Of a response that has begun to be sent in fragments."""
        self._last: dict[Watcher, _Events] = {}
        self._answers = 0

    @property
    def is_full(self) -> bool:
        """No more events are taken."""
        return self.is_full_with(0)

    def is_full_with(self, size: int) -> bool:
        """Whether no more events are taken once so many more bytes of them have been."""
        if not self._queue and not size:
            return False
        return self.bytes + size >= self._bytes_max or self._budget.bytes + size >= self._budget.bytes_max

    @property
    def has_room_again(self) -> bool:
        """Far enough below the limits for parked watchers to go on: it should not be full again at once."""
        if not self._queue:
            return True
        return 2 * self.bytes < self._bytes_max and 2 * self._budget.bytes < self._budget.bytes_max

    def put(self, response: bytes) -> None:
        """Queue an answer, or anything else that is not events."""
        if self.is_closed:
            return
        self._answers += 1
        self._count(len(response))
        self._append(response)

    def offer(self, watcher: Watcher, events: Sequence[bytes], revision: int) -> bool:
        """Queue all events of a revision for a watcher; False: there is no room, nothing was queued."""
        if self.is_closed:
            return True
        size = sum(map(len, events))
        last = self._last.get(watcher)
        if self.is_full:
            return False
        if last is None or last.barrier != self._answers or last.size + size > MERGED_BYTES_MAX:
            last = self._last[watcher] = _Events(watcher, self._answers)
            self._append(last)
        last.events += events
        last.size += size
        last.revision = max(last.revision, revision)
        watcher.has_progress = True
        self._count(size)
        return True

    def take(self) -> bytes | None:
        """The next response to send; None when there is none."""
        if self._parts:
            return self._parts.popleft()
        if not self._queue:
            return None
        first = self._queue.popleft()
        if isinstance(first, bytes):
            self._count(-len(first))
            return first
        self._count(-first.size)
        watcher = first.watcher
        if self._last.get(watcher) is first:
            del self._last[watcher]
        limit = self._fragment_bytes if watcher.fragment else 0
        header = self._header(first.revision)
        self._parts.extend(responses.with_events(header, watcher.watch_id, first.events, fragment_bytes=limit))
        return self._parts.popleft()

    def close(self) -> None:
        """Drop everything."""
        self.is_closed = True
        self._count(-self.bytes)
        self._queue.clear()
        self._parts.clear()
        self._last.clear()

    def _append(self, item: bytes | _Events) -> None:
        was_empty = not self._queue and not self._parts
        self._queue.append(item)
        if was_empty:
            self._on_news(self)

    def _count(self, size: int) -> None:
        self.bytes += size
        self._budget.bytes += size


def surely_refused(wanted: Mapping[Watcher, Sequence[bytes]]) -> list[Watcher]:
    """Those whose outbox will not take what is wanted for them, however much more that becomes.

    What is offered in this order before it, on the same stream, fills the outbox by itself.
    """
    refused: list[Watcher] = []
    before: dict[Outbox, int] = {}
    for watcher, events in wanted.items():
        outbox = watcher.outbox
        size = before.get(outbox, 0)
        if outbox.is_full_with(size):
            refused.append(watcher)
        else:
            before[outbox] = size + sum(map(len, events))
    return refused

"""What lets a write be sent again: its session, and its number in it.

A session is opened through the log, lives in every replica, and remembers what each write of it was answered until the client
says that it need not. So a write of unknown outcome is simply sent again, to whatever endpoint answers, and is applied once.

What may not live here: sending.

Source: Raft dissertation §6.3.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, Final

from raftkv.client.operation import Operation, session_field

OUTSTANDING_MAX: Final = 16_384
"""Writes without an answer, in one session. The servers keep that many answers, and four times as many at most."""
_IDLE_SHARE: Final = 0.5
"""A session that was idle for this share of its life is not trusted any more: a new one costs one call."""


class Session:
    """One session of one client, numbering its writes.

    Args:
        session_id: as the cluster gave it.
        ttl_s: it is forgotten when it was not used for so long.
    """

    def __init__(self, session_id: int, ttl_s: float) -> None:
        self.tag = session_field(session_id)
        """Its id, as it stands in each command."""
        self._ttl_s = ttl_s
        self._next = 1
        self._outstanding: dict[int, Operation[Any]] = {}
        self._used_at = time.monotonic()

    @property
    def is_fresh(self) -> bool:
        """Whether the cluster surely still knows it. One with writes under way is kept: only it can tell what became of them."""
        if self.settled_below < self._next:
            return True
        return time.monotonic() - self._used_at < self._ttl_s * _IDLE_SHARE

    @property
    def has_room(self) -> bool:
        """Whether more writes may be numbered before the eldest has its answer."""
        return self._next - self.settled_below < OUTSTANDING_MAX

    @property
    def settled_below(self) -> int:
        """Nobody waits for the answer to any write numbered below this."""
        outstanding = self._outstanding
        while outstanding:
            sequence, operation = next(iter(outstanding.items()))
            if not operation.waiter.done():
                return sequence
            del outstanding[sequence]
        return self._next

    def number_all(self, operations: Iterable[Operation[Any]]) -> None:
        """Make the writes among these this session's, those that are not already."""
        for operation in operations:
            if not operation.kind.reads and operation.session is None:
                operation.session, operation.sequence = self, self._next
                self._outstanding[self._next] = operation
                self._next += 1

    def used(self) -> None:
        """The cluster has just applied a write of it."""
        self._used_at = time.monotonic()

"""A batch or a call on its way, and what becomes of the operations in it when it fails.

What may not live here: sending, and the queue.
"""

from __future__ import annotations

import time
from typing import Any

from raftkv.client.connection import Connection
from raftkv.client.operation import Operation


class Flight:
    """One batch or one call in flight, and the operations in it."""

    __slots__ = ("batched", "connection", "earliest", "latest", "moved", "operations", "started")

    def __init__(self, connection: Connection, operations: list[Operation[Any]], *, batched: bool) -> None:
        deadlines = [operation.deadline for operation in operations]
        self.connection = connection
        self.operations = operations
        self.batched = batched
        self.started = time.monotonic()
        self.earliest = min(deadlines)
        self.latest = max(deadlines)
        self.moved = False  # What may be sent twice was queued again, for another endpoint.

    def stalls_at(self, stall_s: float) -> float:
        return max(self.started, self.connection.answered_at) + stall_s

    def has_moved(self, operation: Operation[Any]) -> bool:
        """Whether another flight carries this operation by now."""
        return self.moved and operation.is_repeatable

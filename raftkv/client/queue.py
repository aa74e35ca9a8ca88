"""Operations that wait for their turn, first in first out, bounded by count and bytes.

When it is full, callers wait for room in turn, each within its own deadline: what a burst costs is then the callers' own
frames and not a second copy of all they want to store.

What may not live here: sending.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from raftkv.client.operation import Operation

NEVER: Final = float("inf")


class Queue:
    """A bounded queue of operations.

    Attributes:
        earliest: no operation in here has an earlier deadline; may be earlier than the earliest.
        bytes: of the requests in here.
    """

    def __init__(self, *, operations_max: int, bytes_max: int) -> None:
        self.earliest = NEVER
        self.bytes = 0
        self._operations: deque[Operation[Any]] = deque()
        self._operations_max = operations_max
        self._bytes_max = bytes_max
        self._for_room: deque[asyncio.Future[None]] = deque()

    def __len__(self) -> int:
        return len(self._operations)

    @property
    def must_wait(self) -> bool:
        """Whether a newcomer has to wait for room: the queue is full, or others wait already."""
        return len(self._operations) >= self._operations_max or self.bytes >= self._bytes_max or len(self._for_room) > 0

    async def room(self, timeout: float) -> None:
        """Wait for room.

        Raises:
            TimeoutError: there was none in time.
        """
        turn = asyncio.get_running_loop().create_future()
        self._for_room.append(turn)
        async with asyncio.timeout(timeout):
            await turn

    def append(self, operation: Operation[Any]) -> None:
        """Queue an operation. Callers that found `must_wait` have waited for `room` before."""
        self._operations.append(operation)
        self.bytes += len(operation.request)
        if operation.deadline < self.earliest:
            self.earliest = operation.deadline

    def put_back(self, operations: Sequence[Operation[Any]]) -> None:
        """Queue operations anew, in front of all others and in their order; the bound does not apply to them."""
        for operation in reversed(operations):
            self._operations.appendleft(operation)
            self.bytes += len(operation.request)
            self.earliest = min(self.earliest, operation.deadline)

    def first(self) -> Operation[Any] | None:
        """The operation whose turn it is. Drops those whose caller has an answer or has gone away."""
        operations = self._operations
        while operations:
            operation = operations[0]
            if not operation.waiter.done():
                return operation
            self.pop()
        return None

    def pop(self) -> Operation[Any]:
        """Take the first operation."""
        operation = self._operations.popleft()
        self.bytes -= len(operation.request)
        return operation

    def take(self, *, operations_max: int, bytes_max: int, repeatable_only: bool = False) -> list[Operation[Any]]:
        """Take what fits into one batch: up to the first operation that wants to be alone, or may not be sent twice (`repeatable_only`)."""
        operations = self._operations
        taken: list[Operation[Any]] = []
        size = 0
        while operations and len(taken) < operations_max:
            operation = operations[0]
            length = len(operation.request)
            if operation.alone or (taken and size + length > bytes_max):
                break
            if repeatable_only and not operation.is_repeatable:
                break
            operations.popleft()
            self.bytes -= length
            if not operation.waiter.done():
                taken.append(operation)
                size += length
        return taken

    def expired(self, now: float) -> list[Operation[Any]]:
        """Take the operations whose deadline has passed, and find the next deadline."""
        if self.earliest > now:
            return []
        expired = [operation for operation in self._operations if operation.deadline <= now]
        if expired:
            rest = [operation for operation in self._operations if operation.deadline > now]
            self._operations = deque(rest)
            self.bytes = sum(len(operation.request) for operation in rest)
        self.earliest = min((operation.deadline for operation in self._operations), default=NEVER)
        return expired

    def let_in(self) -> None:
        """Wake as many of those who wait for room as there is room for."""
        free = self._operations_max - len(self._operations) if self.bytes < self._bytes_max else 0
        while self._for_room and free > 0:
            turn = self._for_room.popleft()
            if not turn.done():
                turn.set_result(None)
                free -= 1

    def clear(self) -> list[Operation[Any]]:
        """Take everything, and wake all who wait for room."""
        operations = list(self._operations)
        self._operations.clear()
        self.bytes = 0
        self.earliest = NEVER
        while self._for_room:
            turn = self._for_room.popleft()
            if not turn.done():
                turn.set_result(None)
        return operations

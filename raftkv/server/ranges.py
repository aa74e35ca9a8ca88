"""Ranges of any length: a short one is answered in one go, a long one in slices between which the node goes on applying.

All of an answer is of one revision, fixed when its reading begins.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from raftkv.errors import BATCH_ANSWERS_TOO_LARGE, ResourceExhausted
from raftkv.mvcc.allowance import Allowance
from raftkv.node import Node
from raftkv.pb import rpc_pb2
from raftkv.statemachine import StateMachine

SLICES_AT_ONCE = 3
"""What the first turn reads: most ranges end within it and cost no further hop."""


class RangeReading:
    """One range on its way. Made on the state machine's thread, then `finish` on the loop.

    Raises:
        Compacted, FutureRevision.
        ResourceExhausted: there is no room for the answer.
    """

    def __init__(self, machine: StateMachine, request: rpc_pb2.RangeRequest, room: Allowance | None = None) -> None:
        """`room`: what the answer shares with others, on the state machine's thread; None: it may have any length, as by etcd."""
        self._room = room
        self._parts: list[bytes] = []
        self._rest: Iterator[bytes] | None = None
        if room is not None and room.is_spent:
            raise ResourceExhausted(BATCH_ANSWERS_TOO_LARGE)
        if not request.range_end:
            self._add(machine.range_bytes(request))
            return
        self._rest = machine.range_slices(request)
        try:
            while self._rest is not None and len(self._parts) < SLICES_AT_ONCE:
                self._next_slice(machine)
        except ResourceExhausted:
            self._close()
            raise

    @property
    def size(self) -> int:
        """Bytes that were read so far."""
        return sum(map(len, self._parts))

    async def finish(self, node: Node, hold_s: float) -> bytes:
        """The serialized response; of its header only the revision is set.

        Raises:
            Compacted: another state was installed meanwhile.
            ResourceExhausted: there is no room for the rest.
            Unavailable, DeadlineExceeded: the node stopped, or time ran out.
        """
        deadline = asyncio.get_running_loop().time() + hold_s
        try:
            while self._rest is not None:
                remaining_s = deadline - asyncio.get_running_loop().time()
                await node.read_local(self._next_slice, timeout_s=max(0.0, remaining_s))
        finally:
            if self._rest is not None:  # Given up: what it pins must be let go, on the thread that reads.
                node.run(lambda _: self._close())
        return b"".join(self._parts)

    def _next_slice(self, _machine: StateMachine) -> None:
        assert self._rest is not None, "a slice after the last"
        part = next(self._rest, None)
        if part is None:
            self._rest = None
        else:
            self._add(part)

    def _add(self, part: bytes) -> None:
        if self._room is not None and not self._room.has_room(len(part)):
            raise ResourceExhausted(BATCH_ANSWERS_TOO_LARGE)
        self._parts.append(part)

    def _close(self) -> None:
        rest: Any = self._rest
        self._rest = None
        if rest is not None:
            rest.close()

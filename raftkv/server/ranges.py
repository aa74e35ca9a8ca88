"""Ranges of any length: a short one is answered in one go, a long one in slices between which the node goes on applying.

All of an answer is of one revision, fixed when its reading begins.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import islice
from typing import Any

from raftkv.node import Node
from raftkv.pb import rpc_pb2
from raftkv.statemachine import StateMachine

SLICES_AT_ONCE = 3
"""What the first turn reads: most ranges end within it and cost no further hop."""


class RangeReading:
    """One range on its way. `begin` on the state machine's thread, then `finish` on the loop.

    Raises (`begin`):
        Compacted, FutureRevision.
    """

    def __init__(self, machine: StateMachine, request: rpc_pb2.RangeRequest) -> None:
        self._rest: Iterator[bytes] | None = None
        if request.range_end:
            self._rest = machine.range_slices(request)
            self._parts = list(islice(self._rest, SLICES_AT_ONCE))
            if len(self._parts) < SLICES_AT_ONCE:
                self._rest = None
        else:
            self._parts = [machine.range_bytes(request)]

    async def finish(self, node: Node, hold_s: float) -> bytes:
        """The serialized response; of its header only the revision is set.

        Raises:
            Compacted: another state was installed meanwhile.
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
            self._parts.append(part)

    def _close(self) -> None:
        rest: Any = self._rest
        self._rest = None
        if rest is not None:
            rest.close()

"""Waiting until somebody leads.

What may not live here: who leads, which is Raft's to say.
"""

from __future__ import annotations

import asyncio

from raftkv.errors import Outcome, Unavailable


class LeaderWatch:
    """Those who wait for a change of leader, and are told of the next one."""

    def __init__(self) -> None:
        self._waiters: list[asyncio.Future[None]] = []

    async def next_leader(self) -> None:
        """Return when the next leader is known.

        Raises:
            Unavailable: the node stops.
        """
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    def leader_known(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    def fail_all(self, message: str) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(Unavailable(message, outcome=Outcome.NOT_APPLIED))
        self._waiters.clear()

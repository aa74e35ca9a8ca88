"""Waiting until somebody leads, or no more.

What may not live here: who leads, which is Raft's to say.
"""

from __future__ import annotations

import asyncio

from raftkv.errors import Outcome, Unavailable


class LeaderWatch:
    """Those who wait for another leader, or for none, and are told of the next change."""

    def __init__(self) -> None:
        self._waiters: list[asyncio.Future[None]] = []

    async def next_change(self) -> None:
        """Return when the leader is another one, or is lost.

        Raises:
            Unavailable: the node stops.
        """
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    def changed(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    def fail_all(self, message: str) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(Unavailable(message, outcome=Outcome.NOT_APPLIED))
        self._waiters.clear()

"""Which endpoint to use: sticky to one while it works, at once to the next when it does not.

    current ──lost / stalled / "not me"──► retired ──its last flight lands──► closed
       ▲
       └── first of the attempts that connects; attempts start with the endpoint after the one lost, the next one starts
           as soon as one is refused, or after STAGGER_S without an answer

What may not live here: operations.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from raftkv.client.connection import Connection

STAGGER_S: Final = 0.15
"""How long one attempt may stay without an answer before the next endpoint is tried beside it."""


class Pool:
    """The endpoints of one client, one of which is current.

    Attributes:
        addresses: "HOST:PORT" each, in the order of preference.
        current: the connection in use; None until `connect`, and again when it was dropped.
    """

    def __init__(self, addresses: Sequence[str], *, connect_timeout_s: float) -> None:
        self.addresses = tuple(addresses)
        self.current: Connection | None = None
        self._connect_timeout_s = connect_timeout_s
        self._next = 0
        self._open: set[Connection] = set()
        self._closing: set[asyncio.Task[None]] = set()

    def drop(self, connection: Connection) -> None:
        """Use `connection` for no new calls; the next attempt begins with the endpoint after it.

        Several flights of one connection fail together: only the first moves the choice.
        """
        if connection is self.current:
            self.current = None
            self._next = (self.addresses.index(connection.address) + 1) % len(self.addresses)
        connection.retired = True
        self.landed(connection)

    def landed(self, connection: Connection) -> None:
        """Close a retired connection on which nothing is in flight any more."""
        if connection.retired and not connection.batch_flights and not connection.unary_flights:
            self._close_later(connection)

    async def connect(self) -> Connection | None:
        """Make the first endpoint that answers current; None when all of them refused or were silent for too long."""
        addresses = self.addresses[self._next :] + self.addresses[: self._next]
        attempts: dict[asyncio.Task[bool], Connection] = {}
        try:
            for position, address in enumerate(addresses):
                connection = self.open(address)
                attempts[asyncio.create_task(connection.connect())] = connection
                last = position == len(addresses) - 1
                self.current = await self._first(attempts, self._connect_timeout_s if last else STAGGER_S, all_of=last)
                if self.current is not None:
                    return self.current
            return None
        finally:
            await self._abandon(attempts)

    def open(self, address: str) -> Connection:
        """A new connection to one of the endpoints, not connected yet; `landed` or `close` closes it."""
        connection = Connection(address)
        self._open.add(connection)
        return connection

    async def close(self) -> None:
        """Close every connection; calls still in flight are cancelled."""
        self.current = None
        for connection in list(self._open):
            self._close_later(connection)
        await asyncio.gather(*self._closing)

    async def _first(
        self, attempts: dict[asyncio.Task[bool], Connection], limit_s: float, *, all_of: bool
    ) -> Connection | None:
        """The first attempt that connects. Gives up on a refusal, or with `all_of` when all are refused."""
        loop = asyncio.get_running_loop()
        end = loop.time() + limit_s
        while attempts:
            done, _ = await asyncio.wait(attempts, timeout=end - loop.time(), return_when=asyncio.FIRST_COMPLETED)
            winners = [attempts[task] for task in done if task.result()]
            if winners:
                return winners[0]
            for task in done:
                self._close_later(attempts.pop(task))
            if not done or not all_of:
                return None
        return None

    async def _abandon(self, attempts: dict[asyncio.Task[bool], Connection]) -> None:
        for task, connection in attempts.items():
            if connection is not self.current:
                task.cancel()
                self._close_later(connection)
        await asyncio.gather(*attempts, return_exceptions=True)

    def _close_later(self, connection: Connection) -> None:
        if connection in self._open:
            self._open.discard(connection)
            task = asyncio.create_task(connection.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

"""The connection that a client's watches share: one endpoint at a time, the next when it breaks.

It is not the one of the client's other calls: a watch that leaves an endpoint does not disturb them.

What may not live here: what watches watch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from raftkv.client.connection import Connection
from raftkv.client.pool import Pool

if TYPE_CHECKING:
    from raftkv.client.watching import AsyncWatch

RETRY_S: Final = 0.05
"""Between two rounds in which no endpoint could be reached."""


class WatchPool:
    """Connections for the watches of one client, on one event loop."""

    def __init__(self, addresses: Sequence[str], *, connect_timeout_s: float) -> None:
        self._pool = Pool(addresses, connect_timeout_s=connect_timeout_s)
        self._connecting = asyncio.Lock()
        self._watches: set[AsyncWatch] = set()
        self.is_closed = False

    @property
    def addresses(self) -> tuple[str, ...]:
        return self._pool.addresses

    async def connection(self) -> Connection:
        """A connection that works at this moment; waits until there is one."""
        async with self._connecting:
            while True:
                current = self._pool.current
                if current is not None and current.is_ready:
                    return current
                if current is not None:
                    self._pool.drop(current)
                if await self._pool.connect() is None:
                    await asyncio.sleep(RETRY_S)

    def leave(self, connection: Connection) -> None:
        """Something is wrong with it: whoever asks from now on gets the next endpoint."""
        self._pool.drop(connection)

    def suspect(self, address: str) -> None:
        """A server owes answers to calls: from a stream of its there may be nothing to hear either, and gRPC's keepalive would
        take seconds to tell. Watches that it serves go on at another one, and new ones begin there.
        """
        current = self._pool.current
        if current is not None and current.address == address:
            self._pool.drop(current)
        for watch in self._watches:
            watch.leave(address)

    def released(self, connection: Connection) -> None:
        """A stream on it has ended."""
        self._pool.landed(connection)

    def add(self, watch: AsyncWatch) -> None:
        """Close it with the pool."""
        self._watches.add(watch)

    def discard(self, watch: AsyncWatch) -> None:
        self._watches.discard(watch)

    async def close(self) -> None:
        """End all watches and close the connections. Idempotent."""
        self.is_closed = True
        for watch in list(self._watches):
            await watch.close()
        await self._pool.close()

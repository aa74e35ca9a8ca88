"""The asyncio face: `raftkv.aio.connect(...)` gives a client with the names of the sync one.

async with raftkv.aio.connect("10.0.0.1:2379") as kv:
    await kv.put("config/mode", "blue")
    async for item in kv.range(prefix="config/"):
        ...
"""

from __future__ import annotations

from raftkv.client.asynchronous import AsyncClient, AsyncRange, AsyncTxn, connect
from raftkv.client.electing import AsyncElection, AsyncObservation
from raftkv.client.leasing import AsyncLease
from raftkv.client.locking import AsyncLock
from raftkv.client.watching import AsyncWatch

__all__ = [
    "AsyncClient",
    "AsyncElection",
    "AsyncLease",
    "AsyncLock",
    "AsyncObservation",
    "AsyncRange",
    "AsyncTxn",
    "AsyncWatch",
    "connect",
]

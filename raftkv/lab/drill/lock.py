"""One drill at a time: a key that its holder rewrites every two seconds, and loses when it stops doing so.

It needs no lease and trusts no clock but one's own: whoever finds the key watches it, and takes it over, by compare-and-swap, only
if it has not changed for longer than any outage that a drill would sit through.

What may not live here: what the lock protects.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import socket
import time
from contextlib import suppress
from typing import Any

from raftkv.aio import AsyncClient
from raftkv.client import KeyValue
from raftkv.errors import RequestError
from raftkv.lab.drill.options import DrillError

KEY = "raftkv-drill-lock"
RENEW_S = 2.0
STALE_S = 20.0


class DrillLock:
    """The lock of one cluster.

    Args:
        client: of the cluster.
        stale_s: how long the key must not have changed to be taken over.
        renew_s: how often the holder changes it.
    """

    def __init__(self, client: AsyncClient, *, stale_s: float = STALE_S, renew_s: float = RENEW_S) -> None:
        self._client = client
        self._stale_s = stale_s
        self._renew_s = renew_s
        holder = {"host": socket.gethostname(), "pid": os.getpid(), "token": secrets.token_hex(8)}
        self._value = json.dumps(holder)  # Always the same: it is the key's revision that shows life.
        self._renewing: asyncio.Task[None] | None = None
        self.is_lost = False

    async def take(self) -> None:
        """Take the lock. Where the key is there already, watch it until it is clear whether its holder lives.

        Raises:
            DrillError: another drill is running.
            RequestError: the cluster does not answer.
        """
        found = await self._client.get(KEY)
        if found is not None:
            found = await self._until_stale(found)
        condition = self._client[KEY].missing if found is None else self._client[KEY].mod_revision == found.mod_revision
        done = await self._client.txn().when(condition).then(self._client.op.put(KEY, self._value)).commit()
        if not done.succeeded:
            raise DrillError("another drill has just begun on this cluster")
        self._renewing = asyncio.create_task(self._renew(), name="drill-lock")

    async def give_back(self) -> None:
        """Remove the key if it is still ours. Raises RequestError."""
        if self._renewing is None:
            return
        self._renewing.cancel()
        await asyncio.gather(self._renewing, return_exceptions=True)
        self._renewing = None
        await self._client.txn().when(self._is_ours()).then(self._client.op.delete(KEY)).commit()

    def check(self) -> None:
        """Raises DrillError: somebody else has taken the lock, or removed it."""
        if self.is_lost:
            raise DrillError(f"the lock of this drill, {KEY}, was taken away: is another drill running?")

    async def _until_stale(self, found: KeyValue) -> KeyValue | None:
        """Return what is to be replaced: the key as it was found, or None if it has gone."""
        deadline = time.monotonic() + self._stale_s
        while time.monotonic() < deadline:
            await asyncio.sleep(self._renew_s / 4)
            now = await self._client.get(KEY)
            if now is None:
                return None
            if now.mod_revision != found.mod_revision:
                raise DrillError(f"another drill is running on this cluster ({_holder(now)})")
        return found

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._renew_s)
            with suppress(RequestError):  # In the middle of an outage: the next one may get through.
                ours = self._client.txn().when(self._is_ours())
                done = await ours.then(self._client.op.put(KEY, self._value)).commit(timeout=self._renew_s)
                if not done.succeeded:
                    self.is_lost = True
                    return

    def _is_ours(self) -> Any:
        return self._client[KEY].value == self._value


def _holder(item: KeyValue) -> str:
    try:
        holder = json.loads(item.text)
        return f"process {holder['pid']} on {holder['host']}"
    except (ValueError, KeyError, TypeError):
        return f"key {KEY}"

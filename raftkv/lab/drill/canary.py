"""The canary: a few clients that read and write all the time under a prefix of their own, and record everything.

Each of several clients has one write and one read in flight, and begins at another node. All work on the same few keys, so that a
stale read is noticed; a key is left before so many operations have touched it that a judge would not come to an end. Values are
unique. After a write of unknown outcome its task goes on under another name.

What may not live here: faults, and what the record shows (``measuring.py``, ``verdict.py``).
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from raftkv import aio
from raftkv.client import KeyValue
from raftkv.errors import Compacted, Outcome, RequestError
from raftkv.lab.history import Operation, Recorder

CLIENTS = 4
KEYS_AT_ONCE = 4
OPERATIONS_PER_KEY = 150
PAUSE_S = 0.004
TIMEOUT_S = 3.0
LOOK_UP_TIMEOUT_S = 10.0
LOOK_UPS_AT_ONCE = 64

Result = dict[str, Any]


class Canary:
    """The clients of one round.

    Args:
        endpoints: of all nodes.
        prefix: what the round's keys begin with.
        timeout_s: of each read and write.
    """

    def __init__(self, endpoints: Sequence[str], prefix: str, *, timeout_s: float = TIMEOUT_S) -> None:
        self.recorder = Recorder()
        self.errors: Counter[str] = Counter()
        """By kind, and what became of it: ``write: Unavailable, unknown``."""
        self.succeeded: Counter[str] = Counter()
        """``put`` and ``get``: how often so far."""
        self._prefix = prefix
        self._timeout_s = timeout_s
        self._rng = random.Random()
        rotated = [[*endpoints[n % len(endpoints) :], *endpoints[: n % len(endpoints)]] for n in range(CLIENTS)]
        self._clients = [aio.connect(order, timeout=timeout_s) for order in rotated]
        self._names = 0
        self._values = 0
        self._keys: list[str] = []
        self._uses: Counter[str] = Counter()
        self._active: list[str] = [self._new_key() for _ in range(KEYS_AT_ONCE)]
        self._going = True
        self._work: list[asyncio.Task[None]] = []

    @property
    def operations(self) -> Sequence[Operation]:
        """What has returned so far, or never will."""
        return self.recorder.operations

    def start(self) -> None:
        """Begin."""
        for client in self._clients:
            self._work += [asyncio.create_task(self._writer(client)), asyncio.create_task(self._reader(client))]

    def check(self) -> None:
        """Raise what a client has died of, if one has: a bug, of the drill or of the client."""
        for task in self._work:
            if task.done():
                task.result()

    async def stop(self) -> None:
        """Finish what is under way."""
        self._going = False
        await asyncio.gather(*self._work)

    async def close(self) -> None:
        """Give everything up, finished or not."""
        for task in self._work:
            task.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)
        for client in self._clients:
            await client.close()

    async def read_everything(self) -> None:
        """Read every key once more, as part of the history. Raises RequestError."""
        for key in self._keys:
            name, call = self._new_name("end"), self.recorder.now()
            result = await self._get(self._clients[0], key)(LOOK_UP_TIMEOUT_S)
            self.recorder.returned(name, call, "get", {"key": key}, result)

    async def lost_writes(self) -> list[str]:
        """Acknowledged writes that are not in the store's history, where that is not compacted. Raises RequestError."""
        limit = asyncio.Semaphore(LOOK_UPS_AT_ONCE)

        async def is_there(put: Operation) -> bool:
            async with limit:
                try:
                    item = await self._clients[0].get(
                        put.args["key"], revision=put.revision or 0, timeout=LOOK_UP_TIMEOUT_S
                    )
                except Compacted:
                    return True
            return item is not None and (item.text, item.mod_revision) == (put.args["value"], put.revision)

        puts = [operation for operation in self.operations if operation.op == "put" and operation.known]
        found = await asyncio.gather(*map(is_there, puts))
        return [str(put) for put, there in zip(puts, found, strict=True) if not there]

    async def _writer(self, client: aio.AsyncClient) -> None:
        name = self._new_name("w")
        while self._going:
            key, value = self._pick_key(), self._new_value()
            if not await self._perform(name, "put", {"key": key, "value": value}, self._put(client, key, value)):
                name = self._new_name("w")
            await asyncio.sleep(PAUSE_S)

    async def _reader(self, client: aio.AsyncClient) -> None:
        name = self._new_name("r")
        while self._going:
            key = self._pick_key()
            await self._perform(name, "get", {"key": key}, self._get(client, key))
            await asyncio.sleep(PAUSE_S)

    async def _perform(self, name: str, op: str, args: Result, work: Callable[[float], Awaitable[Result]]) -> bool:
        """Do it and record it. False: its outcome is unknown, so the name is spent."""
        call = self.recorder.now()
        try:
            result = await work(self._timeout_s)
        except RequestError as error:
            kind = type(error).__name__
            if op == "put" and error.outcome is not Outcome.NOT_APPLIED:
                self.errors[f"write: {kind}, unknown"] += 1
                self.recorder.never_returned(name, call, op, args)
                return False
            self.errors[f"write: {kind}, not applied" if op == "put" else f"read: {kind}"] += 1
            self.recorder.refused(name, call, op, args, str(error))
        else:
            self.recorder.returned(name, call, op, args, result)
            self.succeeded[op] += 1
        return True

    def _put(self, client: aio.AsyncClient, key: str, value: str) -> Callable[[float], Awaitable[Result]]:
        async def work(timeout_s: float) -> Result:
            done = await client.put(key, value, timeout=timeout_s)
            return {"revision": done.revision}

        return work

    def _get(self, client: aio.AsyncClient, key: str) -> Callable[[float], Awaitable[Result]]:
        """A range of one key: a get does not tell the revision."""

        async def work(timeout_s: float) -> Result:
            found = client.range(key, key + "\0", timeout=timeout_s)
            items = [item async for item in found]
            return {"revision": found.revision, "item": _as_recorded(items[0] if items else None)}

        return work

    def _pick_key(self) -> str:
        position = self._rng.randrange(len(self._active))
        key = self._active[position]
        self._uses[key] += 1
        if self._uses[key] >= OPERATIONS_PER_KEY:
            self._active[position] = self._new_key()
        return key

    def _new_key(self) -> str:
        key = f"{self._prefix}{len(self._keys):05}"
        self._keys.append(key)
        return key

    def _new_value(self) -> str:
        self._values += 1
        return f"{self._prefix}#{self._values}"

    def _new_name(self, kind: str) -> str:
        self._names += 1
        return f"{kind}{self._names}"


def _as_recorded(item: KeyValue | None) -> list[Any] | None:
    return None if item is None else [item.name, item.text, item.mod_revision]

"""Clients that record everything they do: nine at a time, three bound to one node each, the others free to choose.

A bound client is the one that meets a deposed leader; a free one shows what failing over does. They work on a few small groups of
keys at once, so that they meet, and leave a group before its keys have had 200 operations. Values are unique. A client whose
write has an unknown outcome is never heard of again; another takes its place.

They run on an event loop in a thread of its own, because what breaks the cluster blocks.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from array import array
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from itertools import pairwise
from types import TracebackType
from typing import Any, Self, TypeVar

from raftkv import aio
from raftkv.client import KeyValue
from raftkv.errors import Outcome, RequestError
from raftkv.lab.history import Operation, Recorder

KEYS = ("a", "b", "c")
GROUPS_AT_ONCE = 4
OPERATIONS_PER_GROUP = 170  # Some more may be under way when the group is left, and the end reads it once more.
FREE_CLIENTS = 6
PAUSE_S = (0.005, 0.025)
TIMEOUTS_S = (0.7, 3.0)
CALL_DEADLINE_S = 30.0

T = TypeVar("T")
Result = dict[str, Any]


class Group:
    """Some keys that are read together, and what they were last seen to hold: good guesses for compare-and-swap."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.keys = [f"{name}/{key}" for key in KEYS]
        self.span = {"key": f"{name}/", "end": f"{name}0"}
        self.operations = 0
        self.seen: dict[str, str | None] = dict.fromkeys(self.keys)


class Clients:
    """Recording clients of one cluster, for one round."""

    def __init__(self, endpoints: Mapping[str, str], *, name: str, seed: str) -> None:
        self.recorder = Recorder()
        self._endpoints = dict(endpoints)
        self._name = name
        self._rng = random.Random(seed)
        self._successes = array("d")  # Ascending: all clients share one loop.
        self._values = 0
        self._names = 0
        self._groups: list[Group] = []
        self._active: list[Group] = []
        self._going = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="clients", daemon=True)
        self._connections: dict[str, aio.AsyncClient] = {}
        self._work: Future[None] | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        self._call(self._connect())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._going.clear()
        try:
            self._call(self._disconnect())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(CALL_DEADLINE_S)
            self._loop.close()

    # For the one who breaks things.

    def start(self) -> None:
        """Begin to work."""
        self._going.set()
        self._work = asyncio.run_coroutine_threadsafe(self._all(), self._loop)

    def stop(self) -> None:
        """Finish what is under way. Raises what a client has died of."""
        self._going.clear()
        assert self._work is not None, "stop follows start"
        self._work.result(CALL_DEADLINE_S)

    def check(self) -> None:
        """Raise what a client has died of, if one has: that is a bug of these tests or of the client."""
        if self._work is not None and self._work.done():
            self._work.result()

    def successes_since(self, moment: float) -> int:
        return len(self._successes) - bisect_left(self._successes, moment)

    def longest_gap_s(self, since: float) -> float:
        """The longest time without any success, since a moment and until now."""
        marks = [since, *self._successes[bisect_left(self._successes, since) :], time.monotonic()]
        return max(later - earlier for earlier, later in pairwise(marks))

    def last_write_everywhere(self) -> None:
        """One write through every node. Raises RequestError: that node does not serve."""
        group = self._new_group()
        for node in self._endpoints:
            self._call(self._write_once(node, group))

    def read_everything(self) -> None:
        """Read all that was written, as part of the history. Raises RequestError."""
        self._call(self._read_groups())

    def revisions_gone(self, operations: Sequence[Operation]) -> list[str]:
        """Acknowledged puts that are not in the store's history at their revision, where that is not compacted."""
        puts = [operation for operation in operations if operation.op == "put" and operation.known]
        return self._call(self._look_up(puts))

    # On the loop's thread.

    async def _connect(self) -> None:
        for node, endpoint in self._endpoints.items():
            self._connections[node] = aio.connect(endpoint)
        self._connections["any"] = aio.connect(list(self._endpoints.values()))

    async def _disconnect(self) -> None:
        if self._work is not None:
            await asyncio.gather(
                asyncio.wrap_future(self._work), return_exceptions=True
            )  # What it died of, `check` and `stop` have raised.
        for connection in self._connections.values():
            await connection.close()

    async def _all(self) -> None:
        for _ in range(GROUPS_AT_ONCE):
            self._active.append(self._new_group())
        async with asyncio.TaskGroup() as tasks:
            for through in [*self._endpoints, *["any"] * FREE_CLIENTS]:
                tasks.create_task(self._one(through))

    async def _one(self, through: str) -> None:
        """One client after the other: the next when the outcome of a write is unknown."""
        name = self._new_name(through)
        while self._going.is_set():
            group = self._pick_group()
            operation = self._rng.choices(*zip(*self._menu(), strict=True))[0]
            op, args, work = operation(self._connections[through], group)
            if not await self._perform(name, op, args, work, reads=op in ("get", "range")):
                name = self._new_name(through)
            await asyncio.sleep(self._rng.uniform(*PAUSE_S))

    async def _perform(
        self, name: str, op: str, args: Result, work: Callable[[float], Awaitable[Result]], *, reads: bool
    ) -> bool:
        """Do and record it. False: its outcome is unknown, so the client id is spent."""
        timeout = self._rng.choice(TIMEOUTS_S)
        call = self.recorder.now()
        try:
            result = await work(timeout)
        except RequestError as error:
            if not reads and error.outcome is not Outcome.NOT_APPLIED:
                self.recorder.never_returned(name, call, op, args)
                return False
            self.recorder.refused(name, call, op, args, str(error))
        else:
            self.recorder.returned(name, call, op, args, result)
            self._successes.append(time.monotonic())
        return True

    def _menu(self) -> list[tuple[Callable[..., Any], int]]:
        return [(self._put, 7), (self._get, 7), (self._cas, 3), (self._delete, 2), (self._range, 2), (self._txn, 2)]

    def _put(self, kv: aio.AsyncClient, group: Group) -> tuple[str, Result, Any]:
        key, value, previous = self._rng.choice(group.keys), self._value(), self._rng.random() < 0.3

        async def work(timeout: float) -> Result:
            done = await kv.put(key, value, previous=previous, timeout=timeout)
            group.seen[key] = value
            told = {"previous": item_of(done.previous)} if previous else {}
            return {"revision": done.revision} | told

        return "put", {"key": key, "value": value}, work

    def _get(self, kv: aio.AsyncClient, group: Group) -> tuple[str, Result, Any]:
        """A range of one key: a get would not tell the revision."""
        key = self._rng.choice(group.keys)

        async def work(timeout: float) -> Result:
            found = kv.range(key, key + "\0", timeout=timeout)
            items = [item async for item in found]
            group.seen[key] = items[0].text if items else None
            return {"revision": found.revision, "item": item_of(items[0] if items else None)}

        return "get", {"key": key}, work

    def _range(self, kv: aio.AsyncClient, group: Group) -> tuple[str, Result, Any]:
        async def work(timeout: float) -> Result:
            found = kv.range(group.span["key"], group.span["end"], timeout=timeout)
            items = [item_of(item) async for item in found]
            return {"revision": found.revision, "items": items}

        return "range", dict(group.span), work

    def _delete(self, kv: aio.AsyncClient, group: Group) -> tuple[str, Result, Any]:
        key = self._rng.choice(group.keys)

        async def work(timeout: float) -> Result:
            done = await kv.delete(key, previous=True, timeout=timeout)
            group.seen[key] = None
            return {
                "revision": done.revision,
                "deleted": done.deleted,
                "previous": [item_of(item) for item in done.previous],
            }

        return "delete", {"key": key}, work

    def _cas(self, kv: aio.AsyncClient, group: Group) -> tuple[str, Result, Any]:
        key, value = self._rng.choice(group.keys), self._value()
        expected = group.seen[key]

        async def work(timeout: float) -> Result:
            condition = kv[key].missing if expected is None else kv[key].value == expected
            txn = kv.txn().when(condition).then(kv.op.put(key, value)).otherwise(kv.op.get(key))
            done = await txn.commit(timeout=timeout)
            if done.succeeded:
                group.seen[key] = value
                return {"revision": done.revision, "succeeded": True}
            item = done.responses[0].first  # type: ignore[union-attr]
            group.seen[key] = None if item is None else item.text
            return {"revision": done.revision, "succeeded": False, "item": item_of(item)}

        return "cas", {"key": key, "expected": expected, "value": value}, work

    def _txn(self, kv: aio.AsyncClient, group: Group) -> tuple[str, Result, Any]:
        """Two puts and a deletion at once, if a key holds what we think; else a look at all keys."""
        one, two, three = self._rng.sample(group.keys, 3)
        expected, first, second = group.seen[one], self._value(), self._value()

        async def work(timeout: float) -> Result:
            condition = kv[one].missing if expected is None else kv[one].value == expected
            writes = (kv.op.put(one, first), kv.op.put(two, second), kv.op.delete(three, previous=True))
            read = kv.op.range(group.span["key"], group.span["end"])
            done = await kv.txn().when(condition).then(*writes).otherwise(read).commit(timeout=timeout)
            group.seen |= {one: first, two: second, three: None} if done.succeeded else {}
            return {"revision": done.revision, "succeeded": done.succeeded, "responses": _responses(done)}

        then = [
            {"op": "put", "args": {"key": one, "value": first}},
            {"op": "put", "args": {"key": two, "value": second}},
            {"op": "delete", "args": {"key": three}},
        ]
        otherwise = [{"op": "range", "args": dict(group.span)}]
        return "txn", {"when": [[one, expected]], "then": then, "otherwise": otherwise}, work

    async def _write_once(self, node: str, group: Group) -> None:
        key, value, name = self._rng.choice(group.keys), self._value(), self._new_name(node)
        call = self.recorder.now()
        done = await self._connections[node].put(key, value, timeout=10.0)
        self.recorder.returned(name, call, "put", {"key": key, "value": value}, {"revision": done.revision})

    async def _read_groups(self) -> None:
        name = self._new_name("end")
        for group in self._groups:
            op, args, work = self._range(self._connections["any"], group)
            call = self.recorder.now()
            self.recorder.returned(name, call, op, args, await work(10.0))

    async def _look_up(self, puts: Sequence[Operation]) -> list[str]:
        kv = self._connections["any"]

        async def is_there(put: Operation) -> bool:
            try:
                item = await kv.get(put.args["key"], revision=put.revision or 0, timeout=10.0)
            except RequestError as error:
                if "compacted" in str(error):
                    return True
                raise
            return item is not None and (item.text, item.mod_revision) == (put.args["value"], put.revision)

        there = await asyncio.gather(*map(is_there, puts))
        return [str(put) for put, found in zip(puts, there, strict=True) if not found]

    # Names.

    def _value(self) -> str:
        self._values += 1
        return f"{self._name}.{self._values}"

    def _new_name(self, through: str) -> str:
        self._names += 1
        return f"{self._name}/{through}/{self._names}"

    def _new_group(self) -> Group:
        group = Group(f"{self._name}/g{len(self._groups):03}")
        self._groups.append(group)
        return group

    def _pick_group(self) -> Group:
        position = self._rng.randrange(len(self._active))
        group = self._active[position]
        group.operations += 1
        if group.operations == OPERATIONS_PER_GROUP:
            self._active[position] = self._new_group()
        return group

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(CALL_DEADLINE_S)


def item_of(item: KeyValue | None) -> list[Any] | None:
    """A key as a history has it."""
    return None if item is None else [item.name, item.text, item.mod_revision]


def _responses(done: Any) -> list[Result]:
    if not done.succeeded:
        return [{"items": [item_of(item) for item in done.responses[0].items]}]
    deletion = done.responses[2]
    return [{}, {}, {"deleted": deletion.deleted, "previous": [item_of(item) for item in deletion.previous]}]

"""Writes through the Python client, all the time, and a record of what became of each: the judge of the demo.

Every write has a key and a value of its own, so that it can be looked up afterwards, and is sent once: a write whose outcome is
unknown is recorded as such, and counts neither as acknowledged nor as lost, whether it turns up later or not.

The writers run on an event loop in a thread of their own. What may not live here: processes, faults, printing.
"""

from __future__ import annotations

import asyncio
import threading
import time
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from types import TracebackType
from typing import Any, Self

from raftkv import aio
from raftkv.errors import Outcome, RequestError

PREFIX = "demo/"
_CONNECT_DEADLINE_S = 10.0
_CALL_TIMEOUT_S = 5.0
_PAGE_KEYS = 2_000


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Writes so far: acknowledged, of unknown outcome, and surely not applied."""

    acknowledged: int
    unknown: int
    refused: int


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What reading everything back has shown.

    Attributes:
        acknowledged: how many writes were acknowledged.
        lost: keys of acknowledged writes that are not there, or not with their value.
        unknown_applied: writes of unknown outcome that are there.
        unknown_absent: writes of unknown outcome that are not there.
        intruders: keys that are there although their write was surely not applied, or never made.
    """

    acknowledged: int
    lost: list[str]
    unknown_applied: int
    unknown_absent: int
    intruders: list[str]

    @property
    def good(self) -> bool:
        return not self.lost and not self.intruders


class Traffic:
    """Some writers, each with one put in flight at a time."""

    def __init__(
        self, endpoints: Sequence[str], *, writers: int = 8, pause_s: float = 0.004, timeout_s: float = 1.0
    ) -> None:
        self._endpoints = ",".join(endpoints)
        self._writers = writers
        self.pause_s = pause_s
        self._timeout_s = timeout_s
        self._acknowledged: dict[str, str] = {}
        self._unknown: dict[str, str] = {}
        self._in_flight: dict[str, str] = {}
        self._refused = 0
        self._ack_times = array("d")  # Ascending: all writers share one loop.
        self._next = 0
        self._going = threading.Event()
        self._closed = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="traffic", daemon=True)
        self._work: Future[None] | None = None
        self._client: Any = None

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._client = self._call(self._connect(), _CONNECT_DEADLINE_S)
        except BaseException:
            self._close_loop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._closed:
            return
        self._closed = True
        self._going.clear()
        with suppress(RequestError, TimeoutError):
            self._call(self._close_client(), _CALL_TIMEOUT_S)
        self._close_loop()

    # Writers.

    def start(self) -> None:
        """Start writing; does nothing while it goes on already."""
        if not self._going.is_set():
            self._going.set()
            self._work = asyncio.run_coroutine_threadsafe(self._write_all(), self._loop)

    def stop(self) -> None:
        """Stop writing and wait until nothing is in flight."""
        self._going.clear()
        if self._work is not None:
            self._work.result(self._timeout_s + _CALL_TIMEOUT_S)
            self._work = None

    def check(self) -> None:
        """Raise what a writer has died of, if one has: that is a bug, not an outcome."""
        if self._work is not None and self._work.done():
            self._work.result()

    # What was seen.

    @property
    def counts(self) -> Counts:
        return Counts(acknowledged=len(self._acknowledged), unknown=len(self._unknown), refused=self._refused)

    def rate(self, *, window_s: float = 1.0) -> float:
        """Acknowledged writes a second, lately."""
        return self.acknowledged_since(time.monotonic() - window_s) / window_s

    def acknowledged_since(self, moment: float) -> int:
        """Writes acknowledged since a moment on ``time.monotonic()``."""
        return len(self._ack_times) - bisect_left(self._ack_times, moment)

    def longest_gap_s(self, since: float) -> float:
        """The longest time without any acknowledgement since a moment: the outage as clients saw it.

        A gap that lasts still counts as far as it has got. One that began before the moment counts from there.
        """
        times = self._ack_times[bisect_left(self._ack_times, since) :]
        marks = [since, *times, time.monotonic()] if self._going.is_set() else [since, *times]
        return max((later - earlier for earlier, later in pairwise(marks)), default=0.0)

    def rates(self, *, bins: int, bin_s: float) -> list[int]:
        """Acknowledged writes in each of the last ``bins`` spans of ``bin_s`` seconds, oldest first."""
        end = time.monotonic()
        edges = [bisect_left(self._ack_times, end - bin_s * number) for number in range(bins, -1, -1)]
        return [later - earlier for earlier, later in pairwise(edges)]

    # Single requests, for a prompt.

    def put(self, key: str, value: str) -> None:
        """Write a key of the user's. Raises RequestError."""
        self._call(self._client.put(key, value, timeout=_CALL_TIMEOUT_S), 2 * _CALL_TIMEOUT_S)

    def get(self, key: str) -> Any:
        """The item of a key, or None. Raises RequestError."""
        return self._call(self._client.get(key, timeout=_CALL_TIMEOUT_S), 2 * _CALL_TIMEOUT_S)

    def delete(self, key: str) -> Any:
        """Delete a key of the user's. Raises RequestError."""
        return self._call(self._client.delete(key, timeout=_CALL_TIMEOUT_S), 2 * _CALL_TIMEOUT_S)

    def read_back(self, *, deadline_s: float = 30.0) -> Verdict:
        """Read everything, linearizably, and compare it with the record. Nothing may be in flight.

        Raises:
            RequestError: it could not be read.
        """
        assert not self._in_flight, f"{len(self._in_flight)} writes in flight: stop writing before you judge"
        there = self._call(self._read_all(), deadline_s)
        unknown_applied = sum(there.get(key) == value for key, value in self._unknown.items())
        return Verdict(
            acknowledged=len(self._acknowledged),
            lost=sorted(key for key, value in self._acknowledged.items() if there.get(key) != value),
            unknown_applied=unknown_applied,
            unknown_absent=len(self._unknown) - unknown_applied,
            intruders=sorted(key for key in there if key not in self._acknowledged and key not in self._unknown),
        )

    # On the loop's thread.

    async def _connect(self) -> Any:
        return await aio.connect(self._endpoints, timeout=_CALL_TIMEOUT_S).__aenter__()

    async def _close_client(self) -> None:
        if self._work is not None:
            await asyncio.wrap_future(self._work)
        await self._client.__aexit__(None, None, None)

    async def _write_all(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(self._writers):
                group.create_task(self._write())

    async def _write(self) -> None:
        while self._going.is_set():
            self._next += 1
            key, value = f"{PREFIX}{self._next:09}", f"value of write {self._next}"
            self._in_flight[key] = value
            try:
                await self._client.put(key, value, timeout=self._timeout_s)
            except RequestError as error:
                if error.outcome is Outcome.NOT_APPLIED:
                    self._refused += 1
                else:
                    self._unknown[key] = value
            else:
                self._acknowledged[key] = value
                self._ack_times.append(time.monotonic())
            del self._in_flight[key]
            await asyncio.sleep(self.pause_s)

    async def _read_all(self) -> dict[str, str]:
        there: dict[str, str] = {}
        async for item in self._client.range(prefix=PREFIX):
            there[item.key.decode()] = item.value.decode()
        return there

    def _call(self, work: Any, deadline_s: float) -> Any:
        return asyncio.run_coroutine_threadsafe(_as_coroutine(work), self._loop).result(deadline_s)

    def _close_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CALL_TIMEOUT_S)
        self._loop.close()


async def _as_coroutine(work: Any) -> Any:
    return await work

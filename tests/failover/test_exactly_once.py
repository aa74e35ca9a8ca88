"""raftkv's client through failovers: no write fails, and each takes effect once."""

from __future__ import annotations

import asyncio

import raftkv
from tests.failover.conftest import Start
from tests.failover.load import WAIT_S, nodes_agree

WRITERS = 16


class Counters:
    """Writers with a key each, whose version counts how often it was written: so it must be the number of its puts."""

    def __init__(self, kv: raftkv.AsyncClient) -> None:
        self.kv = kv
        self.puts = [0] * WRITERS
        self._is_over = False
        self._writing = [asyncio.create_task(self._write(number)) for number in range(WRITERS)]

    async def _write(self, number: int) -> None:
        while not self._is_over:
            await self.kv.put(f"counter/{number}", f"{self.puts[number]}", timeout=WAIT_S)
            self.puts[number] += 1

    async def more(self, count: int) -> None:
        """Wait until so many more puts have returned. A writer that failed ends the wait."""
        wanted = sum(self.puts) + count
        while sum(self.puts) < wanted:
            done, _ = await asyncio.wait(self._writing, timeout=0.02, return_when=asyncio.FIRST_COMPLETED)
            for failed in done:
                failed.result()

    async def stop(self) -> list[int]:
        """The versions of the keys, when every put has returned."""
        self._is_over = True
        await asyncio.gather(*self._writing)
        return [item.version async for item in self.kv.range(prefix="counter/", sort="create_revision")]


async def test_writes_through_leader_kills_all_succeed_and_none_is_applied_twice(start_cluster: Start) -> None:
    cluster = await asyncio.to_thread(start_cluster)
    async with raftkv.aio.connect(list(cluster.endpoints.values())) as kv:
        counters = Counters(kv)
        for _ in range(3):
            await counters.more(300)
            leader = await asyncio.to_thread(cluster.wait_for_leader)
            await asyncio.to_thread(cluster.kill, leader)
            await counters.more(300)
            await asyncio.to_thread(cluster.start, [leader])

        versions = await counters.stop()

    assert sorted(versions) == sorted(counters.puts)
    await asyncio.to_thread(nodes_agree, cluster)

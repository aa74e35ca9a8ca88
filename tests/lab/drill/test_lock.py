"""One drill at a time, without leases and without trust in clocks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from raftkv import aio
from raftkv.lab.cluster import LocalCluster
from raftkv.lab.drill.lock import KEY, DrillLock
from raftkv.lab.drill.options import DrillError
from raftkv.lab.process import wait_until
from tests.lab.drill.conftest import Run, last_line

WAIT_S = 20.0


@pytest.fixture
async def client(cluster: LocalCluster) -> AsyncIterator[aio.AsyncClient]:
    async with aio.connect(list(cluster.endpoints.values())) as client:
        yield client
        await client.delete(KEY)


async def test_a_second_drill_is_refused_and_told_who_is_there(client: aio.AsyncClient) -> None:
    first = DrillLock(client, renew_s=0.1)
    await first.take()

    with pytest.raises(DrillError, match="another drill is running on this cluster \\(process "):
        await DrillLock(client, renew_s=0.1).take()

    first.check()
    await first.give_back()
    assert await client.get(KEY) is None


async def test_the_lock_of_a_drill_that_died_is_taken_over(client: aio.AsyncClient) -> None:
    dead = DrillLock(client, renew_s=3600.0)
    await dead.take()

    living = DrillLock(client, renew_s=0.1, stale_s=0.5)
    await living.take()

    await dead.give_back()  # It is not its own any more.
    assert await client.get(KEY) is not None
    await living.give_back()
    assert await client.get(KEY) is None


async def test_a_drill_notices_that_its_lock_is_gone(client: aio.AsyncClient) -> None:
    lock = DrillLock(client, renew_s=0.05)
    await lock.take()

    await client.delete(KEY)

    assert await asyncio.to_thread(wait_until, lambda: lock.is_lost, WAIT_S)
    with pytest.raises(DrillError, match="was taken away"):
        lock.check()
    await lock.give_back()


async def test_two_drills_at_once(client: aio.AsyncClient, cluster: LocalCluster, run: Run) -> None:
    lock = DrillLock(client)
    await lock.take()

    done = await asyncio.to_thread(run, "--local", str(cluster.directory))

    assert done.returncode == 1
    assert "another drill is running on this cluster" in last_line(done)
    await lock.give_back()

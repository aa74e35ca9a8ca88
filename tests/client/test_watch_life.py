"""Watches, and observations of elections, that are given up, closed or begun at a bad moment."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

import raftkv
from raftkv import Limits
from tests.client.fakes import FakeStore
from tests.support import WAIT_S, eventually

NewStore = Callable[..., Awaitable[FakeStore]]


async def test_a_block_that_is_not_entered_leaves_no_watch_behind(store: FakeStore) -> None:
    store.gate.clear()
    async with raftkv.aio.connect(store.address) as kv:
        entering = asyncio.create_task(kv.watch("k").__aenter__())
        await eventually(lambda: store.watching == 1)
        entering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await entering

        await eventually(lambda: store.watching == 0)


async def test_a_watch_is_waited_for_no_longer_than_asked_and_goes_on(store: FakeStore) -> None:
    store.gate.clear()
    async with raftkv.aio.connect(store.address) as kv:
        events = kv.watch("k")
        for _ in range(2):
            with pytest.raises(raftkv.DeadlineExceeded, match=r"no event within 0.05 s: the watch was not created"):
                await events.next(timeout=0.05)
        await eventually(lambda: store.watching == 1)

        store.gate.set()
        await events.start()
        with pytest.raises(raftkv.DeadlineExceeded, match=r"no event within 0.05 s$"):
            await events.next(timeout=0.05)


async def test_a_new_watch_avoids_a_server_that_owes_answers_to_calls(new_store: NewStore) -> None:
    silent, other = await new_store(), await new_store()
    limits = Limits(stall_s=0.1)
    async with raftkv.aio.connect([silent.address, other.address], limits=limits) as kv:
        async with kv.watch("k"):
            assert silent.watching == 1
        silent.gate.clear()
        await kv.get("k")

        async with kv.watch("k"):
            assert other.watching == 1


@pytest.mark.parametrize("is_asking", [True, False], ids=["while it asks", "while it watches"])
async def test_closing_an_observation_ends_its_iteration(store: FakeStore, is_asking: bool) -> None:
    async def hear(leaders: raftkv.client.AsyncObservation) -> list[bytes]:
        return [leader.key async for leader in leaders]

    if is_asking:
        store.gate.clear()
    async with raftkv.aio.connect(store.address) as kv:
        leaders = kv.election("n").observe()
        hearing = asyncio.create_task(hear(leaders))
        await eventually(lambda: store.batches if is_asking else store.watching)
        await leaders.close()

        async with asyncio.timeout(WAIT_S):
            assert await hearing == []
        with pytest.raises(raftkv.Cancelled, match="the observation is closed"):
            await leaders.next()


@pytest.mark.parametrize("is_asking", [True, False], ids=["while it asks", "while it watches"])
async def test_another_thread_may_close_an_observation(store: FakeStore, is_asking: bool) -> None:
    if is_asking:
        store.gate.clear()
    with raftkv.connect(store.address) as kv:
        leaders = kv.election("n").observe()
        hearing = asyncio.create_task(asyncio.to_thread(list, leaders))
        await eventually(lambda: store.batches if is_asking else store.watching)
        await asyncio.to_thread(leaders.close)

        async with asyncio.timeout(WAIT_S):
            assert await hearing == []

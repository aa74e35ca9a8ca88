"""Batches: who shares a call, how large, how many at once; and what happens when there are too many callers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

import raftkv
from raftkv import Limits, Outcome
from raftkv.errors import BATCH_ANSWERS_TOO_LARGE
from tests.client.fakes import FakeStore, failure
from tests.support import eventually

NewStore = Callable[..., Awaitable[FakeStore]]


async def test_many_callers_share_few_calls(store: FakeStore) -> None:
    async with raftkv.aio.connect(store.address) as kv:
        results = await asyncio.gather(*(kv.put(f"k{i}", "v") for i in range(1000)))

    assert len({result.revision for result in results}) == 1000
    assert sum(store.batches) == 1000
    assert len(store.batches) <= 5


async def test_what_queues_while_calls_are_in_flight_goes_as_one_call(store: FakeStore) -> None:
    async with raftkv.aio.connect(store.address) as kv:
        await kv.put("warm", "up")
        store.gate.clear()
        first = [asyncio.create_task(kv.put("first", "v"))]
        await eventually(lambda: len(store.batches) == 2)
        for _ in range(3):
            first.append(asyncio.create_task(kv.put("more", "v")))
            await eventually(lambda: sum(store.batches) == len(first) + 1)
        rest = [asyncio.create_task(kv.put(f"k{i}", "v")) for i in range(50)]
        store.gate.set()
        await asyncio.gather(*first, *rest)

    assert store.batches == [1, 1, 1, 1, 1, 50]
    assert store.in_flight_max == 4


async def test_a_lone_caller_does_not_wait_for_company(store: FakeStore) -> None:
    async with raftkv.aio.connect(store.address) as kv:
        await kv.put("warm", "up")
        took = []
        for _ in range(20):
            start = time.monotonic()
            await kv.put("k", "v")
            took.append(time.monotonic() - start)

    assert min(took) < 0.02
    assert store.batches == [1] * 21


async def test_batches_are_bounded_in_operations_and_bytes(store: FakeStore) -> None:
    limits = Limits(operations_max=10, bytes_max=1000)
    async with raftkv.aio.connect(store.address, limits=limits) as kv:
        await asyncio.gather(*(kv.put(f"k{i}", "v") for i in range(95)))
        assert max(store.batches) == 10

        store.batches.clear()
        await asyncio.gather(*(kv.put(f"k{i}", "v" * 300) for i in range(30)))
        assert max(store.batches) == 3

        await kv.put("large", "v" * 2000)
        assert store.batches[-1] == 1


async def test_operations_of_one_caller_are_applied_in_order(store: FakeStore) -> None:
    async def caller(kv: raftkv.AsyncClient, name: str) -> None:
        for i in range(20):
            await kv.put(f"{name}/{i:02}", "v")

    async with raftkv.aio.connect(store.address, limits=Limits(operations_max=7)) as kv:
        await asyncio.gather(*(caller(kv, f"c{i}") for i in range(20)))

    for i in range(20):
        mine = [key for key in store.applied if key.startswith(b"c%d/" % i)]
        assert mine == sorted(mine)
        assert len(mine) == 20


async def test_threads_share_calls_too(store: FakeStore) -> None:
    def callers(kv: raftkv.Client) -> None:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(20) as threads:
            list(threads.map(lambda i: kv.put(f"k{i}", "v"), range(20)))

    store.gate.clear()
    with raftkv.connect(store.address) as kv:
        work = asyncio.create_task(asyncio.to_thread(callers, kv))
        await eventually(lambda: len(store.batches) == 1)
        store.gate.set()
        await work

    assert sum(store.batches) == 20
    assert len(store.batches) < 15


async def test_every_operation_of_a_batch_gets_its_own_answer(store: FakeStore) -> None:
    store.on_command = lambda command: (
        failure(5, "etcdserver: requested lease not found", not_applied=True) if command.put.lease else None
    )
    async with raftkv.aio.connect(store.address) as kv:
        put, refused, item, txn, gone = await asyncio.gather(
            kv.put("a", "1"),
            kv.put("b", "1", lease=9),
            kv.get("a"),
            kv.txn().then(kv.op.get("a")).commit(),
            kv.delete("none"),
            return_exceptions=True,
        )

    assert store.batches == [5]
    assert isinstance(put, raftkv.PutResult)
    assert isinstance(refused, raftkv.NotFound)
    assert refused.outcome is Outcome.NOT_APPLIED
    assert isinstance(item, raftkv.KeyValue)
    assert isinstance(txn, raftkv.TxnResult)
    assert isinstance(gone, raftkv.DeleteResult)


async def test_a_read_whose_answer_had_no_room_beside_others_is_asked_for_by_itself(store: FakeStore) -> None:
    store.on_command = lambda command: (
        failure(8, BATCH_ANSWERS_TOO_LARGE, not_applied=True) if command.range.key == b"large" else None
    )
    async with raftkv.aio.connect(store.address) as kv:
        await kv.put("large", "v")
        large, small = await asyncio.gather(kv.get("large"), kv.get("small"))
        await kv.put("after", "v")

    assert large is not None
    assert large.value == b"v"
    assert small is None
    assert (store.unary, store.batches) == (1, [1, 2, 1])


async def test_a_server_without_batch_gets_plain_calls_from_then_on(new_store: NewStore) -> None:
    store = await new_store(batching=False)
    async with raftkv.aio.connect(store.address) as kv:
        await asyncio.gather(*(kv.put(f"k{i}", "v") for i in range(200)))
        assert (await kv.get("k7")) is not None

    assert (store.unary, store.batches) == (201, [])


async def test_callers_wait_for_room_when_the_queue_is_full_and_lose_nothing(store: FakeStore) -> None:
    limits = Limits(queue_operations_max=10, operations_max=5)
    store.gate.clear()
    async with raftkv.aio.connect(store.address, limits=limits) as kv:
        calls = [asyncio.create_task(kv.put(f"k{i}", "v")) for i in range(100)]
        await eventually(lambda: len(store.batches) == 1)
        store.gate.set()
        await asyncio.gather(*calls)

    assert sorted(store.applied) == sorted(b"k%d" % i for i in range(100))
    assert max(store.batches) <= 5


async def test_who_found_no_room_in_time_knows_that_nothing_was_applied(store: FakeStore) -> None:
    limits = Limits(queue_operations_max=1, operations_max=1)
    store.gate.clear()
    async with raftkv.aio.connect(store.address, limits=limits) as kv:
        calls = [asyncio.create_task(kv.put(f"k{i}", "v", timeout=0.3)) for i in range(10)]
        results = await asyncio.gather(*calls, return_exceptions=True)

    errors = [result for result in results if isinstance(result, raftkv.DeadlineExceeded)]
    assert len(errors) == 10
    outcomes = [error.outcome for error in errors]
    # Who is sent when another one has given up, a moment before its own deadline, is unknown as well.
    assert 1 <= outcomes.count(Outcome.UNKNOWN) == len(store.batches) < 10
    assert outcomes.count(Outcome.NOT_APPLIED) == 10 - len(store.batches)


async def test_a_cancelled_caller_in_the_queue_is_never_sent(store: FakeStore) -> None:
    store.gate.clear()
    async with raftkv.aio.connect(store.address) as kv:
        first = asyncio.create_task(kv.put("first", "v"))
        await eventually(lambda: len(store.batches) == 1)
        second, third = asyncio.create_task(kv.put("second", "v")), asyncio.create_task(kv.put("third", "v"))
        await asyncio.wait([second], timeout=0)
        second.cancel()
        store.gate.set()
        await asyncio.gather(first, third)

    assert store.applied == [b"first", b"third"]


async def test_the_number_of_answers_is_checked(store: FakeStore) -> None:
    from raftkv.pb import store_pb2

    async def one_too_few(request: store_pb2.BatchRequest, context: object) -> store_pb2.BatchResponse:
        return store_pb2.BatchResponse()

    store.on_batch = one_too_few
    async with raftkv.aio.connect(store.address) as kv:
        with pytest.raises(raftkv.RequestError, match="0 answers to 1 operations") as caught:
            await kv.put("k", "v")

    assert caught.value.outcome is Outcome.UNKNOWN

"""What becomes of operations when servers refuse, die, hang, or say that they cannot."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest

import raftkv
from raftkv import Limits, Outcome
from raftkv.errors import Code
from tests.client.fakes import FakeStore, breaking_server, failure
from tests.support import eventually, free_port

NewStore = Callable[..., Awaitable[FakeStore]]


async def test_a_refused_connection_costs_a_write_nothing(store: FakeStore) -> None:
    endpoints = [f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}", store.address]
    start = time.monotonic()
    async with raftkv.aio.connect(endpoints) as kv:
        await kv.put("k", "v")

    assert store.applied == [b"k"]
    assert time.monotonic() - start < 1.0


async def test_an_endpoint_that_accepts_and_says_nothing_is_passed_over(store: FakeStore) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        endpoints = [f"127.0.0.1:{mute.getsockname()[1]}", store.address]
        start = time.monotonic()
        async with raftkv.aio.connect(endpoints) as kv:
            await kv.put("k", "v")

        assert time.monotonic() - start < 1.0
    assert store.applied == [b"k"]


async def test_a_write_without_any_reachable_endpoint_was_not_applied() -> None:
    endpoints = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    async with raftkv.aio.connect(endpoints, timeout=0.3) as kv:
        with pytest.raises(raftkv.DeadlineExceeded, match=r"cannot connect to 127\.0\.0\.1") as caught:
            await kv.put("k", "v")

    assert caught.value.outcome is Outcome.NOT_APPLIED


async def test_a_read_whose_connection_broke_is_sent_to_another_endpoint(store: FakeStore) -> None:
    store.data[b"cut-me"] = b"v"
    async with (
        breaking_server() as (address, received),
        raftkv.aio.connect([address, store.address]) as kv,
    ):
        item = await kv.get("cut-me")

    assert item is not None
    assert item.text == "v"
    assert len(received) == 1


async def test_a_server_stopped_with_a_write_under_way_leaves_it_unknown(new_store: NewStore) -> None:
    first, second = await new_store(), await new_store()
    first.gate.clear()
    async with raftkv.aio.connect([first.address, second.address]) as kv:
        write, read = asyncio.create_task(kv.put("k", "v")), asyncio.create_task(kv.get("k"))
        await eventually(lambda: first.batches == [2])
        await first.stop()

        with pytest.raises(raftkv.Unavailable) as caught:
            await write
        assert caught.value.outcome is Outcome.UNKNOWN
        assert await read is None
        assert second.applied == []

        await kv.put("next", "v")
    assert second.applied == [b"next"]


@pytest.mark.parametrize("code", [Code.INTERNAL, Code.UNKNOWN, Code.ABORTED, Code.CANCELLED, Code.RESOURCE_EXHAUSTED])
async def test_a_write_that_failed_without_a_word_about_its_outcome_is_unknown(store: FakeStore, code: Code) -> None:
    async def abort(request: Any, context: Any) -> None:
        status = next(status for status in grpc.StatusCode if status.value[0] == code)
        await context.abort(status, "something")

    store.on_batch = abort
    async with raftkv.aio.connect(store.address) as kv:
        with pytest.raises(raftkv.RequestError, match="something") as caught:
            await kv.put("k", "v")

    assert (caught.value.code, caught.value.outcome) == (code, Outcome.UNKNOWN)
    assert len(store.batches) == 1


async def test_a_relayed_text_is_no_proof_that_a_write_was_not_sent(store: FakeStore) -> None:
    """A server may pass on the text of a call of its own; with any metadata it is the server that speaks."""

    async def relay(request: Any, context: Any) -> None:
        await context.abort(
            grpc.StatusCode.UNAVAILABLE, "failed to connect to all addresses; last error: …", (("via", "proxy"),)
        )

    store.on_batch = relay
    async with raftkv.aio.connect(store.address) as kv:
        with pytest.raises(raftkv.Unavailable) as caught:
            await kv.put("k", "v")

    assert caught.value.outcome is Outcome.UNKNOWN
    assert len(store.batches) == 1


async def test_a_write_the_server_says_it_did_not_apply_is_sent_again(new_store: NewStore) -> None:
    first, second = await new_store(), await new_store()

    async def refuse(request: Any, context: Any) -> None:
        await context.abort(grpc.StatusCode.UNAVAILABLE, "etcdserver: no leader", (("raftkv-outcome", "not-applied"),))

    first.on_batch = refuse
    async with raftkv.aio.connect([first.address, second.address]) as kv:
        await kv.put("k", "v")

    assert second.applied == [b"k"]
    assert first.batches == [1]


async def test_a_single_operation_the_server_did_not_apply_is_sent_again_until_it_is(store: FakeStore) -> None:
    refusals = 5

    def refuse(command: Any) -> Any:
        nonlocal refusals
        if command.put.key == b"late" and refusals:
            refusals -= 1
            return failure(14, "etcdserver: no leader", not_applied=True)
        return None

    store.on_command = refuse
    async with raftkv.aio.connect(store.address) as kv:
        await asyncio.gather(kv.put("early", "v"), kv.put("late", "v"))

    assert store.applied == [b"early", b"late"]


async def test_an_unknown_outcome_in_an_answer_is_handed_to_the_caller(store: FakeStore) -> None:
    store.on_command = lambda command: failure(14, "etcdserver: request timed out", not_applied=False)
    async with raftkv.aio.connect(store.address) as kv:
        with pytest.raises(raftkv.Unavailable, match="request timed out") as caught:
            await kv.put("k", "v")

    assert caught.value.outcome is Outcome.UNKNOWN
    assert store.batches == [1]


async def test_a_client_sticks_to_one_endpoint_and_finds_it_again_after_a_restart(new_store: NewStore) -> None:
    memory: dict[tuple[int, int], Any] = {}
    first, second = await new_store(sessions=memory), await new_store(sessions=memory)
    async with raftkv.aio.connect([first.address, second.address]) as kv:
        for _ in range(5):
            await kv.put("k", "v")
        assert (len(first.applied), len(second.applied)) == (5, 0)

        await first.stop()
        await kv.put("k", "v")
        assert len(second.applied) == 1

        await second.stop()
        again = await new_store(port=first.port, sessions=memory)
        await kv.put("k", "v")
        assert len(again.applied) == 1


async def test_an_outage_of_the_only_endpoint_is_waited_for(new_store: NewStore) -> None:
    memory: dict[tuple[int, int], Any] = {}
    first = await new_store(sessions=memory)
    async with raftkv.aio.connect(first.address) as kv:
        await kv.put("k", "v")
        await first.stop()
        waiting = asyncio.create_task(kv.put("k", "w"))
        await asyncio.wait([waiting], timeout=0.2)
        back = await new_store(port=first.port, sessions=memory)
        start = time.monotonic()
        await waiting

        assert time.monotonic() - start < 1.0
    assert back.data == {b"k": b"w"}


async def test_a_silent_endpoint_keeps_its_writes_and_loses_its_reads_and_newcomers(new_store: NewStore) -> None:
    silent, other = await new_store(), await new_store()
    silent.gate.clear()
    limits = Limits(stall_s=0.1)
    async with raftkv.aio.connect([silent.address, other.address], limits=limits) as kv:
        write, read = asyncio.create_task(kv.put("k", "v")), asyncio.create_task(kv.get("k"))
        await eventually(lambda: silent.batches == [2])

        assert await read is None
        await kv.put("newcomer", "v")
        assert (other.batches, other.applied) == ([1, 1], [b"newcomer"])
        assert not write.done()

        silent.gate.set()
        assert (await write).revision == 2
    assert silent.applied == [b"k"]


async def test_the_deadline_of_a_write_in_flight_leaves_it_unknown(store: FakeStore) -> None:
    store.gate.clear()
    async with raftkv.aio.connect(store.address) as kv:
        start = time.monotonic()
        with pytest.raises(raftkv.DeadlineExceeded) as write:
            await kv.put("k", "v", timeout=0.1)
        with pytest.raises(raftkv.DeadlineExceeded) as read:
            await kv.get("k", timeout=0.1)

        assert 0.15 < time.monotonic() - start < 1.0
    assert write.value.outcome is Outcome.UNKNOWN
    assert read.value.outcome is Outcome.NOT_APPLIED


async def test_operations_of_one_batch_keep_their_own_deadlines(store: FakeStore) -> None:
    store.gate.clear()
    async with raftkv.aio.connect(store.address) as kv:
        short, long = (asyncio.create_task(kv.put("k", "v", timeout=t)) for t in (0.1, 5.0))
        with pytest.raises(raftkv.DeadlineExceeded) as caught:
            await short
        assert caught.value.outcome is Outcome.UNKNOWN
        assert store.batches == [2]

        store.gate.set()
        assert (await long).revision == 3


async def test_the_deadline_of_a_write_in_the_queue_means_not_applied(store: FakeStore) -> None:
    store.gate.clear()
    async with raftkv.aio.connect(store.address) as kv:
        first = asyncio.create_task(kv.put("first", "v"))
        await eventually(lambda: store.batches == [1])
        with pytest.raises(raftkv.DeadlineExceeded, match="never sent") as caught:
            await kv.put("second", "v", timeout=0.1)
        assert caught.value.outcome is Outcome.NOT_APPLIED

        store.gate.set()
        await first
    assert store.applied == [b"first"]


async def test_asking_one_endpoint_asks_no_other(new_store: NewStore) -> None:
    first, second = await new_store(), await new_store()
    dead = f"127.0.0.1:{free_port()}"
    async with raftkv.aio.connect([first.address, second.address]) as kv:
        assert (await kv.status(second.address)).version == "fake"
        assert (first.unary, second.unary) == (0, 1)

        with pytest.raises(raftkv.Unavailable, match=f"cannot connect to {dead}"):
            await kv.status(dead)
        second.gate.clear()
        with pytest.raises(raftkv.DeadlineExceeded, match="no answer from"):
            await kv.status(second.address, timeout=0.1)


async def test_a_read_that_a_closing_server_broke_is_asked_elsewhere(new_store: NewStore) -> None:
    """gRPC ends a call that a closing server has not taken up with CANCELLED, in nobody's words."""
    first, second = await new_store(), await new_store()
    second.data[b"k"] = b"v"

    async def cancel(request: Any, context: Any) -> None:
        await context.abort(grpc.StatusCode.CANCELLED, "CANCELLED")

    first.on_batch = cancel
    async with raftkv.aio.connect([first.address, second.address]) as kv:
        item = await kv.get("k")

    assert item is not None
    assert item.text == "v"

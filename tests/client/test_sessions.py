"""Writes that are numbered in a session are sent again, and take effect once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest

import raftkv
from raftkv import Limits, Outcome
from raftkv.errors import NO_SPACE, SESSION_EXPIRED, Code
from tests.client.fakes import FakeStore, failure
from tests.support import eventually

NewStore = Callable[..., Awaitable[FakeStore]]


@pytest.fixture
async def pair(new_store: NewStore) -> tuple[FakeStore, FakeStore]:
    """Two nodes of one cluster: what one remembers of a session, the other does too."""
    memory: dict[tuple[int, int], Any] = {}
    return await new_store(sessions=memory), await new_store(sessions=memory)


def addresses(pair: tuple[FakeStore, FakeStore]) -> list[str]:
    return [store.address for store in pair]


async def lose_answer(request: Any, context: Any) -> None:
    """What a client sees of a connection that breaks: nothing of the server's own."""
    await context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")


async def test_a_write_whose_answer_was_lost_is_sent_again_and_gets_the_first_answer(
    pair: tuple[FakeStore, FakeStore],
) -> None:
    first, second = pair

    first.loses_answers = True
    async with raftkv.aio.connect(addresses(pair)) as kv:
        put = await kv.put("k", "v")

        assert put.revision == 2
        assert (first.applied, second.applied) == ([b"k"], [])
        assert [(command.session, command.sequence) for command in second.commands] == [(301, 1)]


async def test_a_write_that_waits_at_a_silent_endpoint_is_sent_to_another(pair: tuple[FakeStore, FakeStore]) -> None:
    silent, other = pair
    silent.gate.clear()
    async with raftkv.aio.connect(addresses(pair), limits=Limits(stall_s=0.1)) as kv:
        put = await kv.put("k", "v")

        assert other.applied == [b"k"]
        silent.gate.set()
        await kv.put("next", "v")
        assert put.revision == 2
    assert (silent.applied, other.applied) == ([], [b"k", b"next"])


async def test_answers_that_the_client_has_are_settled(pair: tuple[FakeStore, FakeStore]) -> None:
    async with raftkv.aio.connect(addresses(pair)) as kv:
        for _ in range(3):
            await kv.put("k", "v")
        await asyncio.gather(*(kv.put("k", "v") for _ in range(3)))

    numbers = [(command.sequence, command.settled_below) for command in pair[0].commands]
    assert numbers == [(1, 1), (2, 2), (3, 3), (4, 4), (5, 0), (6, 0)]


async def test_a_reader_opens_no_session(pair: tuple[FakeStore, FakeStore]) -> None:
    async with raftkv.aio.connect(addresses(pair)) as kv:
        await kv.get("k")
        assert pair[0].opened == 0

        await asyncio.gather(kv.get("k"), kv.put("k", "v"), kv.delete("k"), kv.get("k"))
        assert pair[0].opened == 1


async def test_a_session_that_the_cluster_has_forgotten_is_replaced(pair: tuple[FakeStore, FakeStore]) -> None:
    store = pair[0]
    store.on_command = lambda command: (
        failure(Code.FAILED_PRECONDITION, SESSION_EXPIRED, not_applied=True) if command.session == 301 else None
    )
    async with raftkv.aio.connect(store.address) as kv:
        await kv.put("k", "v")

    assert (store.opened, store.applied) == (2, [b"k"])


async def test_a_write_in_doubt_whose_session_is_forgotten_stays_in_doubt(pair: tuple[FakeStore, FakeStore]) -> None:
    first, second = pair

    first.on_batch = lose_answer
    second.on_command = lambda command: failure(Code.FAILED_PRECONDITION, SESSION_EXPIRED, not_applied=True)
    async with raftkv.aio.connect(addresses(pair)) as kv:
        with pytest.raises(raftkv.SessionExpired) as caught:
            await kv.put("k", "v")

    assert caught.value.outcome is Outcome.UNKNOWN
    assert second.opened == 0


async def test_what_a_server_refuses_of_a_write_in_doubt_says_nothing_of_the_first_copy(
    pair: tuple[FakeStore, FakeStore],
) -> None:
    first, second = pair

    first.on_batch = lose_answer
    second.on_command = lambda command: failure(Code.RESOURCE_EXHAUSTED, NO_SPACE, not_applied=True)
    async with raftkv.aio.connect(addresses(pair)) as kv:
        with pytest.raises(raftkv.ResourceExhausted) as caught:
            await kv.put("k", "v")

    assert caught.value.outcome is Outcome.UNKNOWN


async def test_a_write_in_doubt_that_finds_no_endpoint_in_time_is_unknown(pair: tuple[FakeStore, FakeStore]) -> None:
    store = pair[0]

    store.on_batch = lose_answer
    async with raftkv.aio.connect(store.address) as kv:
        with pytest.raises(raftkv.DeadlineExceeded, match="was sent and had no answer") as caught:
            await kv.put("k", "v", timeout=1.0)

    assert caught.value.outcome is Outcome.UNKNOWN


async def test_closing_a_client_leaves_a_write_in_doubt_unknown(pair: tuple[FakeStore, FakeStore]) -> None:
    store = pair[0]

    store.on_batch = lose_answer
    async with raftkv.aio.connect(store.address) as kv:
        write = asyncio.create_task(kv.put("k", "v", timeout=30))
        await eventually(lambda: len(store.batches) > 1)
    with pytest.raises(raftkv.Cancelled) as caught:
        await write

    assert caught.value.outcome is Outcome.UNKNOWN


async def test_a_server_without_sessions_gets_writes_without(new_store: NewStore) -> None:
    store = await new_store()
    async with raftkv.aio.connect(store.address) as kv:
        await kv.put("k", "v")
        await kv.put("k", "v")

    assert (store.batches, store.commands) == ([1, 1], [])


async def test_a_full_session_still_sends_its_own_writes_again(
    pair: tuple[FakeStore, FakeStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raftkv.client.session.OUTSTANDING_MAX", 4)
    store = pair[0]

    async def lose_one_answer(request: Any, context: Any) -> None:
        store.on_batch = None
        await lose_answer(request, context)

    async with raftkv.aio.connect(store.address) as kv:
        await kv.put("opens", "the session")
        store.on_batch = lose_one_answer
        await asyncio.gather(*(kv.put(f"k{number}", "v") for number in range(6)))

    assert sorted(store.applied) == [b"k0", b"k1", b"k2", b"k3", b"k4", b"k5", b"opens"]
    assert store.opened == 1


@pytest.mark.parametrize("code", [grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED])
async def test_a_server_that_opened_no_session_in_time_is_asked_again(
    pair: tuple[FakeStore, FakeStore], code: grpc.StatusCode
) -> None:
    store = pair[0]

    async def fail_once(request: Any, context: Any) -> None:
        store.on_open = None
        await context.abort(code, "not now")

    store.on_open = fail_once
    async with raftkv.aio.connect(store.address) as kv:
        await kv.put("k", "v")

    assert [(command.session, command.sequence) for command in store.commands] == [(302, 1)]

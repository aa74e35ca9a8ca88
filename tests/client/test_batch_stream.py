"""The stream that a client's batches travel on: answers in any order, and what becomes of batches when it breaks or ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

import raftkv
from raftkv import Limits, Outcome
from raftkv.client.batch_stream import BATCHES_PATH, BatchStream
from raftkv.client.outcomes import CallFailed, Failure
from raftkv.errors import Code
from raftkv.pb import store_pb2
from tests.client.fakes import FakeStore, Flight
from tests.support import WAIT_S, eventually

NewStore = Callable[..., Awaitable[FakeStore]]
EIGHT = Limits(flights_max=8, operations_max=1)


class Held:
    """Holds the batches of a store, of one command each, until their keys are let go."""

    def __init__(self, store: FakeStore) -> None:
        self.arrived: list[bytes] = []
        self.ends = asyncio.Event()
        """The stream on which anything is held ends as if its connection broke."""
        self._free: dict[bytes, asyncio.Event] = {}
        store.on_batch = self._hold

    def let_go(self, *keys: bytes) -> None:
        for key in keys:
            self._of(key).set()

    def _of(self, key: bytes) -> asyncio.Event:
        return self._free.setdefault(key, asyncio.Event())

    async def _hold(self, request: store_pb2.BatchRequest, flight: Flight) -> None:
        (command,) = request.commands
        key = command.put.key or command.range.key
        self.arrived.append(key)
        ways = [asyncio.ensure_future(way.wait()) for way in (self._of(key), self.ends)]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        if self.ends.is_set():
            await flight.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")


# --- answers ----------------------------------------------------------------------------------------------------------


async def test_many_batches_travel_on_one_stream_and_are_answered_in_any_order(store: FakeStore) -> None:
    keys = [b"k%d" % number for number in range(8)]
    store.data = {key: b"of " + key for key in keys}
    answered: list[bytes] = []
    async with raftkv.aio.connect(store.address, limits=EIGHT) as kv:
        await kv.get("warm")
        held = Held(store)

        async def ask(key: bytes) -> None:
            item = await kv.get(key)
            assert item is not None
            assert item.value == b"of " + key
            answered.append(key)

        asking = [asyncio.create_task(ask(key)) for key in keys]
        await eventually(lambda: len(held.arrived) == 8)
        for key in reversed(keys):
            held.let_go(key)
            await eventually(lambda key=key: key in answered)  # type: ignore[misc]
        await asyncio.gather(*asking)

    assert answered == keys[::-1]
    assert store.streams == 1


async def test_an_answer_that_comes_too_late_is_passed_over_and_the_stream_goes_on(store: FakeStore) -> None:
    async with raftkv.aio.connect(store.address, limits=EIGHT) as kv:
        await kv.put("warm", "up")
        held = Held(store)
        with pytest.raises(raftkv.DeadlineExceeded) as caught:
            await kv.put("late", "v", timeout=0.1)
        held.let_go(b"late", b"next")
        await kv.put("next", "v")

    assert caught.value.outcome is Outcome.UNKNOWN
    assert store.applied == [b"warm", b"late", b"next"]
    assert store.streams == 1


async def test_an_answer_that_cannot_be_read_fails_its_batch_alone(store: FakeStore) -> None:
    async def nonsense(request: store_pb2.BatchRequest, flight: Flight) -> None:
        if request.commands[0].put.key == b"bad":
            await flight.answer(response=b"\x0b")

    async with raftkv.aio.connect(store.address, limits=EIGHT) as kv:
        await kv.put("warm", "up")
        store.on_batch = nonsense
        bad, good = await asyncio.gather(kv.put("bad", "v"), kv.put("good", "v"), return_exceptions=True)

    assert isinstance(bad, raftkv.RequestError)
    assert (bad.code, bad.outcome) == (Code.INTERNAL, Outcome.UNKNOWN)
    assert "sent bytes that are no answer" in bad.message
    assert isinstance(good, raftkv.PutResult)
    assert store.streams == 1


async def test_a_batch_that_is_refused_as_a_whole_has_the_text_and_outcome_of_its_failure(store: FakeStore) -> None:
    async def refuse(request: store_pb2.BatchRequest, flight: Flight) -> None:
        outcome = store_pb2.Failure.NOT_APPLIED
        await flight.answer(failure=store_pb2.Failure(code=3, message="raftkv: too many", outcome=outcome))

    store.on_batch = refuse
    async with raftkv.aio.connect(store.address) as kv:
        with pytest.raises(raftkv.InvalidArgument, match="raftkv: too many") as caught:
            await kv.put("k", "v")

    assert caught.value.outcome is Outcome.NOT_APPLIED


async def test_a_batch_larger_than_a_server_takes_fails_alone(node: str) -> None:
    limits = Limits(operations_max=1, bytes_max=32 << 20)
    async with raftkv.aio.connect(node, limits=limits) as kv:
        await kv.put("size", "v")
        results = await asyncio.gather(
            kv.put("size/larger than gRPC takes", bytes(10 << 20)),
            kv.put("size/larger than a value may be", bytes(5 << 20)),
            *(kv.put(f"size/{number}", bytes(1 << 19)) for number in range(4)),
            return_exceptions=True,
        )

    assert [type(result) for result in results] == [
        raftkv.ResourceExhausted,
        raftkv.InvalidArgument,
        *[raftkv.PutResult] * 4,
    ]


# --- the end of a stream ----------------------------------------------------------------------------------------------


async def test_of_the_writes_on_a_stream_that_breaks_those_without_an_answer_are_unknown(store: FakeStore) -> None:
    async with raftkv.aio.connect(store.address, limits=EIGHT) as kv:
        await kv.put("warm", "up")
        held = Held(store)
        writes = [asyncio.create_task(kv.put(f"k{number}", "v")) for number in range(4)]
        await eventually(lambda: len(held.arrived) == 4)
        held.let_go(b"k2")
        await writes[2]
        held.ends.set()
        results = await asyncio.gather(*writes, return_exceptions=True)

    assert [type(result) for result in results] == [
        raftkv.Unavailable,
        raftkv.Unavailable,
        raftkv.PutResult,
        raftkv.Unavailable,
    ]
    assert {result.outcome for result in results if isinstance(result, raftkv.Unavailable)} == {Outcome.UNKNOWN}


async def test_of_a_session_s_writes_on_a_stream_that_breaks_each_is_applied_once(new_store: NewStore) -> None:
    memory: dict[tuple[int, int], Any] = {}
    first, second = await new_store(sessions=memory), await new_store(sessions=memory)
    async with raftkv.aio.connect([first.address, second.address], limits=EIGHT) as kv:
        await kv.put("warm", "up")
        held = Held(first)
        writes = [asyncio.create_task(kv.put(f"k{number}", "v")) for number in range(4)]
        await eventually(lambda: len(held.arrived) == 4)
        first.loses_answers = True
        held.let_go(b"k2")
        results = await asyncio.gather(*writes)

    assert first.applied == [b"warm", b"k2"]
    assert sorted(second.applied) == [b"k0", b"k1", b"k3"]
    assert sorted(command.sequence for command in second.commands) == [2, 3, 4, 5]
    assert len({result.revision for result in results}) >= 3


async def test_a_stream_that_ended_while_nothing_was_on_it_is_replaced(new_store: NewStore) -> None:
    store = await new_store(sessions={})
    async with raftkv.aio.connect(store.address) as kv:
        await kv.put("k", "v")
        await store.end_streams()
        put = await kv.put("k", "v")

    assert put.revision == 3
    assert store.streams == 2


# --- the stream by itself ---------------------------------------------------------------------------------------------

Behaviour = Callable[[AsyncIterator[bytes], Any], Awaitable[None]]


@asynccontextmanager
async def stream_to(behaviour: Behaviour) -> AsyncIterator[BatchStream]:
    """A stream to a server that behaves so."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    handlers = {"Batches": grpc.stream_stream_rpc_method_handler(behaviour)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("raftkv.store.Store", handlers),))
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    async with grpc.aio.insecure_channel(address) as channel:
        stream = BatchStream(channel.stream_stream(BATCHES_PATH)(), address)
        try:
            yield stream
        finally:
            await stream.close()
    await server.stop(None)


async def failure_of(call: Awaitable[Any]) -> Failure:
    with pytest.raises(CallFailed) as caught:
        await call
    return caught.value.failure


async def take(context: Any) -> None:
    await context.write(store_pb2.NumberedResponse().SerializeToString())


async def answer(context: Any, raw: bytes) -> None:
    """Nothing was asked for."""
    number = store_pb2.NumberedRequest.FromString(raw).number
    response = store_pb2.BatchResponse().SerializeToString()
    await context.write(store_pb2.NumberedResponse(number=number, response=response).SerializeToString())


async def test_nothing_is_sent_before_the_server_has_taken_the_stream() -> None:
    arrived: list[bytes] = []

    async def mute(requests: AsyncIterator[bytes], context: Any) -> None:
        arrived.extend([raw async for raw in requests])

    async with stream_to(mute) as stream:
        failure = await failure_of(stream.call(b"", 0.1))

    assert (failure.code, failure.outcome) == (Code.DEADLINE_EXCEEDED, Outcome.NOT_APPLIED)
    assert arrived == []


async def test_of_a_stream_that_was_never_taken_nothing_is_applied() -> None:
    async def refuses(requests: AsyncIterator[bytes], context: Any) -> None:
        await context.abort(grpc.StatusCode.INTERNAL, "something")

    async with stream_to(refuses) as stream:
        failures = await asyncio.gather(*(failure_of(stream.call(b"", 30.0)) for _ in range(2)))

    assert failures == [Failure(Code.INTERNAL, "something", Outcome.NOT_APPLIED)] * 2


async def test_an_etcd_does_not_know_the_stream_and_gets_nothing_on_it(etcd: str) -> None:
    async with grpc.aio.insecure_channel(etcd.removeprefix("http://")) as channel:
        for _ in range(20):
            stream = BatchStream(channel.stream_stream(BATCHES_PATH)(), etcd)
            failure = await failure_of(stream.call(b"", 30.0))
            await stream.close()
            assert (failure.code, failure.outcome) == (Code.UNIMPLEMENTED, Outcome.NOT_APPLIED)


async def test_what_times_out_before_there_was_room_for_it_is_not_applied() -> None:
    """The first frame has no room, as the server reads nothing, and the second one waits for the first."""
    is_to_end = asyncio.Event()

    async def does_not_read(requests: AsyncIterator[bytes], context: Any) -> None:
        await take(context)
        await is_to_end.wait()

    async with stream_to(does_not_read) as stream:
        batches = ((bytes(16 << 20), 30.0), (b"", 0.2))
        first, second = (asyncio.create_task(failure_of(stream.call(*batch))) for batch in batches)
        late = await second
        is_to_end.set()
        unknown = await first

    assert (late.code, late.outcome) == (Code.DEADLINE_EXCEEDED, Outcome.NOT_APPLIED)
    assert (unknown.code, unknown.outcome) == (Code.UNAVAILABLE, Outcome.UNKNOWN)


@pytest.mark.parametrize("outcome", ["not-applied", "unknown"])
async def test_a_server_that_ends_a_stream_may_say_what_became_of_batches_without_an_answer(outcome: str) -> None:
    async def stops(requests: AsyncIterator[bytes], context: Any) -> None:
        await take(context)
        async for _ in requests:
            break
        await context.abort(grpc.StatusCode.UNAVAILABLE, "server stopped", (("raftkv-outcome", outcome),))

    async with stream_to(stops) as stream:
        failure = await failure_of(stream.call(b"", 30.0))

    expected = Outcome.NOT_APPLIED if outcome == "not-applied" else Outcome.UNKNOWN
    assert failure == Failure(Code.UNAVAILABLE, "server stopped", expected)


async def test_a_server_that_ends_a_stream_without_a_word_leaves_its_batches_unknown() -> None:
    async def returns(requests: AsyncIterator[bytes], context: Any) -> None:
        await take(context)
        async for _ in requests:
            break

    async with stream_to(returns) as stream:
        failure = await failure_of(stream.call(b"", 30.0))

    assert failure == Failure(Code.UNAVAILABLE, "the server closed the call", Outcome.UNKNOWN)


async def test_a_frame_that_is_none_ends_the_stream() -> None:
    async def nonsense(requests: AsyncIterator[bytes], context: Any) -> None:
        await take(context)
        async for _ in requests:
            await context.write(b"\x0b")

    async with stream_to(nonsense) as stream:
        failure = await failure_of(stream.call(b"", 30.0))
        assert not stream.is_open

    assert (failure.code, failure.outcome) == (Code.INTERNAL, Outcome.UNKNOWN)
    assert "sent bytes that are no answer" in failure.message


async def test_a_stream_on_which_nothing_is_under_way_is_closed_in_good_order() -> None:
    """Of a cancelled call gRPC goes on to tell, to a loop that may be closed."""
    ends: list[str] = []

    async def attentive(requests: AsyncIterator[bytes], context: Any) -> None:
        await take(context)
        try:
            async for raw in requests:
                await answer(context, raw)
            ends.append("in good order")
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise

    async with stream_to(attentive) as stream:
        await stream.call(b"", WAIT_S)
        await stream.close()

        await eventually(lambda: ends)
    assert ends == ["in good order"]


async def test_what_was_not_sent_when_its_stream_is_closed_never_is() -> None:
    arrived: list[bytes] = []

    async def attentive(requests: AsyncIterator[bytes], context: Any) -> None:
        await take(context)
        async for raw in requests:
            arrived.append(raw)
            await answer(context, raw)

    async with stream_to(attentive) as stream:
        await stream.call(b"", WAIT_S)
        call = asyncio.create_task(failure_of(stream.call(b"", WAIT_S)))
        await asyncio.sleep(0)  # It is queued, and the writer is told.
        await stream.close()

        assert (await call).outcome is Outcome.NOT_APPLIED
    assert len(arrived) == 1


async def test_closing_a_stream_fails_what_is_on_it_and_leaves_no_task() -> None:
    async def silent(requests: AsyncIterator[bytes], context: Any) -> None:
        await take(context)
        async for _ in requests:
            arrived.set()

    arrived = asyncio.Event()
    before = asyncio.all_tasks()
    async with stream_to(silent) as stream:
        call = asyncio.create_task(failure_of(stream.call(b"", 30.0)))
        await arrived.wait()
        await stream.close()
        failure = await call
        await stream.close()

    assert (failure.code, failure.outcome) == (Code.CANCELLED, Outcome.UNKNOWN)
    await eventually(lambda: asyncio.all_tasks() <= before | {asyncio.current_task()})  # type: ignore[operator]

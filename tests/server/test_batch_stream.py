"""A stream of batches: what is answered when, how much is under way, and how it ends. What batches mean plays no part here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from raftkv.errors import STOPPED, InvalidArgument, RequestError
from raftkv.pb import rpc_pb2, store_pb2
from raftkv.server import services
from raftkv.server.batch_stream import (
    BATCHES_PATH,
    STREAMS_PER_CONNECTION_MAX,
    TOO_MANY_STREAMS,
    UNDER_WAY_MAX,
    BatchStreams,
)
from raftkv.server.front import CHOICE, Front
from raftkv.server.services import Services
from tests.support import eventually, free_port

HOLD_S = 7.0
REQUEST_BYTES_MAX = 1 << 20


class Work:
    """Carries out batches as it is told: each has a name, and waits until that is allowed.

    Attributes:
        begun: batches and how long they may be held, as they came.
        cancelled: those that nobody waits for any more.
        allowed: names of those that need not wait.
        answer_bytes: size of every answer.
        refusal: raised instead of an answer, once it is allowed.
    """

    def __init__(self) -> None:
        self.begun: dict[bytes, float] = {}
        self.cancelled: list[bytes] = []
        self.allowed: set[bytes] = set()
        self.answer_bytes = 0
        self.refusal: RequestError | None = None
        self._news = asyncio.Condition()

    async def allow(self, *names: bytes) -> None:
        async with self._news:
            self.allowed.update(names)
            self._news.notify_all()

    async def __call__(self, batch: bytes, hold_s: float) -> store_pb2.BatchResponse:
        self.begun[batch] = hold_s
        try:
            async with self._news:
                await self._news.wait_for(lambda: batch in self.allowed or b"all" in self.allowed)
        except asyncio.CancelledError:
            self.cancelled.append(batch)
            raise
        if self.refusal is not None:
            raise self.refusal
        kv = {"value": bytes(self.answer_bytes)}
        return store_pb2.BatchResponse(answers=[store_pb2.Answer(range=rpc_pb2.RangeResponse(kvs=[kv]))])  # type: ignore[list-item]


class Client:
    """The other end of a stream."""

    def __init__(self, call: Any) -> None:
        self.call = call

    async def send(self, number: int, batch: bytes, hold_ms: int = 1000) -> None:
        frame = store_pb2.NumberedRequest(number=number, batch=batch, hold_ms=hold_ms)
        await self.call.write(frame.SerializeToString())

    async def next(self) -> store_pb2.NumberedResponse:
        return store_pb2.NumberedResponse.FromString(await self.call.read())

    async def ending(self) -> tuple[grpc.StatusCode, str, str | None]:
        """Read to the end: status, text, and what that says of batches without an answer."""
        try:
            while await self.call.read() is not grpc.aio.EOF:
                pass
        except grpc.aio.AioRpcError:
            pass
        trailing = dict(await self.call.trailing_metadata())
        return await self.call.code(), await self.call.details(), trailing.get("raftkv-outcome")


@pytest.fixture(params=["no", "yes"], ids=["grpcio", "pygrpc-native"], autouse=True)
def served_by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CHOICE, request.param)


@asynccontextmanager
async def serving(work: Work) -> AsyncIterator[tuple[Front, BatchStreams, grpc.aio.Channel]]:
    """A server of batches and a channel to it. No node is asked for anything."""
    front = Front([("grpc.max_receive_message_length", REQUEST_BYTES_MAX)])
    node: Any = None
    batches = BatchStreams(work, hold_s=HOLD_S)
    rpcs = Services(node, {}, streams={BATCHES_PATH: batches.serve}, hold_s=1.0)
    front.serve(rpcs.handlers, rest=rpcs)
    address = f"127.0.0.1:{free_port()}"
    front.listen([f"http://{address}"], flag="--listen-client-urls")
    await front.start()
    async with grpc.aio.insecure_channel(address) as channel:
        yield front, batches, channel
    await front.stop(None)


async def open_stream(channel: grpc.aio.Channel) -> Client:
    client = Client(channel.stream_stream(BATCHES_PATH)())
    assert await client.next() == store_pb2.NumberedResponse(), "the server takes the stream"
    return client


@asynccontextmanager
async def stream_of(work: Work) -> AsyncIterator[Client]:
    async with serving(work) as (_, _, channel):
        yield await open_stream(channel)


# --- answers ----------------------------------------------------------------------------------------------------------


async def test_each_batch_is_answered_as_soon_as_it_is_done() -> None:
    work = Work()
    async with stream_of(work) as client:
        for number, name in enumerate((b"a", b"b", b"c"), start=1):
            await client.send(number, name)
        for number, name in ((2, b"b"), (3, b"c"), (1, b"a")):
            await work.allow(name)
            answer = await client.next()
            assert (answer.number, answer.WhichOneof("result")) == (number, "response")


async def test_a_batch_that_is_refused_fails_alone() -> None:
    work = Work()
    work.refusal = InvalidArgument("raftkv: too many")
    async with stream_of(work) as client:
        await client.send(1, b"refused")
        await client.send(2, b"fine")
        await work.allow(b"refused")
        refused = await client.next()
        work.refusal = None
        await work.allow(b"fine")
        fine = await client.next()

    failure = store_pb2.Failure(code=3, message="raftkv: too many", outcome=store_pb2.Failure.NOT_APPLIED)
    assert refused == store_pb2.NumberedResponse(number=1, failure=failure)
    assert (fine.number, fine.WhichOneof("result")) == (2, "response")


async def test_a_frame_that_is_none_ends_the_stream_when_those_before_it_are_answered() -> None:
    work = Work()
    async with stream_of(work) as client:
        await client.send(1, b"good")
        await client.call.write(b"\x0b" * 100)
        await client.send(2, b"behind it")
        await eventually(lambda: b"good" in work.begun)
        await work.allow(b"good")

        assert (await client.next()).number == 1
        code, text, outcome = await client.ending()

    assert (code, outcome) == (grpc.StatusCode.INTERNAL, "not-applied")
    assert text.startswith("grpc: error unmarshalling request: ")
    assert list(work.begun) == [b"good"]


async def test_how_long_a_batch_may_be_held_has_bounds() -> None:
    work = Work()
    await work.allow(b"all")
    async with stream_of(work) as client:
        for number, hold_ms in enumerate((0, 1, 1000, 2**32 - 1), start=1):
            await client.send(number, b"%d" % hold_ms, hold_ms)
            assert (await client.next()).number == number

    assert work.begun == {b"0": HOLD_S, b"1": 0.0, b"1000": pytest.approx(0.98), b"%d" % (2**32 - 1): 86_400.0}


async def test_a_bug_ends_the_stream_and_cancels_the_others() -> None:
    work = Work()

    async def fails(batch: bytes, hold_s: float) -> store_pb2.BatchResponse:
        if batch == b"bug":
            raise KeyError("a bug")
        return await work(batch, hold_s)

    async with stream_of(fails) as client:  # type: ignore[arg-type]
        await client.send(1, b"waits")
        await client.send(2, b"bug")
        code, _, outcome = await client.ending()

    assert (code, outcome) == (grpc.StatusCode.UNKNOWN, None)
    assert work.cancelled == [b"waits"]


# --- bounds -----------------------------------------------------------------------------------------------------------


async def test_no_more_batches_than_there_is_room_for_are_under_way() -> None:
    work = Work()
    async with stream_of(work) as client:
        for number in range(UNDER_WAY_MAX + 2):
            await client.send(number, b"%d" % number)
        await eventually(lambda: len(work.begun) == UNDER_WAY_MAX)
        await work.allow(b"7")
        assert (await client.next()).number == 7
        await eventually(lambda: len(work.begun) == UNDER_WAY_MAX + 1)
        await work.allow(b"all")
        numbers = {7} | {(await client.next()).number for _ in range(UNDER_WAY_MAX + 1)}

    assert numbers == set(range(UNDER_WAY_MAX + 2))


async def test_a_client_that_sends_and_never_reads_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "STALLED_S", 0.2)
    work = Work()
    work.answer_bytes = 1 << 20
    async with serving(work) as (_, _, channel):
        client, other = await open_stream(channel), await open_stream(channel)
        await work.allow(b"another", *(b"%d" % number for number in range(1000)))
        await client.send(1000, b"waits")

        async def send_for_ever() -> None:
            for number in range(1000):
                await client.send(number, b"%d" % number)

        sending = asyncio.create_task(send_for_ever())
        await eventually(lambda: work.cancelled == [b"waits"])

        begun = len(work.begun)
        assert begun < 200, "no more was carried out than the connection holds answers for"
        await other.send(1, b"another")
        assert (await other.next()).number == 1
        code, _, outcome = await client.ending()
        assert code is not grpc.StatusCode.OK
        assert outcome != "not-applied", "it was read, and its answers were thrown away"
        await asyncio.gather(
            sending, return_exceptions=True
        )  # Unless all it had to send had room somewhere, it failed.
        assert len(work.begun) == begun + 1


@pytest.mark.parametrize("served_by", ["no"], ids=["grpcio"], indirect=True)  # Behind the other connections look alike.
async def test_a_connection_has_so_many_streams_and_no_more() -> None:
    async with serving(Work()) as (_, _, channel):
        streams = [await open_stream(channel) for _ in range(STREAMS_PER_CONNECTION_MAX)]

        refused = Client(channel.stream_stream(BATCHES_PATH)())

        assert await refused.ending() == (grpc.StatusCode.RESOURCE_EXHAUSTED, TOO_MANY_STREAMS, "not-applied")
        await streams[0].call.done_writing()
        assert (await streams[0].ending())[0] is grpc.StatusCode.OK
        await open_stream(channel)


async def test_a_frame_larger_than_the_server_takes_ends_its_stream_and_no_other() -> None:
    work = Work()
    await work.allow(b"all")
    async with serving(work) as (_, _, channel):
        client, other = await open_stream(channel), await open_stream(channel)
        await client.send(1, bytes(REQUEST_BYTES_MAX + 1))
        code, text, _ = await client.ending()
        await other.send(1, b"fine")
        assert (await other.next()).number == 1

    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in text
    assert list(work.begun) == [b"fine"]


# --- the end ----------------------------------------------------------------------------------------------------------


async def test_a_client_that_goes_away_takes_its_batches_along() -> None:
    work = Work()
    async with stream_of(work) as client:
        await client.send(1, b"a")
        await client.send(2, b"b")
        await eventually(lambda: len(work.begun) == 2)
        client.call.cancel()
        await eventually(lambda: sorted(work.cancelled) == [b"a", b"b"])


async def test_a_client_that_sends_no_more_gets_all_answers() -> None:
    work = Work()
    async with stream_of(work) as client:
        await client.send(1, b"a")
        await client.send(2, b"b")
        await client.call.done_writing()
        await eventually(lambda: len(work.begun) == 2)
        await work.allow(b"all")
        assert {(await client.next()).number, (await client.next()).number} == {1, 2}
        assert await client.ending() == (grpc.StatusCode.OK, "", None)


async def test_a_server_that_stops_answers_what_it_took_in_and_says_that_it_took_no_more() -> None:
    work = Work()
    async with serving(work) as (front, batches, channel):
        client, idle = await open_stream(channel), await open_stream(channel)
        await client.send(1, b"under way")
        await eventually(lambda: b"under way" in work.begun)
        batches.stop()

        assert await idle.ending() == (grpc.StatusCode.UNAVAILABLE, STOPPED, "not-applied")
        await work.allow(b"under way")
        assert (await client.next()).number == 1
        assert await client.ending() == (grpc.StatusCode.UNAVAILABLE, STOPPED, "not-applied")
        await asyncio.wait_for(front.stop(60.0), 30.0)


@pytest.mark.parametrize("served_by", ["no"], ids=["grpcio"], indirect=True)
async def test_a_port_that_closes_waits_for_the_last_answer() -> None:
    work = Work()
    async with serving(work) as (front, batches, channel):
        client = await open_stream(channel)
        await client.send(1, b"under way")
        await eventually(lambda: b"under way" in work.begun)
        stopping = asyncio.create_task(front.stop(60.0))
        batches.stop()
        await asyncio.wait([stopping], timeout=0.05)
        await work.allow(b"under way")

        assert (await client.next()).number == 1
        assert await client.ending() == (grpc.StatusCode.UNAVAILABLE, STOPPED, "not-applied")
        await asyncio.wait_for(stopping, 30.0)


async def test_a_server_that_stops_while_it_takes_a_stream_ends_it() -> None:
    batches = BatchStreams(Work(), hold_s=HOLD_S)
    ended: list[Any] = []

    class Context:
        def peer(self) -> str:
            return "somebody"

        async def write(self, _message: bytes) -> None:
            batches.stop()

        async def abort(self, *status: Any) -> None:
            ended.append(status)

    async def silence() -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b""

    await asyncio.wait_for(batches.serve(silence(), Context()), 30.0)  # type: ignore[arg-type]

    assert ended == [(grpc.StatusCode.UNAVAILABLE, STOPPED, (("raftkv-outcome", "not-applied"),))]


async def test_a_server_that_stops_begins_no_stream() -> None:
    async with serving(Work()) as (_, batches, channel):
        batches.stop()
        client = Client(channel.stream_stream(BATCHES_PATH)())

        assert await client.ending() == (grpc.StatusCode.UNAVAILABLE, STOPPED, "not-applied")

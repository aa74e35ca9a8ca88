"""The gateway over handlers of every kind that gRPC knows: a service added later needs nothing from it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc
import pytest

from raftkv.errors import ListenError
from raftkv.gateway.door import Door
from raftkv.gateway.rpc import Rpcs
from raftkv.pb import election_pb2, lock_pb2, rpc_pb2
from tests.support import free_port

WAIT_S = 20.0
SNAPSHOT = "/etcdserverpb.Maintenance/Snapshot"
KEEP_ALIVE = "/etcdserverpb.Lease/LeaseKeepAlive"
LOCK = "/v3lockpb.Lock/Lock"
OBSERVE = "/v3electionpb.Election/Observe"


class Handlers(grpc.GenericRpcHandler):
    """Handlers by path."""

    def __init__(self, **by_name: Any) -> None:
        self._by_path = {globals()[name]: handler for name, handler in by_name.items()}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        return self._by_path.get(handler_call_details.method)


@asynccontextmanager
async def door_to(handlers: grpc.GenericRpcHandler) -> AsyncIterator[tuple[Door, int]]:
    port = free_port()
    rpcs = Rpcs(handlers, request_bytes_max=1_000_000)
    door = Door((f"http://127.0.0.1:{port}",), flag="--listen-client-http-urls", paths={}, rpcs=rpcs)
    door.bind()
    await door.open()
    try:
        yield door, port
    finally:
        await door.close(0.0)


@asynccontextmanager
async def connected(port: int, request: bytes) -> AsyncIterator[asyncio.StreamReader]:
    """A connection on which a request was sent; what is read of it, at most, before somebody reads is little."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    try:
        writer.write(request)
        async with asyncio.timeout(WAIT_S):
            yield reader
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


def request(path: str, body: str, *headers: str) -> bytes:
    """The last one of its connection."""
    head = "".join(f"{line}\r\n" for line in (f"POST {path} HTTP/1.0", f"Content-Length: {len(body)}", *headers))
    return f"{head}\r\n{body}".encode()


async def ask(port: int, path: str, body: str) -> tuple[int, str]:
    """Status and body, read to its end."""
    async with connected(port, request(path, body)) as reader:
        answer = await reader.read()
    head, _, text = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), text.decode()


def unary_stream(behaviour: Callable[[Any, Any], Any]) -> Any:
    return grpc.unary_stream_rpc_method_handler(
        behaviour,
        request_deserializer=rpc_pb2.SnapshotRequest.FromString,
        response_serializer=rpc_pb2.SnapshotResponse.SerializeToString,
    )


async def test_a_generator_of_answers_is_a_stream_of_lines() -> None:
    async def snapshot(request: Any, _context: Any) -> AsyncIterator[rpc_pb2.SnapshotResponse]:
        assert isinstance(request, rpc_pb2.SnapshotRequest)
        for remaining in (1, 0):
            yield rpc_pb2.SnapshotResponse(remaining_bytes=remaining, blob=b"ab")

    async with door_to(Handlers(SNAPSHOT=unary_stream(snapshot))) as (_, port):
        status, text = await ask(port, "/v3/maintenance/snapshot", "{}")

    assert status == 200
    assert [json.loads(line) for line in text.splitlines()] == [
        {"result": {"remaining_bytes": "1", "blob": "YWI="}},
        {"result": {"blob": "YWI="}},
    ]


async def test_a_method_that_writes_its_answers_is_a_stream_of_lines_too() -> None:
    async def snapshot(_request: Any, context: Any) -> None:
        await context.write(rpc_pb2.SnapshotResponse(blob=b"ab").SerializeToString())
        await context.abort(grpc.StatusCode.DATA_LOSS, "the rest is gone")

    async with door_to(Handlers(SNAPSHOT=unary_stream(snapshot))) as (_, port):
        status, text = await ask(port, "/v3/maintenance/snapshot", "")

    lines = [json.loads(line) for line in text.splitlines()]
    assert (status, lines[0]) == (200, {"result": {"blob": "YWI="}})
    error = {"grpc_code": 15, "http_code": 500, "message": "the rest is gone", "http_status": "Internal Server Error"}
    assert lines[1] == {"error": error}


async def test_a_stream_of_requests_is_answered_one_by_one_and_ends_with_them() -> None:
    async def keep_alive(requests: AsyncIterator[bytes], context: Any) -> None:
        async for raw in requests:
            lease = rpc_pb2.LeaseKeepAliveRequest.FromString(raw).ID
            await context.write(rpc_pb2.LeaseKeepAliveResponse(ID=lease).SerializeToString())

    handlers = Handlers(KEEP_ALIVE=grpc.stream_stream_rpc_method_handler(keep_alive))
    async with door_to(handlers) as (_, port):
        assert await ask(port, "/v3/lease/keepalive", '{"ID":"5"}{"ID":6}') == (
            200,
            '{"result":{"ID":"5"}}\n{"result":{"ID":"6"}}\n',
        )
        assert await ask(port, "/v3/lease/keepalive", "") == (200, "")
        assert (await ask(port, "/v3/lease/keepalive", '{"ID":"x"}'))[0] == 500


async def test_a_stream_that_is_refused_before_its_first_answer_has_a_status() -> None:
    async def observe(_requests: AsyncIterator[bytes], context: Any) -> None:
        await context.abort(grpc.StatusCode.UNAVAILABLE, "etcdserver: no leader")

    handlers = Handlers(OBSERVE=grpc.stream_stream_rpc_method_handler(observe))
    async with door_to(handlers) as (_, port):
        status, text = await ask(port, "/v3/election/observe", '{"name":"YQ=="}')

    assert (status, json.loads(text)["code"]) == (503, 14)


async def test_a_call_sees_what_came_with_it() -> None:
    seen: list[Any] = []

    async def lock(raw: bytes, context: Any) -> lock_pb2.LockResponse:
        seen.append((lock_pb2.LockRequest.FromString(raw).name, context.invocation_metadata()))
        assert 0 < context.time_remaining() <= 5
        assert context.peer().startswith("http:127.0.0.1:")
        return lock_pb2.LockResponse(key=b"k")

    async with door_to(Handlers(LOCK=grpc.unary_unary_rpc_method_handler(lock))) as (_, port):
        headers = ("Authorization: secret", "Grpc-Timeout: 5S", "Grpc-Metadata-HasLeader: true", "Cookie: no")
        async with connected(port, request("/v3/lock/lock", '{"name":"YWI="}', *headers)) as reader:
            answer = await reader.read()

    assert answer.endswith(b'{"key":"aw=="}')
    assert seen == [(b"ab", (("authorization", "secret"), ("hasleader", "true")))]


async def test_a_client_that_goes_away_ends_what_was_done_for_it() -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def lock(_raw: bytes, _context: Any) -> lock_pb2.LockResponse:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError("nobody sets it")

    handlers = Handlers(LOCK=grpc.unary_unary_rpc_method_handler(lock))
    async with door_to(handlers) as (_, port):
        async with connected(port, request("/v3/lock/lock", "{}")):
            await began.wait()
        async with asyncio.timeout(WAIT_S):
            await ended.wait()


async def test_a_slow_reader_holds_up_the_method_and_fills_no_memory() -> None:
    """What is written and not read stops at what the sockets hold."""
    sent = 0

    async def observe(_request: Any, _context: Any) -> AsyncIterator[election_pb2.LeaderResponse]:
        nonlocal sent
        while True:
            yield election_pb2.LeaderResponse(header=rpc_pb2.ResponseHeader(revision=1), kv={"value": b"x" * 60_000})
            sent += 1

    handler = grpc.unary_stream_rpc_method_handler(observe)
    async with (
        door_to(Handlers(OBSERVE=handler)) as (_, port),
        connected(port, request("/v3/election/observe", "{}")),
    ):
        while True:  # Until it stands still: no more in ten turns of the loop with a pause each.
            before = sent
            for _ in range(10):
                await asyncio.sleep(0.02)
            if before and sent == before:
                break

    assert sent * 80_000 < 64 * 1024 * 1024


@pytest.mark.parametrize("grace_s", [0.0, 5.0])
async def test_a_door_that_closes_lets_calls_end_within_its_grace_and_then_cuts_them_off(grace_s: float) -> None:
    began, go_on, cut_off = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def lock(_raw: bytes, _context: Any) -> lock_pb2.LockResponse:
        began.set()
        try:
            await go_on.wait()
        except asyncio.CancelledError:
            cut_off.set()
            raise
        return lock_pb2.LockResponse(key=b"k")

    handlers = Handlers(LOCK=grpc.unary_unary_rpc_method_handler(lock))
    async with door_to(handlers) as (door, port), connected(port, request("/v3/lock/lock", "{}")) as reader:
        await began.wait()
        closing = asyncio.create_task(door.close(grace_s))
        if grace_s:
            while await is_open(port):  # noqa: ASYNC110 - the kernel does not tell
                await asyncio.sleep(0.01)
            go_on.set()
            assert (await reader.read()).endswith(b'{"key":"aw=="}')
        else:
            await cut_off.wait()
        await closing


async def is_open(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionError:
        return False
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()
    return True


async def test_a_port_that_is_taken_is_named_with_its_flag() -> None:
    async with door_to(Handlers()) as (_, port):
        second = Door((f"http://127.0.0.1:{port}",), flag="--listen-metrics-urls", paths={})
        with pytest.raises(ListenError, match=f"--listen-metrics-urls: cannot listen on http://127.0.0.1:{port}: Addr"):
            second.bind()
        await second.close(0.0)

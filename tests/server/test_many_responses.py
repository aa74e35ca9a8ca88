"""A method with many responses to one request: what becomes of it when its client does not read, goes away, or is refused."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from raftkv.errors import ResourceExhausted
from raftkv.pb import rpc_pb2
from raftkv.server import services
from raftkv.server.front import CHOICE, Front
from raftkv.server.services import Services
from tests.support import eventually, free_port

PATH = "/etcdserverpb.Maintenance/Snapshot"


class Endless:
    """Yields for ever, and knows whether it is still asked to."""

    def __init__(self) -> None:
        self.given = 0
        self.closed = 0

    async def __call__(self, _request: Any) -> AsyncGenerator[rpc_pb2.SnapshotResponse, None]:
        try:
            while True:
                self.given += 1
                yield rpc_pb2.SnapshotResponse(blob=bytes(256 * 1024))
        finally:
            self.closed += 1


async def refuses(_request: Any) -> AsyncGenerator[rpc_pb2.SnapshotResponse, None]:
    yield rpc_pb2.SnapshotResponse(blob=b"first")
    raise ResourceExhausted("etcdserver: too many requests")


@pytest.fixture(params=["no", "yes"], ids=["grpcio", "pygrpc-native"], autouse=True)
def served_by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CHOICE, request.param)


@asynccontextmanager
async def call_of(serve: Any) -> AsyncIterator[Any]:
    """One call of a client to a server that serves this method so. No node is asked for anything."""
    front = Front([])
    node: Any = None
    rpcs = Services(node, {}, many={PATH: serve}, hold_s=1.0)
    front.serve(rpcs.handlers, rest=rpcs)
    address = f"127.0.0.1:{free_port()}"
    front.listen([f"http://{address}"], flag="--listen-client-urls")
    await front.start()
    async with grpc.aio.insecure_channel(address) as channel:
        yield channel.unary_stream(PATH)(b"")
    await front.stop(None)


async def ending(call: Any) -> grpc.StatusCode:
    """Read to the end, and say how it was reached."""
    try:
        while await call.read():
            pass
    except grpc.aio.AioRpcError as error:
        return error.code()
    return await call.code()


async def test_a_client_that_does_not_read_on_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "STALLED_S", 0.2)
    endless = Endless()
    async with call_of(endless) as call:
        await call.read()
        await eventually(lambda: endless.closed == 1)
        given = endless.given
        assert given < 1000, "no more was made than the connection holds"
        assert await ending(call) is grpc.StatusCode.DEADLINE_EXCEEDED
        assert endless.given == given


async def test_a_client_that_goes_away_ends_it() -> None:
    endless = Endless()
    async with call_of(endless) as call:
        await call.read()
        call.cancel()
        await eventually(lambda: endless.closed == 1)


async def test_an_error_after_the_first_response_reaches_the_client_as_it_is() -> None:
    async with call_of(refuses) as call:
        assert rpc_pb2.SnapshotResponse.FromString(await call.read()).blob == b"first"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert caught.value.details() == "etcdserver: too many requests"

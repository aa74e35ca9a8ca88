"""Leases against a server that loses answers: granted once, whatever it takes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest

import raftkv
from raftkv.pb import rpc_pb2

WAIT_S = 30.0


class ForgetfulLeases:
    """Grants leases, and loses its first answers as a connection that breaks does.

    Attributes:
        loses: so many answers are lost still.
        granted: TTL by id.
        asked: the ids of all requests to grant.
        arrived, revoked: a request to grant has come; a lease was revoked.
        gate: while it is cleared, requests to grant wait.
    """

    def __init__(self, *, loses: int) -> None:
        self.loses = loses
        self.granted: dict[int, int] = {}
        self.asked: list[int] = []
        self.arrived, self.gate, self.revoked = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.gate.set()

    async def grant(self, request: rpc_pb2.LeaseGrantRequest, context: Any) -> rpc_pb2.LeaseGrantResponse:
        self.asked.append(request.ID)
        self.arrived.set()
        await self.gate.wait()
        is_known = request.ID in self.granted
        self.granted.setdefault(request.ID, request.TTL + 1)
        if self.loses:
            self.loses -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
        if is_known:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "etcdserver: lease already exists")
        return rpc_pb2.LeaseGrantResponse(ID=request.ID, TTL=self.granted[request.ID])

    async def time_to_live(self, request: rpc_pb2.LeaseTimeToLiveRequest, _: Any) -> rpc_pb2.LeaseTimeToLiveResponse:
        return rpc_pb2.LeaseTimeToLiveResponse(ID=request.ID, grantedTTL=self.granted.get(request.ID, 0))

    async def revoke(self, request: rpc_pb2.LeaseRevokeRequest, context: Any) -> rpc_pb2.LeaseRevokeResponse:
        if self.granted.pop(request.ID, None) is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "etcdserver: requested lease not found")
        if self.loses:
            self.loses -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
        self.revoked.set()
        return rpc_pb2.LeaseRevokeResponse()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(
                method, request_deserializer=request.FromString, response_serializer=lambda r: r.SerializeToString()
            )
            for name, method, request in (
                ("LeaseGrant", self.grant, rpc_pb2.LeaseGrantRequest),
                ("LeaseTimeToLive", self.time_to_live, rpc_pb2.LeaseTimeToLiveRequest),
                ("LeaseRevoke", self.revoke, rpc_pb2.LeaseRevokeRequest),
            )
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("etcdserverpb.Lease", handlers),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            await server.stop(None)


async def test_a_grant_whose_answer_was_lost_is_asked_for_again_and_grants_once() -> None:
    leases = ForgetfulLeases(loses=2)
    async with leases.listening() as address, raftkv.aio.connect(address) as kv:
        lease = await kv.lease(60)

        assert len(leases.asked) == 3
        assert leases.granted == {lease.id: 61}
        assert lease.ttl == 61
        leases.loses = 1
        await lease.revoke()
        assert leases.granted == {}


async def test_a_grant_that_nobody_waits_for_any_more_is_taken_back() -> None:
    leases = ForgetfulLeases(loses=0)
    leases.gate.clear()
    async with leases.listening() as address, raftkv.aio.connect(address) as kv:
        granting = asyncio.ensure_future(kv.lease(60).start())
        async with asyncio.timeout(WAIT_S):
            await leases.arrived.wait()
            granting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await granting
            leases.gate.set()
            await leases.revoked.wait()
        assert leases.granted == {}


async def test_a_client_that_is_closed_cannot_revoke() -> None:
    leases = ForgetfulLeases(loses=0)
    async with leases.listening() as address:
        async with raftkv.aio.connect(address) as kv:
            lease = await kv.lease(60)
        with pytest.raises(raftkv.Cancelled, match="the client is closed"):
            await lease.revoke()

"""etcd's Lease service. Every node serves it: what changes a lease goes through the log, what looks at one is a read like any other.

A stream of renewals has a reader, which takes requests in, and a writer, which has all that wait renewed by one entry of the log
and answers them in their order. As by etcd: a stream ends when its client stops sending, and `hasleader: true` ends it when no
leader is known for three election timeouts.

What may not live here: what a lease is (`raftkv.lease`).
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

from raftkv.errors import NO_LEADER, STOPPED, Code, Outcome, RequestError, ResourceExhausted, Unavailable
from raftkv.lease.validate import granted_ttl_s
from raftkv.node import Node
from raftkv.pb import rpc_pb2, store_pb2
from raftkv.server.front import connection_of
from raftkv.server.limits import Limits
from raftkv.server.services import Serve, abort, answered, parsed, requires_leader
from raftkv.server.stream_counts import StreamCounts

KEEP_ALIVE_PATH = "/etcdserverpb.Lease/LeaseKeepAlive"
TOO_MANY_STREAMS = "etcdserver: too many lease keep-alive streams: this connection has {count}, the limit"
STREAMS_PER_CONNECTION_MAX = 1_000
"""etcd's client keeps all its leases alive on one."""
REQUESTS_WAITING_MAX = 256
"""Renewals of one stream that wait for an answer, before its reader waits for them."""
LEADERLESS_TIMEOUTS = 3
ID_MAX = 2**63 - 1

_parse_keep_alive = rpc_pb2.LeaseKeepAliveRequest.FromString


class _Stream:
    """One call: which leases are to be renewed, and how reader and writer wake each other."""

    def __init__(self, *, requires_leader: bool) -> None:
        self.requires_leader = requires_leader
        self.is_open = True
        """The client may send more."""
        self.ended: asyncio.Future[RequestError] = asyncio.get_running_loop().create_future()
        """Why the server ends it."""
        self._waiting: deque[rpc_pb2.LeaseKeepAliveRequest] = deque()
        self._news = asyncio.Event()
        self._room = asyncio.Event()

    def end(self, error: RequestError) -> None:
        if not self.ended.done():
            self.ended.set_result(error)

    async def add(self, request: rpc_pb2.LeaseKeepAliveRequest) -> None:
        """Return when the next one may be read."""
        self._waiting.append(request)
        self._news.set()
        while len(self._waiting) >= REQUESTS_WAITING_MAX:
            self._room.clear()
            await self._room.wait()

    def close(self) -> None:
        """The client sends no more."""
        self.is_open = False
        self._news.set()

    async def take(self) -> list[rpc_pb2.LeaseKeepAliveRequest]:
        """All that wait, once there are any. Empty: there will be no more."""
        while not self._waiting and self.is_open:
            self._news.clear()
            await self._news.wait()
        taken = list(self._waiting)
        self._waiting.clear()
        self._room.set()
        return taken


class LeaseService:
    """LeaseGrant, LeaseRevoke, LeaseKeepAlive, LeaseTimeToLive, LeaseLeases.

    Args:
        min_ttl_s: the least TTL granted.
        hold_s: how long a renewal is held while there is no leader.
    """

    def __init__(self, node: Node, limits: Limits, *, min_ttl_s: int, hold_s: float, election_timeout_s: float) -> None:
        self._node = node
        self._limits = limits
        self._min_ttl_s = min_ttl_s
        self._hold_s = hold_s
        self._election_timeout_s = election_timeout_s
        self._streams: dict[_Stream, None] = {}
        self._stream_counts = StreamCounts()
        self._is_stopping = False

    def methods(self) -> dict[str, Serve]:
        return {
            "/etcdserverpb.Lease/LeaseGrant": self.grant,
            "/etcdserverpb.Lease/LeaseRevoke": self.revoke,
            "/etcdserverpb.Lease/LeaseTimeToLive": self.time_to_live,
            "/etcdserverpb.Lease/LeaseLeases": self.leases,
        }

    async def grant(self, request: rpc_pb2.LeaseGrantRequest, hold_s: float) -> Any:
        """An id of 0 is drawn here, and too small a TTL raised: every node applies the same command."""
        ttl_s = granted_ttl_s(request.TTL, min_s=self._min_ttl_s)
        lease_id = request.ID or 1 + secrets.randbelow(ID_MAX)
        self._limits.check_room(self._node)
        granted = rpc_pb2.LeaseGrantRequest(TTL=ttl_s, ID=lease_id)
        return await self._submit(store_pb2.Command(lease_grant=granted), hold_s)

    async def revoke(self, request: rpc_pb2.LeaseRevokeRequest, hold_s: float) -> Any:
        self._limits.check_sound()
        return await self._submit(store_pb2.Command(lease_revoke=request), hold_s)

    async def time_to_live(self, request: rpc_pb2.LeaseTimeToLiveRequest, hold_s: float) -> Any:
        found = await self._node.read(lambda machine: machine.leases.time_to_live(request), timeout_s=hold_s)
        return answered(self._node, found)

    async def leases(self, _request: rpc_pb2.LeaseLeasesRequest, hold_s: float) -> Any:
        return answered(self._node, await self._node.read(lambda machine: machine.leases.list(), timeout_s=hold_s))

    async def _submit(self, command: store_pb2.Command, hold_s: float) -> Any:
        commands = store_pb2.BatchRequest(commands=(command,)).SerializeToString()
        (answer,) = await self._node.submit(commands, 1, timeout_s=hold_s)
        return answered(self._node, answer)

    # Streams ----------------------------------------------------------------------------------------------------------

    async def keep_alive(self, requests: AsyncIterator[bytes], context: Any) -> None:
        """One call, to its end."""
        stream, client = _Stream(requires_leader=requires_leader(context)), connection_of(context)
        refusal = self._reason_to_refuse(stream, client)
        if refusal is not None:
            await abort(context, refusal)
        self._streams[stream] = None
        self._stream_counts.opened(client)
        reading = asyncio.create_task(self._read(stream, requests), name="raftkv-lease-reader")
        writing = asyncio.create_task(self._write(stream, context), name="raftkv-lease-writer")
        try:
            await asyncio.wait((writing, stream.ended), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._forget(stream, client)
            reading.cancel()
            writing.cancel()
            await asyncio.wait((reading, writing))
            for task in (reading, writing):
                if not task.cancelled():
                    task.result()
        if stream.ended.done():
            await abort(context, stream.ended.result())

    async def run(self) -> None:
        """End streams that want a leader when there is none. For ever."""
        leaderless = 0
        while True:
            await asyncio.sleep(self._election_timeout_s)
            leaderless = 0 if self._node.raft.leader else leaderless + 1
            if leaderless >= LEADERLESS_TIMEOUTS:
                self._end_streams(NO_LEADER, only_those_that_want_a_leader=True)

    def stop(self) -> None:
        """The server stops: end every stream, and begin no other. Clients go on elsewhere."""
        self._is_stopping = True
        self._end_streams(STOPPED, only_those_that_want_a_leader=False)

    def _end_streams(self, reason: str, *, only_those_that_want_a_leader: bool) -> None:
        for stream in self._streams:
            if stream.requires_leader or not only_those_that_want_a_leader:
                stream.end(Unavailable(reason, outcome=Outcome.UNKNOWN))

    def _reason_to_refuse(self, stream: _Stream, client: str) -> RequestError | None:
        if self._is_stopping:
            return Unavailable(STOPPED, outcome=Outcome.NOT_APPLIED)
        if stream.requires_leader and not self._node.raft.leader:
            return Unavailable(NO_LEADER, outcome=Outcome.NOT_APPLIED)
        if self._stream_counts.of(client) >= STREAMS_PER_CONNECTION_MAX:
            return ResourceExhausted(TOO_MANY_STREAMS.format(count=STREAMS_PER_CONNECTION_MAX))
        return None

    def _forget(self, stream: _Stream, client: str) -> None:
        del self._streams[stream]
        self._stream_counts.closed(client)

    async def _read(self, stream: _Stream, requests: AsyncIterator[bytes]) -> None:
        try:
            async for raw in requests:
                await stream.add(parsed(_parse_keep_alive, raw))
            stream.close()
        except RequestError as error:
            stream.end(error)
        except Exception as bug:
            stream.end(RequestError(f"etcdserver: lease stream failed: {bug}", code=Code.INTERNAL))
            raise

    async def _write(self, stream: _Stream, context: Any) -> None:
        try:
            while requests := await stream.take():
                for answer in await self._renew(requests):
                    await context.write(answered(self._node, answer).SerializeToString())
        except RequestError as error:
            stream.end(error)

    async def _renew(self, requests: list[rpc_pb2.LeaseKeepAliveRequest]) -> list[Any]:
        """Renew them all, in their order, by one entry."""
        commands = [store_pb2.Command(lease_renew=request) for request in requests]
        raw = store_pb2.BatchRequest(commands=commands).SerializeToString()
        return await self._node.submit(raw, len(commands), timeout_s=self._hold_s)

"""The plain etcd client of the failover benchmark: one put in flight, 200 ms for each, the next endpoint after a failure.

It knows nothing of raftkv: a unary ``etcdserverpb.KV/Put`` over grpc.aio, the same code for both systems. As the balancer of etcd's
own clients does, it asks no endpoint whose connection has ended (a server that stops in good order says so, with a GOAWAY)
while another one stands. Every put has a key of its own, so that afterwards each acknowledged one can be looked for.

What may not live here: clusters, faults, printing.
"""

from __future__ import annotations

import asyncio
import time
from array import array
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import grpc

from raftkv.pb import rpc_pb2

PUT_DEADLINE_S = 0.2
PAUSE_AFTER_FAILURE_S = 0.002
"""A refusal comes back within microseconds: without a pause a client would do nothing but collect refusals."""
PAGE_KEYS = 1_000
CALL_DEADLINE_S = 5.0
OPTIONS = (
    ("grpc.enable_retries", 0),
    ("grpc.use_local_subchannel_pool", 1),
    # A channel to a node that was down is dialled again soon, as by a client that wants to know.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
)


class EtcdClient:
    """Channels to all endpoints, in the order in which they are tried."""

    def __init__(self, endpoints: Sequence[str]) -> None:
        self._channels = [grpc.aio.insecure_channel(endpoint, options=OPTIONS) for endpoint in endpoints]
        self._puts = [_method(channel, "Put", rpc_pb2.PutResponse) for channel in self._channels]
        self.at = 0

    async def connect(self) -> None:
        """Dial every endpoint, and wait until all are connected."""
        async with asyncio.timeout(CALL_DEADLINE_S):
            await asyncio.gather(*(channel.channel_ready() for channel in self._channels))

    async def close(self) -> None:
        for channel in self._channels:
            await channel.close()

    async def put(self, key: bytes, value: bytes, *, timeout_s: float) -> None:
        """One attempt at the endpoint whose turn it is; after a failure it is the next one's.

        Raises:
            grpc.aio.AioRpcError: it failed, or nobody knows.
        """
        used = self.at = self._connected()
        try:
            await self._puts[used](rpc_pb2.PutRequest(key=key, value=value), timeout=timeout_s)
        except grpc.aio.AioRpcError:
            if self.at == used:  # Of several callers, the first that fails moves on for all.
                self.at = (used + 1) % len(self._puts)
            raise

    def _connected(self) -> int:
        """The endpoint whose turn it is, or the next one with a connection; those passed over are dialled again."""
        count = len(self._channels)
        for turn in range(count):
            index = (self.at + turn) % count
            if self._channels[index].get_state(try_to_connect=True) is grpc.ChannelConnectivity.READY:
                return index
        return self.at

    async def keys(self, prefix: bytes) -> set[bytes]:
        """All keys below a prefix, linearizably."""
        found: set[bytes] = set()
        start, end = prefix, prefix[:-1] + bytes([prefix[-1] + 1])
        while True:
            request = rpc_pb2.RangeRequest(key=start, range_end=end, keys_only=True, limit=PAGE_KEYS)
            answer = await self._anywhere("Range", request, rpc_pb2.RangeResponse)
            found.update(item.key for item in answer.kvs)
            if not answer.more:
                return found
            start = answer.kvs[-1].key + b"\0"

    async def delete(self, prefix: bytes) -> None:
        """Delete all keys below a prefix."""
        end = prefix[:-1] + bytes([prefix[-1] + 1])
        await self._anywhere(
            "DeleteRange", rpc_pb2.DeleteRangeRequest(key=prefix, range_end=end), rpc_pb2.DeleteRangeResponse
        )

    async def compact(self) -> None:
        """Forget all history: benchmarks would fill the quota of a database with it."""
        found = await self._anywhere("Range", rpc_pb2.RangeRequest(key=b"\0", count_only=True), rpc_pb2.RangeResponse)
        request = rpc_pb2.CompactionRequest(revision=found.header.revision)
        await self._anywhere("Compact", request, rpc_pb2.CompactionResponse)

    async def _anywhere(self, method: str, request: Any, answer_type: Any) -> Any:
        for attempt, channel in enumerate(self._channels, 1):
            try:
                return await _method(channel, method, answer_type)(request, timeout=CALL_DEADLINE_S)
            except grpc.aio.AioRpcError:
                if attempt == len(self._channels):
                    raise
        raise AssertionError("no endpoints")


class Writer:
    """Puts one after the other, and remembers when each was acknowledged."""

    def __init__(self, client: EtcdClient, prefix: bytes, *, value_bytes: int = 256) -> None:
        self._client = client
        self._prefix = prefix
        self._value = b"v" * value_bytes
        self._going = True
        self._next = 0
        self.acknowledged: set[bytes] = set()
        self.acknowledged_at = array("d")
        self.errors: Counter[str] = Counter()

    def stop(self) -> None:
        """End after the put in flight."""
        self._going = False

    async def run(self) -> None:
        """Write until told to stop."""
        while self._going:
            self._next += 1
            key = b"%s%08d" % (self._prefix, self._next)
            try:
                await self._client.put(key, self._value, timeout_s=PUT_DEADLINE_S)
            except grpc.aio.AioRpcError as error:
                self.errors[f"{error.code().name}: {error.details()}"] += 1
                await asyncio.sleep(PAUSE_AFTER_FAILURE_S)
            else:
                self.acknowledged.add(key)
                self.acknowledged_at.append(time.monotonic())

    def acknowledged_since(self, moment: float) -> int:
        return len(self.acknowledged_at) - bisect_right(self.acknowledged_at, moment)

    def longest_gap_s(self, since: float, until: float) -> float:
        """The longest time between two acknowledgements next to each other, of those times that reach into the span."""
        first = max(0, bisect_left(self.acknowledged_at, since) - 1)
        last = bisect_right(self.acknowledged_at, until) + 1
        times = self.acknowledged_at[first:last]
        return max((later - earlier for earlier, later in pairwise(times)), default=until - since)


def _method(channel: grpc.aio.Channel, name: str, answer_type: Any) -> Any:
    return channel.unary_unary(
        f"/etcdserverpb.KV/{name}",
        request_serializer=lambda request: request.SerializeToString(),
        response_deserializer=answer_type.FromString,
    )

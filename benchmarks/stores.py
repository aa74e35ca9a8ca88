"""What a load calls: the same four operations through raftkv's own client, or through a plain grpc.aio client of etcd's API.

The plain client is what a Python program that talks to etcd would use: unary calls, one channel to one node. It knows nothing of
raftkv, so it can be put on both systems.

What may not live here: loads, clusters, printing.
"""

from __future__ import annotations

from collections.abc import Awaitable
from contextlib import suppress
from typing import Any, Protocol

import grpc

from raftkv import aio
from raftkv.errors import Compacted, RequestError
from raftkv.pb import rpc_pb2

CALL_TIMEOUT_S = 10.0
COMPACTION_TIMEOUT_S = 120.0


class CompareFailed(Exception):
    """A compare-and-swap found a revision that it should not have."""


FAILURES = (RequestError, grpc.aio.AioRpcError, CompareFailed)
"""What a call may raise; anything else is a mistake of ours."""
_PLAIN_OPTIONS = (("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1))


class Store(Protocol):
    """Plain functions that return awaitables: a coroutine more for each call would be measured, too."""

    def put(self, key: bytes, value: bytes) -> Awaitable[Any]: ...

    def get(self, key: bytes) -> Awaitable[Any]:
        """Linearizable."""

    def get_serializable(self, key: bytes) -> Awaitable[Any]: ...

    async def swap(self, key: bytes, revision: int, value: bytes) -> int | None:
        """Put if the key was last changed at ``revision`` (0: is not there); the new revision, or None if it was not."""

    async def revision_of(self, key: bytes) -> int:
        """The revision at which a key was last changed; 0: it is not there."""

    async def close(self) -> None: ...


def key_of(number: int) -> bytes:
    """16 bytes."""
    return b"%016d" % number


def failure_text(error: BaseException) -> str:
    """An error for a table of errors."""
    if isinstance(error, RequestError):
        return f"{type(error).__name__}: {error} ({error.outcome.value})"
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {error.details()}"
    return str(error)


class OwnStore:
    """raftkv's client. Against etcd it makes unary calls."""

    def __init__(self, endpoints: list[str]) -> None:
        self._client = aio.connect(",".join(endpoints), timeout=CALL_TIMEOUT_S)
        self.put = self._client.put
        self.get = self._client.get

    def get_serializable(self, key: bytes) -> Awaitable[Any]:
        return self._client.get(key, serializable=True)

    async def swap(self, key: bytes, revision: int, value: bytes) -> int | None:
        client = self._client
        txn = client.txn().when(client[key].mod_revision == revision).then(client.op.put(key, value))
        found = await txn.commit()
        return found.revision if found.succeeded else None

    async def revision_of(self, key: bytes) -> int:
        found = await self._client.get(key)
        return found.mod_revision if found else 0

    async def fill(self, first: int, last: int, value: bytes) -> None:
        """Put the keys of these numbers in one transaction."""
        txn = self._client.txn().then(*(self._client.op.put(key_of(n), value) for n in range(first, last)))
        await txn.commit()

    async def compact(self) -> None:
        """Forget all history, also on the disk."""
        revision = (await self._client.status()).revision
        with suppress(Compacted):  # It has been, and nothing was written since.
            await self._client.compact(revision, physical=True, timeout=COMPACTION_TIMEOUT_S)

    async def close(self) -> None:
        await self._client.close()


class PlainStore:
    """etcd's API by unary calls of grpc.aio to one node."""

    def __init__(self, endpoint: str) -> None:
        self._channel = grpc.aio.insecure_channel(endpoint, options=_PLAIN_OPTIONS)
        self._put = self._method("Put", rpc_pb2.PutRequest, rpc_pb2.PutResponse)
        self._range = self._method("Range", rpc_pb2.RangeRequest, rpc_pb2.RangeResponse)
        self._txn = self._method("Txn", rpc_pb2.TxnRequest, rpc_pb2.TxnResponse)

    def _method(self, name: str, request_type: Any, answer_type: Any) -> Any:
        return self._channel.unary_unary(
            f"/etcdserverpb.KV/{name}",
            request_serializer=request_type.SerializeToString,
            response_deserializer=answer_type.FromString,
        )

    def put(self, key: bytes, value: bytes) -> Awaitable[Any]:
        call: Awaitable[Any] = self._put(rpc_pb2.PutRequest(key=key, value=value), timeout=CALL_TIMEOUT_S)
        return call

    def get(self, key: bytes) -> Awaitable[Any]:
        call: Awaitable[Any] = self._range(rpc_pb2.RangeRequest(key=key), timeout=CALL_TIMEOUT_S)
        return call

    def get_serializable(self, key: bytes) -> Awaitable[Any]:
        request = rpc_pb2.RangeRequest(key=key, serializable=True)
        call: Awaitable[Any] = self._range(request, timeout=CALL_TIMEOUT_S)
        return call

    async def swap(self, key: bytes, revision: int, value: bytes) -> int | None:
        compare = rpc_pb2.Compare(
            result=rpc_pb2.Compare.EQUAL, target=rpc_pb2.Compare.MOD, key=key, mod_revision=revision
        )
        put = rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=key, value=value))
        answer = await self._txn(rpc_pb2.TxnRequest(compare=[compare], success=[put]), timeout=CALL_TIMEOUT_S)
        return answer.header.revision if answer.succeeded else None

    async def revision_of(self, key: bytes) -> int:
        answer = await self._range(rpc_pb2.RangeRequest(key=key), timeout=CALL_TIMEOUT_S)
        return answer.kvs[0].mod_revision if answer.kvs else 0

    async def close(self) -> None:
        await self._channel.close()


def stores(generator: str, endpoints: list[str], *, spread: bool) -> list[Store]:
    """One store that uses the first endpoint; with ``spread`` one for each endpoint.

    ``generator`` is ``client`` (raftkv's) or ``grpc`` (the plain one).
    """
    orders = [endpoints[n:] + endpoints[:n] for n in range(len(endpoints))] if spread else [endpoints]
    return [OwnStore(order) if generator == "client" else PlainStore(order[0]) for order in orders]

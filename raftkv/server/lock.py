"""etcd's Lock service: locks for clients that cannot, or would rather not, stand in the queue themselves.

A lock lives as long as the client's lease, which the client keeps alive. A request without a lease gets one of a minute, which
nobody keeps alive.

What may not live here: the queue (`contending`).
"""

from __future__ import annotations

from raftkv.errors import RequestError
from raftkv.pb import lock_pb2, rpc_pb2
from raftkv.server.contending import Contending, as_unknown
from raftkv.server.kv import KvService
from raftkv.server.services import Serve

LOCK_PATH = "/v3lockpb.Lock/Lock"


class LockService:
    """Lock, Unlock."""

    def __init__(self, contending: Contending, kv: KvService) -> None:
        self._contending = contending
        self._kv = kv

    def methods(self) -> dict[str, Serve]:
        return {LOCK_PATH: self.lock, "/v3lockpb.Lock/Unlock": self.unlock}

    async def lock(self, request: lock_pb2.LockRequest, hold_s: float) -> lock_pb2.LockResponse:
        """Answers when the lock is held, under the key that is answered."""
        try:
            place, header = await self._contending.take(request.name, request.lease, b"", hold_s)
        except RequestError as error:
            raise as_unknown(error) from None
        return lock_pb2.LockResponse(header=header, key=place.key)

    async def unlock(self, request: lock_pb2.UnlockRequest, hold_s: float) -> lock_pb2.UnlockResponse:
        """Deletes the key, if it is there."""
        try:
            deleted = await self._kv.delete_range(rpc_pb2.DeleteRangeRequest(key=request.key), hold_s)
        except RequestError as error:
            raise as_unknown(error) from None
        return lock_pb2.UnlockResponse(header=deleted.header)

"""A place in a queue of keys, for clients that have the server stand in it: what the Lock and Election services are made of.

    NAME/694d81417acd4754   create revision 17   owns it
    NAME/694d81417acd4757                   21   waits for 17 to go

The keys and the recipe are those of etcd's Go client, and of ours (`raftkv.client.contending`). While a call waits, it watches two
keys: the one before its own, and its own, which goes when the lease does; so a lease that expires ends the call. (etcd's server
waits on, and then returns a lock that is not held.) A call that ends without success deletes its key, if it made it.

What may not live here: requests and responses of either service.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from raftkv.errors import Code, DeadlineExceeded, Outcome, RequestError, Unavailable
from raftkv.pb import rpc_pb2
from raftkv.server.inner_watch import InnerWatch
from raftkv.server.kv import KvService
from raftkv.server.lease import LeaseService
from raftkv.server.watch import WatchService

SESSION_TTL_S: Final = 60
"""Of the lease that is granted to a request without one."""
DEADLINE_TEXT: Final = "context deadline exceeded"


@dataclass(frozen=True, slots=True)
class Place:
    """A contender's key.

    Attributes:
        key: of the contender.
        revision: that created it.
        lease: that it hangs on.
        value: what it held when the place was taken.
        is_new: this call made it.
        header: of the answer that told all this.
    """

    key: bytes
    revision: int
    lease: int
    value: bytes
    is_new: bool
    header: rpc_pb2.ResponseHeader


class Contending:
    """Queues of keys in this node's store.

    Args:
        hold_s: seconds for each of the steps.
    """

    def __init__(self, kv: KvService, leases: LeaseService, watches: WatchService, *, hold_s: float) -> None:
        self._kv = kv
        self._leases = leases
        self._watches = watches
        self._hold_s = hold_s
        self._leaving: set[asyncio.Task[None]] = set()

    async def take(
        self,
        name: bytes,
        lease: int,
        value: bytes,
        hold_s: float,
        *,
        on_entered: Callable[[Place], Awaitable[None]] | None = None,
    ) -> tuple[Place, rpc_pb2.ResponseHeader]:
        """Queue up under a lease (0: a new one), and return when everybody before has gone: the place, and the last header.

        Args:
            name: of what is contended for.
            lease: of the contender.
            value: of its key.
            hold_s: how long it may wait; infinite: until its client or its lease goes.
            on_entered: done when there is a place, before its turn is waited for.

        Raises:
            RequestError: it was given up, for whatever reason; the key is gone, unless it was there before.
        """
        deadline = asyncio.get_running_loop().time() + hold_s
        prefix = name + b"/"
        lease = lease or await self.new_lease()
        while True:
            # To its end, whoever calls: else nobody would know whether there is a key to be deleted.
            entering = asyncio.create_task(self._enter(prefix, lease, value))
            try:
                place = await asyncio.shield(entering)
                if on_entered is not None:
                    await on_entered(place)
                header = await self._turn(prefix, place, deadline)
            except BaseException as error:
                self._leave_later(entering)
                if isinstance(error, RequestError) and not entering.cancelled() and entering.done():
                    error.outcome = Outcome.UNKNOWN  # Whether the key has gone the caller will not learn.
                raise
            if header is not None:
                return place, header

    async def new_lease(self) -> int:
        """A lease for a request that names none. Nobody keeps it alive."""
        granted = await self._leases.grant(rpc_pb2.LeaseGrantRequest(TTL=SESSION_TTL_S), self._hold_s)
        return int(granted.ID)

    async def first(self, name: bytes, hold_s: float) -> rpc_pb2.RangeResponse:
        """Whoever is first."""
        request = _span(name + b"/")
        request.sort_target, request.sort_order = rpc_pb2.RangeRequest.CREATE, rpc_pb2.RangeRequest.ASCEND
        request.limit = 1
        return await self.range(request, hold_s)

    async def range(self, request: rpc_pb2.RangeRequest, hold_s: float) -> rpc_pb2.RangeResponse:
        return rpc_pb2.RangeResponse.FromString(await self._kv.range(request, hold_s))

    def watch(self, *watches: rpc_pb2.WatchCreateRequest) -> InnerWatch:
        return InnerWatch(self._watches, *watches)

    async def change(
        self, key: bytes, revision: int, operation: rpc_pb2.RequestOp, hold_s: float
    ) -> rpc_pb2.TxnResponse:
        """Do something with a key if it is the one that was created at `revision`."""
        request = rpc_pb2.TxnRequest(compare=[created_at(key, revision)], success=[operation])
        response: rpc_pb2.TxnResponse = await self._kv.txn(request, hold_s)
        return response

    async def _enter(self, prefix: bytes, lease: int, value: bytes) -> Place:
        key = prefix + b"%x" % (lease % 2**64)
        request = rpc_pb2.TxnRequest(
            compare=[created_at(key, 0)],
            success=[rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=key, value=value, lease=lease))],
            failure=[rpc_pb2.RequestOp(request_range=rpc_pb2.RangeRequest(key=key))],
        )
        done = await self._kv.txn(request, self._hold_s)
        if done.succeeded:
            return Place(key, done.header.revision, lease, value, True, done.header)
        (found,) = done.responses[0].response_range.kvs
        return Place(key, found.create_revision, lease, found.value, False, done.header)

    async def _turn(self, prefix: bytes, place: Place, deadline: float) -> rpc_pb2.ResponseHeader | None:
        """Wait until nobody is before us; None: our own key went first."""
        header = place.header
        while True:
            before = await self._before(prefix, place)
            if not before.kvs:
                break
            await self._gone((before.kvs[0].key, place.key), before.header.revision, deadline)
            own = await self.range(rpc_pb2.RangeRequest(key=place.key), self._hold_s)
            if not own.kvs or own.kvs[0].create_revision != place.revision:
                return None
            header = own.header
        return header

    async def _before(self, prefix: bytes, place: Place) -> rpc_pb2.RangeResponse:
        request = _span(prefix)
        request.sort_target, request.sort_order = rpc_pb2.RangeRequest.CREATE, rpc_pb2.RangeRequest.DESCEND
        request.max_create_revision = place.revision - 1
        request.limit = 1
        request.keys_only = True
        return await self.range(request, self._hold_s)

    async def _gone(self, keys: tuple[bytes, ...], revision: int, deadline: float) -> None:
        """Return when one of the keys, which were there at `revision`, was deleted, or may have been."""
        requests = [
            rpc_pb2.WatchCreateRequest(
                key=key, start_revision=revision + 1, filters=(rpc_pb2.WatchCreateRequest.NOPUT,)
            )
            for key in keys
        ]
        left_s = deadline - asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(None if left_s == math.inf else left_s), self.watch(*requests) as deletions:
                await deletions.next()
        except TimeoutError:
            raise DeadlineExceeded(DEADLINE_TEXT, outcome=Outcome.NOT_APPLIED) from None

    def _leave_later(self, entering: asyncio.Task[Place]) -> None:
        leaving = asyncio.create_task(self._leave(entering), name="raftkv-leave-queue")
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)

    async def _leave(self, entering: asyncio.Task[Place]) -> None:
        """Delete the key of a call that ended. What cannot be deleted now goes with its lease."""
        try:
            place = await entering
            if place.is_new:
                delete = rpc_pb2.RequestOp(request_delete_range=rpc_pb2.DeleteRangeRequest(key=place.key))
                await self.change(place.key, place.revision, delete, self._hold_s)
        except RequestError:
            return


def created_at(key: bytes, revision: int) -> rpc_pb2.Compare:
    """The key was created at this revision; 0: it does not exist."""
    return rpc_pb2.Compare(
        key=key, target=rpc_pb2.Compare.CREATE, result=rpc_pb2.Compare.EQUAL, create_revision=revision
    )


def _span(prefix: bytes) -> rpc_pb2.RangeRequest:
    """All keys with a prefix that ends in a slash."""
    return rpc_pb2.RangeRequest(key=prefix, range_end=prefix[:-1] + b"0")


def unknown(text: str) -> RequestError:
    """A refusal in the way of etcd's Lock and Election services: their errors have no code of their own."""
    return RequestError(text, code=Code.UNKNOWN)


def as_unknown(error: RequestError) -> RequestError:
    """An error of the store, as these services pass it on."""
    if isinstance(error, (Unavailable, DeadlineExceeded)):
        return error  # Clients can do something with these.
    return RequestError(error.message, code=Code.UNKNOWN, outcome=error.outcome)

"""A place in a queue of keys: what locks and elections are made of.

    NAME/694d81417acd4754   create revision 17   owns it
    NAME/694d81417acd4757                   21   waits for 17 to go
    NAME/694d81417acd475a                   22   waits for 21 to go

Each contender has a key of its own, which hangs on its lease; who has the lowest create revision owns what they contend for. A
contender waits for the one before it alone, so an owner that goes wakes one contender, not all. The create revision of the
owner's key is the *fencing token*: it only grows from owner to owner.

Source: the layout and the recipe are those of etcd's Go client (clientv3/concurrency), so that contenders of both kinds can
stand in one queue.

What may not live here: what it is that they contend for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from raftkv.client import calls
from raftkv.client.calls import Key, to_bytes
from raftkv.client.leasing import AsyncLease, Home, repeated
from raftkv.client.transaction import Condition, KeyReference
from raftkv.client.values import KeyValue, RangeResult
from raftkv.client.watch_cursor import WatchCursor, watch_request
from raftkv.client.watching import AsyncWatch
from raftkv.errors import Compacted, LeaseLost
from raftkv.pb import rpc_pb2

WATCH_START_S: Final = 1e6
"""Until a server accepts a watch: as long as the lease lives."""


@dataclass(frozen=True, slots=True)
class Place:
    """A contender's key, and the revision that created it."""

    key: bytes
    revision: int

    @property
    def is_held(self) -> Condition:
        """The key exists still, and is the same one."""
        return KeyReference(self.key).create_revision == self.revision


class Contention:
    """Everybody who contends under one name.

    Args:
        home: where calls are made.
        name: the keys' prefix, without the slash at its end.
        timeout: seconds for each call.
    """

    def __init__(self, home: Home, name: Key, *, timeout: float) -> None:
        self.prefix = to_bytes(name, "name") + b"/"
        self._home = home
        self._timeout = timeout

    async def enter(self, lease: AsyncLease, value: bytes) -> tuple[Place, bytes]:
        """Queue up, or find the place that this lease has; the place, and what its key holds (unless it is new: `value`)."""
        key = self.prefix + b"%x" % lease.id
        request = rpc_pb2.TxnRequest(
            compare=[(KeyReference(key).create_revision == 0).compare],
            success=[rpc_pb2.RequestOp(request_put=calls.put_request(key, value, lease=lease))],
            failure=[rpc_pb2.RequestOp(request_range=calls.get_request(key))],
        )
        done = await repeated(self._home, lambda: calls.txn(request), self._timeout)
        if done.succeeded:
            return Place(key, done.revision), value
        (found,) = done.responses
        assert isinstance(found, RangeResult), "a get is answered by what it found"
        assert found.first is not None, "it was there in the same transaction"
        return Place(key, found.first.create_revision), found.first.value

    async def say(self, place: Place, lease: AsyncLease, value: bytes) -> None:
        """Have our key hold something else.

        Raises:
            LeaseLost: the key is gone.
        """
        request = rpc_pb2.TxnRequest(
            compare=[place.is_held.compare],
            success=[rpc_pb2.RequestOp(request_put=calls.put_request(place.key, value, lease=lease))],
        )
        # Not sent again where it may have been done: what is said later might be overwritten.
        done = await self._home.usable().perform(calls.txn(request), self._timeout)
        if not done.succeeded:
            raise LeaseLost(f"the key {place.key!r} is gone: somebody else may have the first place")

    async def turn(self, place: Place, lease: AsyncLease) -> None:
        """Wait until everybody before us has gone.

        Raises:
            LeaseLost: the lease, or the key that hung on it, went first.
        """
        await lease.while_ours(self._turn(place))
        lease.require()

    async def _turn(self, place: Place) -> None:
        has_waited = False
        while True:
            revision, before = await self._before(place)
            if before is None:
                break
            has_waited = True
            await self._gone(before.key, revision)
        if has_waited:
            own = await repeated(self._home, lambda: calls.get(place.key), math.inf)
            if own is None or own.create_revision != place.revision:
                raise LeaseLost(f"the key {place.key!r} was deleted while it stood in the queue")

    async def first(self) -> tuple[int, KeyValue | None]:
        """The revision at which was looked, and the owner's key then."""
        request = calls.range_request(prefix=self.prefix, sort="create_revision", limit=1)
        found = await repeated(self._home, lambda: calls.range_page(request), self._timeout)
        return found.revision, found.first

    async def _before(self, place: Place) -> tuple[int, KeyValue | None]:
        """The one right before us, if there is one."""
        request = calls.range_request(
            prefix=self.prefix, sort="create_revision", descending=True, limit=1, keys_only=True
        )
        request.max_create_revision = place.revision - 1
        found = await repeated(self._home, lambda: calls.range_page(request), math.inf)
        return found.revision, found.first

    async def _gone(self, key: bytes, revision: int) -> None:
        """Return when a key, which was there at `revision`, was deleted, or may have been."""
        try:
            async with self.watch(key, revision=revision + 1, only_deletions=True) as events:
                await events.next()
        except Compacted:
            return  # Look again.

    def watch(self, key: bytes | None, *, revision: int, only_deletions: bool = False) -> AsyncWatch:
        """A watch of one key, or of all of this name."""
        request = watch_request(
            key,
            None,
            prefix=self.prefix if key is None else None,
            revision=revision,
            previous=False,
            only="delete" if only_deletions else None,
        )
        return AsyncWatch(lambda: self._home.usable().watch_pool(), WatchCursor(request, progress=False), WATCH_START_S)

    async def leave(self, place: Place, *, timeout: float) -> bool:
        """Delete our key; False: it was gone."""
        request = rpc_pb2.TxnRequest(
            compare=[place.is_held.compare],
            success=[rpc_pb2.RequestOp(request_delete_range=calls.delete_request(place.key))],
        )
        done = await repeated(self._home, lambda: calls.txn(request), timeout)
        return done.succeeded

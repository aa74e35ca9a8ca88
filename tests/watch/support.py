"""A hub with a real store under it, driven by hand: every read, arrival and step happens when the test says so."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from raftkv.mvcc import commands
from raftkv.mvcc.compaction import compact_some
from raftkv.mvcc.history import ChangeReader
from raftkv.mvcc.store import Store
from raftkv.pb import mvcc_pb2, rpc_pb2
from raftkv.watch import Budget, Hub, Outbox, WatchLimits

Event = tuple[int, bytes, bool]
"""Revision, key, whether it was put."""


def header(revision: int) -> rpc_pb2.ResponseHeader:
    return rpc_pb2.ResponseHeader(cluster_id=1, member_id=2, revision=revision, raft_term=3)


@dataclass
class Client:
    """One stream, and what has been read from it."""

    outbox: Outbox
    news: int = 0
    read: list[rpc_pb2.WatchResponse] = field(default_factory=list)

    def take(self, count: int = 10**9) -> list[rpc_pb2.WatchResponse]:
        """Read up to `count` responses more; those."""
        taken = []
        while len(taken) < count and (raw := self.outbox.take()) is not None:
            taken.append(rpc_pb2.WatchResponse.FromString(raw))
        self.read += taken
        return taken

    def events(self, watch_id: int) -> list[Event]:
        """All events that have been read of a watch."""
        return [event_of(event) for response in self.read if response.watch_id == watch_id for event in response.events]


def event_of(event: mvcc_pb2.Event) -> Event:
    return event.kv.mod_revision, event.kv.key, event.type == mvcc_pb2.Event.PUT


class Driver:
    """The state machine's thread, the loop and the clients of one hub."""

    def __init__(self, store: Store, limits: WatchLimits | None = None) -> None:
        self.store = store
        self.limits = limits or WatchLimits()
        self.hub = Hub(self.limits, header)
        self.hub.begin(store.revision)
        self.budget = Budget(self.limits.outboxes_bytes)
        self.log: list[Event] = []
        self._read_on()
        self._is_live_under_way = False
        self._arriving: deque[Callable[[], None]] = deque()

    def _read_on(self) -> None:
        self._live = self.store.follower = ChangeReader(self.store.revision + 1, is_live=True)

    # Clients ----------------------------------------------------------------------------------------------------------

    def open(self, name: str = "client") -> Client:
        outbox = Outbox(
            name,
            bytes_max=self.limits.outbox_bytes,
            budget=self.budget,
            header=header,
            fragment_bytes=self.limits.fragment_bytes,
            on_news=lambda _: None,
        )
        return Client(outbox)

    def create(self, client: Client, key: bytes, end: bytes = b"", start: int = 0, **options: object) -> None:
        request = rpc_pb2.WatchCreateRequest(key=key, range_end=end, start_revision=start, **options)  # type: ignore[arg-type]
        self.hub.create(
            client.outbox, request, revision=self.store.revision, compact_revision=self.store.compact_revision
        )

    def take(self, client: Client, count: int = 10**9) -> list[rpc_pb2.WatchResponse]:
        """As a stream's writer does it."""
        taken = client.take(count)
        if client.outbox.parked and client.outbox.has_room_again:
            self.hub.has_room(client.outbox)
        return taken

    # The store --------------------------------------------------------------------------------------------------------

    def put(self, *keys: bytes, value: bytes = b"v") -> int:
        """Put keys in one revision."""
        operations = [rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=key, value=value)) for key in keys]
        commands.txn(self.store, rpc_pb2.TxnRequest(success=operations), wanted=False)
        self.log += [(self.store.revision, key, True) for key in keys]
        return self.store.revision

    def delete(self, key: bytes) -> int:
        before = self.store.revision
        commands.delete_range(self.store, rpc_pb2.DeleteRangeRequest(key=key), wanted=False)
        if self.store.revision > before:
            self.log.append((self.store.revision, key, False))
        return self.store.revision

    def compact(self, revision: int, *, physically: bool = True, is_installed: bool = False) -> None:
        """`is_installed`: as in a snapshot, which keeps nothing for whoever has not read it."""
        if is_installed:
            self.store.follower = None
        commands.compact(self.store, rpc_pb2.CompactionRequest(revision=revision), wanted=False)
        while physically and compact_some(self.store, records=100):
            pass

    # Work -------------------------------------------------------------------------------------------------------------

    def read_live(self) -> None:
        """On the state machine's thread: the next live slice, if the last one has been given out."""
        if self._is_live_under_way or self._live.revision > self.store.revision:
            return
        self._is_live_under_way = True
        reader = self._live
        limits = self.limits
        found = reader.read(
            self.store, records=limits.slice_records, size=limits.slice_bytes, previous=self.hub.wants_previous
        )
        if reader.revision <= found.removed_revision:
            self._read_on()
        self._arriving.append(partial(self.hub.live, found))

    def read_history(self) -> None:
        wanted = self.hub.next_read()
        if wanted is not None:
            reader, previous = wanted
            limits = self.limits
            found = reader.read(self.store, records=limits.slice_records, size=limits.slice_bytes, previous=previous)
            self._arriving.append(partial(self.hub.caught_up, found))

    def arrive(self) -> None:
        """The oldest slice under way reaches the hub."""
        if self._arriving:
            self._arriving.popleft()()

    def step(self) -> bool:
        has_more = self.hub.step()
        if self.hub.wants_live and not self._arriving:
            self._is_live_under_way = False
        return has_more

    def run(self) -> None:
        """Until nothing is left to do, with nobody reading."""
        idle = 0
        while idle < 2:
            self.read_live()
            self.read_history()
            idle = 0 if self._arriving else idle + 1
            while self._arriving:
                self.arrive()
            while self.step():
                pass

    def settle(self, *clients: Client) -> None:
        """Until nothing is left to do, with everybody reading."""
        quiet = False
        while not quiet:
            self.run()
            taken = [self.take(client) for client in clients]
            quiet = not any(taken)

    def expected(self, key: bytes, end: bytes | None, start: int) -> list[Event]:
        """What a watch should have been told."""
        return [
            event
            for event in self.log
            if event[0] >= start and (event[1] == key if end is None else key <= event[1] < end)
        ]

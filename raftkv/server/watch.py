"""etcd's Watch service: a stream of requests and a stream of responses for any number of watches.

Each stream has a reader, which hands requests over in their order, and a writer, which sends what its outbox holds at the
client's pace. Between them and the node's changes stands `raftkv.watch`, which is worked off in small steps: the same loop
carries the cluster's heartbeats.

As by etcd: a client that stops sending goes on receiving; `hasleader: true` ends a stream when no leader is known for three
election timeouts.

What may not live here: who gets what (`raftkv.watch`), reading the store (`watch_feed`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

from raftkv.errors import NO_LEADER, STOPPED, Code, Outcome, RequestError, ResourceExhausted, Unavailable
from raftkv.node import Node
from raftkv.pb import rpc_pb2
from raftkv.server.front import connection_of
from raftkv.server.services import abort, header, parsed, requires_leader
from raftkv.server.stream_counts import StreamCounts
from raftkv.server.watch_feed import WatchFeed
from raftkv.watch import Budget, Hub, Outbox, WatchLimits

WATCH_PATH = "/etcdserverpb.Watch/Watch"
TOO_MANY_STREAMS = (
    "etcdserver: too many watch streams: this connection has {count}, the limit (--max-watches-per-connection)"
)
WAKES_PER_TURN = 64
"""Writers woken in one turn of the loop; each then costs it some 50 µs."""
REQUESTS_WAITING_MAX = 256
"""Requests of one stream that wait for their turn, before its reader waits for them."""
LEADERLESS_TIMEOUTS = 3


class _Stream:
    """One call: its outbox, and how reader and writer wake each other."""

    def __init__(self, *, requires_leader: bool) -> None:
        self.outbox: Outbox
        self.requires_leader = requires_leader
        self.requests_waiting = 0
        self.error: RequestError | None = None
        """Why the server ends it."""
        self._news = asyncio.Event()
        self._room = asyncio.Event()

    def end(self, error: RequestError) -> None:
        self.error = self.error or error
        self.wake()

    def wake(self) -> None:
        """There may be something to send."""
        self._news.set()

    async def news(self) -> None:
        await self._news.wait()
        self._news.clear()

    def check_room(self) -> None:
        """Something was sent, or a request was dealt with."""
        if not self._is_full:
            self._room.set()

    async def room(self) -> None:
        """Return when the next request may be read: answers are bounded by that."""
        while self._is_full:
            self._room.clear()
            await self._room.wait()

    @property
    def _is_full(self) -> bool:
        return self.outbox.is_full or self.requests_waiting >= REQUESTS_WAITING_MAX


class WatchService:
    """Watch."""

    def __init__(
        self, node: Node, limits: WatchLimits, *, progress_interval_s: float, election_timeout_s: float
    ) -> None:
        self._node = node
        self._limits = limits
        self._progress_interval_s = progress_interval_s
        self._election_timeout_s = election_timeout_s
        self._hub = Hub(limits, lambda revision: header(node, revision))
        self._feed = WatchFeed(node, self._hub, limits, on_work=self._schedule)
        self._budget = Budget(limits.outboxes_bytes)
        self._streams: dict[Outbox, _Stream] = {}
        self._stream_counts = StreamCounts()
        self._to_wake: deque[_Stream] = deque()
        self._is_scheduled = False
        self._is_stopping = False

    async def watch(self, requests: AsyncIterator[bytes], context: Any) -> None:
        """One call, to its end."""
        stream = _Stream(requires_leader=requires_leader(context))
        connection = connection_of(context)
        refusal = self._reason_to_refuse(stream, connection)
        if refusal is not None:
            await abort(context, refusal)
        self._open(stream, connection)
        reading = asyncio.create_task(self._read(stream, requests), name="raftkv-watch-reader")
        try:
            await self._write(stream, context)
        finally:
            self._close(stream)
            reading.cancel()
            await asyncio.wait([reading])
            if not reading.cancelled():
                reading.result()
        assert stream.error is not None, "a stream ended without a reason"
        await abort(context, stream.error)

    @property
    def stream_count(self) -> int:
        """Streams there are now."""
        return len(self._streams)

    @property
    def watch_count(self) -> int:
        """Watches there are now."""
        return self._hub.watch_count

    @property
    def behind_count(self) -> int:
        """Of these, those that have not been told everything yet."""
        return sum(outbox.behind_count for outbox in self._streams)

    async def run(self) -> None:
        """Tell progress once in an interval, and end streams that want a leader when there is none. For ever."""
        loop = asyncio.get_running_loop()
        progress_at = loop.time() + self._progress_interval_s
        leaderless = 0
        while True:
            await asyncio.sleep(min(self._election_timeout_s, max(0.0, progress_at - loop.time())))
            if loop.time() >= progress_at:
                progress_at = loop.time() + self._progress_interval_s
                self._hub.notify_progress()
            leaderless = 0 if self._node.raft.leader else leaderless + 1
            if leaderless >= LEADERLESS_TIMEOUTS:
                self._end_streams(NO_LEADER, only_those_that_want_a_leader=True)

    def stop(self) -> None:
        """The server stops: end every stream, and begin no other. Clients go on elsewhere."""
        self._is_stopping = True
        self._end_streams(STOPPED, only_those_that_want_a_leader=False)

    def _end_streams(self, reason: str, *, only_those_that_want_a_leader: bool) -> None:
        for stream in list(self._streams.values()):
            if stream.requires_leader or not only_those_that_want_a_leader:
                stream.end(Unavailable(reason, outcome=Outcome.NOT_APPLIED))

    # One stream -------------------------------------------------------------------------------------------------------

    def _reason_to_refuse(self, stream: _Stream, client: str) -> RequestError | None:
        if self._is_stopping:
            return Unavailable(STOPPED, outcome=Outcome.NOT_APPLIED)
        if stream.requires_leader and not self._node.raft.leader:
            return Unavailable(NO_LEADER, outcome=Outcome.NOT_APPLIED)
        limit = self._limits.watches_per_connection
        if self._stream_counts.of(client) >= limit:
            return ResourceExhausted(TOO_MANY_STREAMS.format(count=limit))
        return None

    def _open(self, stream: _Stream, client: str) -> None:
        limits = self._limits
        stream.outbox = Outbox(
            client,
            bytes_max=limits.outbox_bytes,
            budget=self._budget,
            header=lambda revision: header(self._node, revision),
            fragment_bytes=limits.fragment_bytes,
            on_news=lambda _: self._wake_later(stream),
        )
        if not self._streams:
            self._feed.start()
        self._streams[stream.outbox] = stream
        self._stream_counts.opened(client)

    def _close(self, stream: _Stream) -> None:
        client = stream.outbox.client
        del self._streams[stream.outbox]
        self._stream_counts.closed(client)
        self._hub.close(stream.outbox)
        if not self._streams:
            self._feed.stop()
        self._schedule()

    async def _read(self, stream: _Stream, requests: AsyncIterator[bytes]) -> None:
        """Read requests until the client stops sending, which does not end the stream."""
        try:
            async for raw in requests:
                self._handle(stream, parsed(rpc_pb2.WatchRequest.FromString, raw))
                await stream.room()
        except RequestError as error:
            stream.end(error)
        except Exception as bug:
            stream.end(RequestError(f"etcdserver: watch stream failed: {bug}", code=Code.INTERNAL))
            raise

    def _handle(self, stream: _Stream, request: rpc_pb2.WatchRequest) -> None:
        """Requests are dealt with in their order, when the store has been looked at."""
        stream.requests_waiting += 1
        self._feed.ask(lambda revision, compacted: self._deal_with(stream, request, revision, compacted))

    def _deal_with(self, stream: _Stream, request: rpc_pb2.WatchRequest, revision: int, compact_revision: int) -> None:
        outbox, hub = stream.outbox, self._hub
        stream.requests_waiting -= 1
        stream.check_room()
        match request.WhichOneof("request_union"):
            case "create_request":
                create = request.create_request
                hub.create(outbox, create, revision=revision, compact_revision=compact_revision)
            case "cancel_request":
                hub.cancel(outbox, request.cancel_request.watch_id)
            case "progress_request":
                hub.request_progress(outbox, revision)
            case _:
                pass  # Of a newer API perhaps; etcd passes over it too.

    async def _write(self, stream: _Stream, context: Any) -> None:
        outbox = stream.outbox
        while stream.error is None:
            response = outbox.take()
            if response is None:
                await stream.news()
                continue
            if outbox.parked and outbox.has_room_again:
                self._hub.has_room(outbox)
                self._schedule()
            stream.check_room()
            await context.write(response)

    # Work -------------------------------------------------------------------------------------------------------------

    def _wake_later(self, stream: _Stream) -> None:
        self._to_wake.append(stream)
        self._schedule()

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._work)

    def _work(self) -> None:
        """A bounded piece of work; then everybody else on the loop has a turn."""
        self._is_scheduled = False
        has_more = self._hub.step()
        self._feed.work()
        for _ in range(min(WAKES_PER_TURN, len(self._to_wake))):
            self._to_wake.popleft().wake()
        if has_more or self._to_wake:
            self._schedule()

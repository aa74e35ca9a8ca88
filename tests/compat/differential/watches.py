"""Watches on both systems, side by side.

When is a watch done? A watch of everything, on each system, tells every event that there is; from these it is known which of them
each watch must still be told, and until then one waits. What it was told is then compared event by event, in order. How events
are spread over responses may differ, but no revision may be split over two unless the watch allows it.
"""

from __future__ import annotations

import queue
import time
from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from raftkv.pb import mvcc_pb2, rpc_pb2
from tests.compat.differential.steps import shortened
from tests.server.grpc_api import Api, Failed
from tests.server.watching import WatchStream

EVERYTHING = 1_000
WAIT_S = 20.0


class WatchDiffers(Exception):
    """A watch was not told what it must be, or not what the other system's watch was."""


@dataclass
class Watch:
    """One that was created on both.

    Attributes:
        start: the first revision it must be told of.
    """

    request: rpc_pb2.WatchCreateRequest
    start: int
    done: int = 0
    """The last revision up to which both were told the same."""
    is_behind: bool = False
    """It began in the past and was told nothing yet: nobody can know that it has caught up."""

    def wants(self, event: mvcc_pb2.Event) -> bool:
        key, end = self.request.key or b"\0", self.request.range_end
        is_inside = event.kv.key == key if not end else event.kv.key >= key and (end == b"\0" or event.kv.key < end)
        return (
            is_inside
            and event.kv.mod_revision >= max(self.start, self.done + 1)
            and event.type not in self.request.filters
        )


@dataclass
class Told:
    """All watches of one system, on one stream."""

    api: Api
    told: dict[int, list[mvcc_pb2.Event]] = field(default_factory=lambda: defaultdict(list))
    """By watch: events since the last comparison."""
    ended: dict[int, rpc_pb2.WatchResponse] = field(default_factory=dict)
    """By watch: the response that cancelled it."""

    def __post_init__(self) -> None:
        self._stream = WatchStream(self.api)
        self._seen = 1
        self._fragments: dict[int, bool] = {EVERYTHING: False}
        answer = self._create(
            rpc_pb2.WatchCreateRequest(key=b"\0", range_end=b"\0", start_revision=1, watch_id=EVERYTHING)
        )
        assert answer.created, answer

    def create(self, request: rpc_pb2.WatchCreateRequest) -> rpc_pb2.WatchResponse:
        """The answer; events of other watches that come before it are kept."""
        self._fragments.setdefault(request.watch_id, request.fragment)
        return self._create(request)

    def cancel(self, request: rpc_pb2.WatchCancelRequest) -> rpc_pb2.WatchResponse:
        """The answer to the cancellation of a watch that exists."""
        self._stream.send(rpc_pb2.WatchRequest(cancel_request=request))
        self._take_until(lambda: request.watch_id in self.ended, f"watch {request.watch_id} is not cancelled")
        self._fragments.pop(request.watch_id, None)
        return self.ended.pop(request.watch_id)

    def wait_for_all(self, revision: int) -> list[mvcc_pb2.Event]:
        """Every event up to a revision, since the last time."""
        self._take_until(
            lambda: self._last_revision() >= revision, f"the watch of everything has not seen revision {revision}"
        )
        self._seen = self._last_revision()
        return self.told.pop(EVERYTHING, [])

    def _last_revision(self) -> int:
        events = self.told[EVERYTHING]
        return events[-1].kv.mod_revision if events else self._seen

    def wait_for(self, watch_id: int, count: int) -> list[mvcc_pb2.Event]:
        """So many events of one watch."""
        self._take_until(
            lambda: len(self.told[watch_id]) >= count or watch_id in self.ended,
            f"watch {watch_id} was told {len(self.told[watch_id])} of {count} events",
        )
        return self.told.pop(watch_id, [])

    def wait_for_end(self, watch_id: int) -> rpc_pb2.WatchResponse:
        self._take_until(lambda: watch_id in self.ended, f"watch {watch_id} has not ended")
        self._fragments.pop(watch_id, None)
        return self.ended.pop(watch_id)

    def close(self) -> None:
        self._stream.close()

    def _create(self, request: rpc_pb2.WatchCreateRequest) -> rpc_pb2.WatchResponse:
        self._stream.send(rpc_pb2.WatchRequest(create_request=request))
        while True:
            response = self._next(WAIT_S, "no answer to the creation of a watch")
            if response.created:
                return response
            self._keep(response)

    def _take_until(self, is_done: Any, complaint: str) -> None:
        end = time.monotonic() + WAIT_S
        while not is_done():
            self._keep(self._next(max(0.0, end - time.monotonic()), complaint))

    def _next(self, timeout_s: float, complaint: str) -> rpc_pb2.WatchResponse:
        try:
            response = self._stream.next(timeout_s)
        except queue.Empty:
            raise WatchDiffers(f"{complaint} on {self.api.endpoint} within {WAIT_S:g} s") from None
        if response is None or isinstance(response, Failed):
            raise WatchDiffers(f"{complaint} on {self.api.endpoint}: the stream has ended with {response}")
        return response

    def _keep(self, response: rpc_pb2.WatchResponse) -> None:
        if response.canceled:
            self.ended[response.watch_id] = response
        told = self.told[response.watch_id]
        is_split = told and response.events and told[-1].kv.mod_revision == response.events[0].kv.mod_revision
        if is_split and not self._fragments.get(response.watch_id):
            raise WatchDiffers(
                f"revision {told[-1].kv.mod_revision} is split over two responses of {self.api.endpoint}"
            )
        told.extend(response.events)


class BothWatch:
    """The watches of two systems: each step to both, and what both were told compared."""

    def __init__(self, theirs: Api, ours: Api) -> None:
        self._theirs, self._ours = Told(theirs), Told(ours)
        self._history: list[mvcc_pb2.Event] = []
        self._live: dict[int, Watch] = {}
        self._spent: set[int] = set()
        """Ids of watches that a compaction has ended. etcd 3.4 never gives such an id again on that stream, raftkv does."""
        self.events_compared = 0

    def close(self) -> None:
        self._theirs.close()
        self._ours.close()

    def create(self, request: rpc_pb2.WatchCreateRequest, compacted: int) -> None:
        """Create a watch on both.

        Args:
            compacted: up to which revision the history was compacted. Of that very revision a watch is told what was not yet removed,
                on either system: no watch is made to begin there.
        """
        if request.watch_id in self._spent:
            return
        if request.start_revision and request.start_revision == compacted:
            request.start_revision += 1
        theirs, ours = _header_cleared(self._theirs.create(request)), _header_cleared(self._ours.create(request))
        _must_equal("the answer to the creation of a watch", theirs, ours)
        if theirs.canceled:
            return
        if 0 < request.start_revision < compacted:
            ends = [_header_cleared(told.wait_for_end(request.watch_id)) for told in (self._theirs, self._ours)]
            _must_equal("how a watch of a compacted revision ends", *ends)
            self._spent.add(request.watch_id)
            return
        start = request.start_revision or theirs.header.revision + 1
        self._live[request.watch_id] = Watch(request, start, is_behind=start <= theirs.header.revision)

    def cancel(self, request: rpc_pb2.WatchCancelRequest, revision: int) -> None:
        """Cancel a watch on both, after both were told everything."""
        self.compare(revision)
        if self._live.pop(request.watch_id, None) is None:
            return
        theirs, ours = (_header_cleared(told.cancel(request)) for told in (self._theirs, self._ours))
        _must_equal("the answer to the cancellation of a watch", theirs, ours)

    def before_compaction(self, revision: int) -> None:
        """Compare, and cancel what the compaction might overtake: whether it does is a matter of time on both systems."""
        self.compare(revision)
        for watch_id in [watch_id for watch_id, watch in self._live.items() if watch.is_behind]:
            self.cancel(rpc_pb2.WatchCancelRequest(watch_id=watch_id), revision)

    def compare(self, revision: int) -> None:
        """Wait until every watch was told everything up to a revision, and compare.

        Raises:
            WatchDiffers: two watches were told different events, or one was not told in time.
        """
        theirs, ours = self._theirs.wait_for_all(revision), self._ours.wait_for_all(revision)
        _must_equal("what a watch of everything was told", theirs, ours)
        self._history += theirs
        for watch_id, watch in self._live.items():
            first = bisect_left(self._history, watch.done + 1, key=lambda event: event.kv.mod_revision)
            count = sum(map(watch.wants, self._history[first:]))
            told = [told.wait_for(watch_id, count) for told in (self._theirs, self._ours)]
            _must_equal(f"what watch {watch_id} was told ({watch.request})", *told)
            if len(told[0]) != count:
                raise WatchDiffers(f"watch {watch_id} was told {len(told[0])} events, not {count}: {watch.request}")
            watch.done = revision
            watch.is_behind &= count == 0
            self.events_compared += count


def _header_cleared(response: rpc_pb2.WatchResponse) -> rpc_pb2.WatchResponse:
    for name in ("cluster_id", "member_id", "raft_term"):
        response.header.ClearField(name)
    return response


def _must_equal(what: str, theirs: Any, ours: Any) -> None:
    if theirs != ours:
        raise WatchDiffers(f"{what}\netcd:   {_shown(theirs)}\nraftkv: {_shown(ours)}")


def _shown(value: Any) -> str:
    return shortened(str(value))[:2_000]

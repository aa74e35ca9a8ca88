"""Watching for the command line: responses as they come, from one server after the other.

The library's watch gives batches; an output format needs the responses whole, headers included.

What may not live here: output, click.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator

from raftkv.cli.rpc import PAUSE_BETWEEN_ROUNDS_S, Connection
from raftkv.errors import Cancelled, RequestError, Unavailable
from raftkv.pb import rpc_pb2

_PROGRESS = rpc_pb2.WatchRequest(progress_request=rpc_pb2.WatchProgressRequest())


class Following:
    """One watch. When its server fails it goes on at the next, from where it was, without a gap and without repeating itself."""

    def __init__(self, connection: Connection, request: rpc_pb2.WatchCreateRequest) -> None:
        self._connection = connection
        self._request = request
        self._is_accepted = False
        self._last_revision = 0
        """Everything up to here has been given out; 0: nothing is known yet."""
        self._requests: queue.SimpleQueue[rpc_pb2.WatchRequest | None] = queue.SimpleQueue()

    def request_progress(self) -> None:
        """Ask the server how far it is."""
        self._requests.put(_PROGRESS)

    def responses(self) -> Iterator[rpc_pb2.WatchResponse]:
        """Responses with events or progress; a canceled one is the last.

        Raises:
            Unavailable: no server could be reached in the time given for that.
            RequestError: a server refused to serve watches at all.
        """
        deadline = time.monotonic() + self._connection.dial_timeout_s
        while True:
            for endpoint in self._connection.endpoints:
                try:
                    for response in self._at(endpoint):
                        yield response
                        if response.canceled:
                            return
                except (Unavailable, Cancelled) as error:
                    failure: RequestError = error
                    if not self._is_accepted and time.monotonic() > deadline:
                        raise failure from None
            time.sleep(PAUSE_BETWEEN_ROUNDS_S)

    def _at(self, endpoint: str) -> Iterator[rpc_pb2.WatchResponse]:
        """Responses of one server, until the stream breaks."""
        if self._last_revision:  # That one included: see `raftkv.client.watch_cursor`.
            self._request.start_revision = self._last_revision
        requests = self._requests = queue.SimpleQueue()
        requests.put(rpc_pb2.WatchRequest(create_request=self._request))
        try:
            for response in self._connection.watch(endpoint, iter(requests.get, None)):
                if response.created and not response.canceled:
                    self._created(response)
                elif response.events:
                    if self._drop_known(response):
                        yield response
                else:
                    if response.watch_id >= 0:  # Of the whole stream (-1), older etcds tell before events on their way.
                        self._last_revision = max(self._last_revision, response.header.revision)
                    yield response
        finally:
            requests.put(None)

    def _created(self, response: rpc_pb2.WatchResponse) -> None:
        if not self._is_accepted and not self._request.start_revision:
            self._last_revision = response.header.revision
        self._is_accepted = True

    def _drop_known(self, response: rpc_pb2.WatchResponse) -> bool:
        """Leave what has been given out before away; False: nothing is left."""
        if response.events[0].kv.mod_revision <= self._last_revision:
            new = [event for event in response.events if event.kv.mod_revision > self._last_revision]
            del response.events[:]
            response.events.extend(new)
        if response.events:
            self._last_revision = response.events[-1].kv.mod_revision
        return bool(response.events)

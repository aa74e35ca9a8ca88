"""A watch stream by hand, to raftkv or etcd, and what its responses come to."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from raftkv.pb import rpc_pb2
from tests.server.grpc_api import Api
from tests.server.streaming import ANSWER_S, Stream


class WatchStream(Stream):
    """A stream of watches."""

    def __init__(self, api: Api, metadata: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(api, "/etcdserverpb.Watch/Watch", rpc_pb2.WatchResponse, metadata)

    def create(self, key: bytes, end: bytes = b"", **options: Any) -> None:
        self.send(rpc_pb2.WatchRequest(create_request=rpc_pb2.WatchCreateRequest(key=key, range_end=end, **options)))

    def created(self, key: bytes, end: bytes = b"", **options: Any) -> rpc_pb2.WatchResponse:
        """Create a watch and wait for the answer."""
        self.create(key, end, **options)
        return self.next()

    def cancel(self, watch_id: int) -> None:
        self.send(rpc_pb2.WatchRequest(cancel_request=rpc_pb2.WatchCancelRequest(watch_id=watch_id)))

    def request_progress(self) -> None:
        self.send(rpc_pb2.WatchRequest(progress_request=rpc_pb2.WatchProgressRequest()))

    def until(self, is_last: Callable[[Any], bool], timeout_s: float = ANSWER_S) -> list[Any]:
        """Responses up to the first for which `is_last` holds."""
        end = time.monotonic() + timeout_s
        responses: list[Any] = []
        while not responses or not is_last(responses[-1]):
            responses.append(self.next(max(0.01, end - time.monotonic())))
        return responses

    def events(self, count: int, timeout_s: float = ANSWER_S) -> list[tuple[int, bytes, bool]]:
        """The next `count` events: revision, key, whether it was put."""
        found: list[tuple[int, bytes, bool]] = []
        end = time.monotonic() + timeout_s
        while len(found) < count:
            response = self.next(max(0.01, end - time.monotonic()))
            found += [(event.kv.mod_revision, event.kv.key, event.type == 0) for event in response.events]
        return found


@contextmanager
def watching(api: Api, metadata: tuple[tuple[str, str], ...] = ()) -> Iterator[WatchStream]:
    stream = WatchStream(api, metadata)
    try:
        yield stream
    finally:
        stream.close()

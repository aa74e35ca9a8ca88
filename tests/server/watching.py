"""A watch stream by hand, to raftkv or etcd: requests sent one by one, responses waited for."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from raftkv.pb import rpc_pb2
from tests.server.grpc_api import Api, Failed

ANSWER_S = 10.0


class WatchStream:
    """One stream, read by a thread of its own."""

    def __init__(self, api: Api, metadata: tuple[tuple[str, str], ...] = ()) -> None:
        self._requests: queue.SimpleQueue[rpc_pb2.WatchRequest | bytes | None] = queue.SimpleQueue()
        self._responses: queue.SimpleQueue[rpc_pb2.WatchResponse | Failed | None] = queue.SimpleQueue()
        method = api.channel.stream_stream(
            "/etcdserverpb.Watch/Watch",
            request_serializer=lambda message: message if isinstance(message, bytes) else message.SerializeToString(),
            response_deserializer=rpc_pb2.WatchResponse.FromString,
        )
        self.call = method(iter(self._requests.get, None), metadata=metadata, wait_for_ready=True)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        try:
            for response in self.call:
                self._responses.put(response)
            self._responses.put(None)
        except grpc.RpcError as error:
            self._responses.put(Failed(error.code().name, str(error.details())))  # type: ignore[attr-defined]

    def send(self, request: rpc_pb2.WatchRequest | bytes) -> None:
        self._requests.put(request)

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

    def stop_sending(self) -> None:
        self._requests.put(None)

    def next(self, timeout_s: float = ANSWER_S) -> Any:
        """The next response; `Failed` when the stream has failed, None when it has ended."""
        return self._responses.get(timeout=timeout_s)

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

    def close(self) -> None:
        self.call.cancel()
        self.stop_sending()
        self._reader.join(ANSWER_S)


@contextmanager
def watching(api: Api, metadata: tuple[tuple[str, str], ...] = ()) -> Iterator[WatchStream]:
    stream = WatchStream(api, metadata)
    try:
        yield stream
    finally:
        stream.close()

"""A bidirectional stream by hand, to raftkv or etcd: requests sent one by one, responses waited for."""

from __future__ import annotations

import queue
import threading
from typing import Any

import grpc

from tests.server.grpc_api import Api, Failed

ANSWER_S = 15.0


class Stream:
    """One stream, read by a thread of its own."""

    def __init__(self, api: Api, path: str, response: Any, metadata: tuple[tuple[str, str], ...] = ()) -> None:
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._responses: queue.SimpleQueue[Any] = queue.SimpleQueue()
        method = api.channel.stream_stream(
            path,
            request_serializer=lambda message: message if isinstance(message, bytes) else message.SerializeToString(),
            response_deserializer=response.FromString,
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

    def send(self, request: Any) -> None:
        """A message, or the bytes of what may be none."""
        self._requests.put(request)

    def stop_sending(self) -> None:
        self._requests.put(None)

    def next(self, timeout_s: float = ANSWER_S) -> Any:
        """The next response; `Failed` when the stream has failed, None when it has ended."""
        return self._responses.get(timeout=timeout_s)

    def close(self) -> None:
        self.call.cancel()
        self.stop_sending()
        self._reader.join(ANSWER_S)

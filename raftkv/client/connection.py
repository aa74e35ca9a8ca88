"""One connection: a gRPC channel to one address that connects once, is used while it lasts, and is never reused.

gRPC's channels reconnect by themselves, with a back-off of seconds and without telling whether a failed call had left the
process. Here a channel lives for one connection. A call is made, and a batch sent, only while the channel says READY, so an
endpoint that cannot be reached costs a write nothing: it surely was not sent.

What may not live here: which endpoint to use (see `pool.py`), and sending again (see `engine.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from raftkv.client.batch_stream import BATCHES_PATH, BatchStream
from raftkv.client.operation import Kind
from raftkv.client.outcomes import CallFailed, failure_of, unreadable
from raftkv.pb import store_pb2

_SHARED_BYTES_MAX: Final = 4 << 20
"""A larger batch has a stream of its own. Every server takes twice as much; one that takes no more ends the stream it came on."""
_OPTIONS: Final[tuple[tuple[str, Any], ...]] = (
    # Channels to one address share back-off and connection unless told not to; ours must start afresh.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
    # A peer that vanished without a word. Not more often than every 5 s: etcd's server hangs up on such clients. Only
    # while calls wait. A *slow* peer is the engine's business, which acts much sooner (`stall_s`).
    ("grpc.keepalive_time_ms", 6_000),
    ("grpc.keepalive_timeout_ms", 2_000),
    ("grpc.keepalive_permit_without_calls", 0),
    # A response that was too large to receive would leave a write's outcome unknown.
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # A store is an internal service: a web proxy from the environment is never meant for it. No lookups for settings.
    ("grpc.enable_http_proxy", 0),
    ("grpc.service_config_disable_resolution", 1),
)


class Connection:
    """A channel to `address` ("HOST:PORT").

    Attributes:
        address: as parsed.
        batches: whether the server knows batches; None until it has been asked.
        sessions: False: the server opens none, and writes go without; None until that is known.
        batch_flights: batches without an answer yet.
        unary_flights: calls without an answer yet.
        answered_at: `time.monotonic()` of the last response of any kind; kept by the engine.
        retired: no longer used for new calls; closed when the last flight has landed.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.batches: bool | None = None
        self.sessions: bool | None = None
        self.batch_flights = 0
        self.unary_flights = 0
        self.answered_at = 0.0
        self.retired = False
        self._channel = grpc.aio.insecure_channel(address, options=_OPTIONS)
        self._shared: BatchStream | None = None
        self._streams: set[BatchStream] = set()
        self._unary: dict[str, grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]] = {}

    @property
    def is_ready(self) -> bool:
        """Whether there is a connection at this moment."""
        return self._channel.get_state() is grpc.ChannelConnectivity.READY

    async def connect(self) -> bool:
        """True when connected, False when the attempt was refused. May take long: the caller limits it."""
        state = self._channel.get_state(try_to_connect=True)
        while state not in (grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN):
            if state is grpc.ChannelConnectivity.READY:
                return True
            await self._channel.wait_for_state_change(state)
            state = self._channel.get_state(try_to_connect=True)
        return False

    async def call_batch(self, request: bytes, timeout: float) -> store_pb2.BatchResponse:
        """Send an encoded BatchRequest, on the stream of all batches or, where it may do harm there, on one of its own.

        Raises:
            CallFailed: there is no response.
        """
        if len(request) > _SHARED_BYTES_MAX:
            return await self._call_apart(request, timeout)
        stream = self._shared
        if stream is None or not stream.is_open:
            stream = self._shared = self._open_stream()
        return await stream.call(request, timeout)

    async def _call_apart(self, request: bytes, timeout: float) -> store_pb2.BatchResponse:
        stream = self._open_stream()
        try:
            return await stream.call(request, timeout)
        finally:
            await stream.close()
            self._streams.discard(stream)

    def _open_stream(self) -> BatchStream:
        self._streams = {stream for stream in self._streams if stream.is_open}
        stream = BatchStream(self.stream(BATCHES_PATH), self.address)
        self._streams.add(stream)
        return stream

    async def call_unary(self, kind: Kind, request: bytes, timeout: float) -> Any:
        """Send one encoded request to the RPC of its kind.

        Raises:
            CallFailed: there is no response.
        """
        method = self._unary.get(kind.path)
        if method is None:
            method = self._unary[kind.path] = self._channel.unary_unary(kind.path)
        return await self._call(method, request, timeout, kind.parse)

    def stream(self, path: str, *, metadata: Sequence[tuple[str, str]] = ()) -> grpc.aio.StreamStreamCall[bytes, bytes]:
        """Begin a call with streams of encoded messages both ways."""
        return self._channel.stream_stream(path)(metadata=metadata)

    def responses(self, path: str, request: bytes) -> grpc.aio.UnaryStreamCall[bytes, bytes]:
        """Begin a call with many encoded responses to one encoded request."""
        method: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = self._channel.unary_stream(path)
        return method(request)

    async def _call(self, method: Any, request: bytes, timeout: float, parse: Any) -> Any:
        try:
            return parse(await method(request, timeout=timeout))
        except grpc.aio.AioRpcError as error:
            raise CallFailed(failure_of(error)) from error
        except DecodeError as error:
            raise CallFailed(unreadable(self.address, error)) from error

    async def close(self) -> None:
        """Close the channel; calls still in flight are cancelled."""
        self.retired = True
        await asyncio.gather(*(stream.close() for stream in self._streams))
        await self._channel.close()

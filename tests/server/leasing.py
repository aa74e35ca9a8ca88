"""A stream of renewals by hand, to raftkv or etcd, and the Lease service's other calls."""

from __future__ import annotations

import queue
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
from google.protobuf.message import Message

from raftkv.pb import rpc_pb2
from tests.server.grpc_api import Api, Failed

ANSWER_S = 15.0
METHODS: dict[type[Message], str] = {
    rpc_pb2.LeaseGrantRequest: "LeaseGrant",
    rpc_pb2.LeaseRevokeRequest: "LeaseRevoke",
    rpc_pb2.LeaseTimeToLiveRequest: "LeaseTimeToLive",
    rpc_pb2.LeaseLeasesRequest: "LeaseLeases",
}


def lease(api: Api, request: Message, **options: Any) -> Any:
    """A request of the Lease service: the type says which RPC."""
    return api.call("etcdserverpb.Lease", METHODS[type(request)], request, **options)


def granted(api: Api, ttl_s: int, lease_id: int = 0) -> int:
    answer = lease(api, rpc_pb2.LeaseGrantRequest(TTL=ttl_s, ID=lease_id))
    assert not isinstance(answer, Failed), answer
    return int(answer.ID)


def new_id() -> int:
    return 1 + secrets.randbelow(2**63 - 1)


def revoke_all(api: Api) -> None:
    """Leave no lease that would end, with a revision of its own, in the middle of somebody else's comparison."""
    for status in lease(api, rpc_pb2.LeaseLeasesRequest()).leases:
        lease(api, rpc_pb2.LeaseRevokeRequest(ID=status.ID))


class KeepAlive:
    """One stream, read by a thread of its own."""

    def __init__(self, api: Api, metadata: tuple[tuple[str, str], ...] = ()) -> None:
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._responses: queue.SimpleQueue[Any] = queue.SimpleQueue()
        method = api.channel.stream_stream(
            "/etcdserverpb.Lease/LeaseKeepAlive",
            request_serializer=lambda message: message if isinstance(message, bytes) else message.SerializeToString(),
            response_deserializer=rpc_pb2.LeaseKeepAliveResponse.FromString,
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

    def send(self, *ids: int) -> None:
        for lease_id in ids:
            self._requests.put(rpc_pb2.LeaseKeepAliveRequest(ID=lease_id))

    def send_raw(self, raw: bytes) -> None:
        self._requests.put(raw)

    def stop_sending(self) -> None:
        self._requests.put(None)

    def next(self, timeout_s: float = ANSWER_S) -> Any:
        """The next response; `Failed` when the stream has failed, None when it has ended."""
        return self._responses.get(timeout=timeout_s)

    def close(self) -> None:
        self.call.cancel()
        self.stop_sending()
        self._reader.join(ANSWER_S)


@contextmanager
def keeping_alive(api: Api, metadata: tuple[tuple[str, str], ...] = ()) -> Iterator[KeepAlive]:
    stream = KeepAlive(api, metadata)
    try:
        yield stream
    finally:
        stream.close()

"""A stream of renewals by hand, to raftkv or etcd, and the Lease service's other calls."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from google.protobuf.message import Message

from raftkv.pb import rpc_pb2
from tests.server.grpc_api import Api, Failed
from tests.server.streaming import Stream

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


class KeepAlive(Stream):
    """A stream of renewals."""

    def __init__(self, api: Api, metadata: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(api, "/etcdserverpb.Lease/LeaseKeepAlive", rpc_pb2.LeaseKeepAliveResponse, metadata)

    def renew(self, *ids: int) -> None:
        for lease_id in ids:
            self.send(rpc_pb2.LeaseKeepAliveRequest(ID=lease_id))


@contextmanager
def keeping_alive(api: Api, metadata: tuple[tuple[str, str], ...] = ()) -> Iterator[KeepAlive]:
    stream = KeepAlive(api, metadata)
    try:
        yield stream
    finally:
        stream.close()

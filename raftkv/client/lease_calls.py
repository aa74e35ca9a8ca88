"""The calls about leases, as operations; see `calls.py`.

A renewal is one request and one answer. The server's method is a stream both ways, but one request and then the end of the
stream is all that a plain call sends, and its one answer all that comes back: so renewals go where other calls go, and are
sent again elsewhere when a server fails, without a stream that would have to be moved.

What may not live here: sending.
"""

from __future__ import annotations

from typing import Final

from raftkv.client.operation import Kind, Operation
from raftkv.pb import rpc_pb2

_LEASE: Final = "/etcdserverpb.Lease/"
GRANT: Final = Kind(name="lease_grant", path=_LEASE + "LeaseGrant", parse=rpc_pb2.LeaseGrantResponse.FromString)
REVOKE: Final = Kind(name="lease_revoke", path=_LEASE + "LeaseRevoke", parse=rpc_pb2.LeaseRevokeResponse.FromString)
KEEP_ALIVE: Final = Kind(
    name="lease_keep_alive",
    path=_LEASE + "LeaseKeepAlive",
    parse=rpc_pb2.LeaseKeepAliveResponse.FromString,
    reads=True,  # Renewing twice is renewing once, later.
)
TIME_TO_LIVE: Final = Kind(
    name="lease_time_to_live",
    path=_LEASE + "LeaseTimeToLive",
    parse=rpc_pb2.LeaseTimeToLiveResponse.FromString,
    reads=True,
)
LEASES: Final = Kind(
    name="lease_leases", path=_LEASE + "LeaseLeases", parse=rpc_pb2.LeaseLeasesResponse.FromString, reads=True
)


def grant(lease_id: int, ttl: int) -> Operation[int]:
    """Grant a lease; the answer is the TTL in seconds, which may be longer than the one asked for."""
    request = rpc_pb2.LeaseGrantRequest(ID=lease_id, TTL=ttl)
    return Operation(GRANT, request.SerializeToString(), lambda response: int(response.TTL))


def revoke(lease_id: int) -> Operation[None]:
    """Revoke a lease, and delete its keys."""
    request = rpc_pb2.LeaseRevokeRequest(ID=lease_id)
    return Operation(REVOKE, request.SerializeToString(), lambda _: None)


def keep_alive(lease_id: int) -> Operation[int]:
    """Renew a lease; the answer is its TTL from now on, 0 or less where there is no such lease."""
    request = rpc_pb2.LeaseKeepAliveRequest(ID=lease_id)
    return Operation(KEEP_ALIVE, request.SerializeToString(), lambda response: int(response.TTL))


def granted_ttl(lease_id: int) -> Operation[int]:
    """The TTL that a lease was granted; 0 where there is no such lease."""
    request = rpc_pb2.LeaseTimeToLiveRequest(ID=lease_id)
    return Operation(TIME_TO_LIVE, request.SerializeToString(), lambda response: int(response.grantedTTL))


def keys(lease_id: int) -> Operation[tuple[bytes, ...]]:
    """The keys that hang on a lease, in order."""
    request = rpc_pb2.LeaseTimeToLiveRequest(ID=lease_id, keys=True)
    return Operation(TIME_TO_LIVE, request.SerializeToString(), lambda response: tuple(sorted(response.keys)))


def leases() -> Operation[tuple[int, ...]]:
    """The ids of all leases."""
    return Operation(LEASES, b"", lambda response: tuple(sorted(lease.ID for lease in response.leases)))

"""What can be asked about leases: how long one has left, what hangs on it, and which there are.

What may not live here: changes (`commands`).
"""

from __future__ import annotations

from raftkv.lease.clock import LEAD_MAX_MS
from raftkv.mvcc.environment import lmdb_errors
from raftkv.mvcc.leases import Lease
from raftkv.mvcc.store import Store
from raftkv.pb import rpc_pb2

NO_SUCH_LEASE_TTL = -1


class LeaseReads:
    """Reads on the thread of the store: they see what is applied. Of a header, `revision` alone is set."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def time_to_live(self, request: rpc_pb2.LeaseTimeToLiveRequest) -> rpc_pb2.LeaseTimeToLiveResponse:
        """Seconds left, rounded down; -1 if there is no such lease, which is no error (and then there is nothing else)."""
        with lmdb_errors("read"):
            leases = self._store.leases
            lease = leases.get(request.ID)
            header = rpc_pb2.ResponseHeader(revision=self._store.revision)
            if lease is None:
                return rpc_pb2.LeaseTimeToLiveResponse(header=header, ID=request.ID, TTL=NO_SUCH_LEASE_TTL)
            return rpc_pb2.LeaseTimeToLiveResponse(
                header=header,
                ID=lease.id,
                TTL=_remaining_s(lease, leases.clock_ms),
                grantedTTL=lease.ttl_s,
                keys=leases.keys(lease.id) if request.keys else (),
            )

    def list(self) -> rpc_pb2.LeaseLeasesResponse:
        """All leases, the next to end first."""
        with lmdb_errors("read"):
            return rpc_pb2.LeaseLeasesResponse(
                header=rpc_pb2.ResponseHeader(revision=self._store.revision),
                leases=[rpc_pb2.LeaseStatus(ID=lease_id) for lease_id in self._store.leases.by_deadline()],
            )


def _remaining_s(lease: Lease, clock_ms: int) -> int:
    """What is certain to be left: the deadline is later by the leader's lead."""
    return min(max(0, lease.deadline_ms - LEAD_MAX_MS - clock_ms) // 1000, lease.ttl_s)

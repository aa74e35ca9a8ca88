"""Grant, renew, revoke, and the passing of time, on a store: the same on every node, whenever it applies them.

Each function is one command of the log. What may not live here: clocks. The only time here is what the log says it is.

Source: etcd 3.4 server/lease/lessor.go for the answers; the clock is ours (see the package).
"""

from __future__ import annotations

from raftkv.errors import LEASE_EXISTS, LEASE_NOT_FOUND, FailedPrecondition, NotFound
from raftkv.lease.clock import LEAD_MAX_MS
from raftkv.mvcc.leases import Lease
from raftkv.mvcc.store import Store
from raftkv.pb import rpc_pb2, store_pb2

LEASES_ENDED_MAX = 500
"""One advance of the clock ends no more leases than this; the next one goes on."""
KEYS_DELETED_MAX = 5_000
"""Nor does it begin with another lease after so many keys: about 50 ms."""


def grant(store: Store, request: rpc_pb2.LeaseGrantRequest) -> rpc_pb2.LeaseGrantResponse:
    """Raises: FailedPrecondition: there is such a lease."""
    leases = store.leases
    if leases.exists(request.ID):
        raise FailedPrecondition(LEASE_EXISTS)
    leases.put(Lease(request.ID, request.TTL, _deadline_ms(leases.clock_ms, request.TTL)))
    store.dirty = True
    return rpc_pb2.LeaseGrantResponse(header=_header(store), ID=request.ID, TTL=request.TTL)


def renew(store: Store, request: rpc_pb2.LeaseKeepAliveRequest) -> rpc_pb2.LeaseKeepAliveResponse:
    """The lease's whole TTL begins anew; a TTL of 0 is the answer when there is no such lease."""
    leases = store.leases
    lease = leases.get(request.ID)
    if lease is None:
        return rpc_pb2.LeaseKeepAliveResponse(header=_header(store), ID=request.ID, TTL=0)
    leases.put(Lease(lease.id, lease.ttl_s, _deadline_ms(leases.clock_ms, lease.ttl_s)))
    store.dirty = True
    return rpc_pb2.LeaseKeepAliveResponse(header=_header(store), ID=lease.id, TTL=lease.ttl_s)


def revoke(store: Store, request: rpc_pb2.LeaseRevokeRequest) -> rpc_pb2.LeaseRevokeResponse:
    """End a lease; its keys are deleted in one revision.

    Raises:
        NotFound
    """
    lease = store.leases.get(request.ID)
    if lease is None:
        raise NotFound(LEASE_NOT_FOUND)
    _end(store, lease)
    return rpc_pb2.LeaseRevokeResponse(header=_header(store))


def advance(store: Store, command: store_pb2.ClockAdvance, *, entry_term: int) -> None:
    """So much time has passed: end the leases whose deadline has come, each in a revision of its own, as etcd does.

    What a leader said in another term than the entry's moves nothing: it was deposed, and the entry is a copy that was
    passed on. A coarse one was said when there was no lease to count for: a lease granted since must not pay for it. The clock
    never goes back.
    """
    leases = store.leases
    is_meant = command.term == entry_term and not (command.coarse and leases.next_deadline_ms is not None)
    if is_meant and command.now_ms >= leases.clock_ms:
        leases.clock_ms = command.now_ms
        store.dirty = True
        _end_due(store)


def _end_due(store: Store) -> None:
    keys = 0
    for _ in range(LEASES_ENDED_MAX):
        lease = store.leases.next_due()
        if lease is None:
            return
        keys += _end(store, lease)
        if keys >= KEYS_DELETED_MAX:
            return


def _end(store: Store, lease: Lease) -> int:
    """Delete what hangs on a lease, and then the lease; says how many keys that were."""
    keys = store.leases.keys(lease.id)
    for key in keys:
        store.delete(key, lease.id)
    store.end_write()
    store.operation_counts.deletes += len(keys)
    store.operation_counts.txns += len(keys) > 1
    store.leases.remove(lease)
    store.dirty = True
    return len(keys)


def _deadline_ms(clock_ms: int, ttl_s: int) -> int:
    """The leader's clock may be ahead of the log's by so much: nobody's lease is cut by that."""
    return clock_ms + ttl_s * 1000 + LEAD_MAX_MS


def _header(store: Store) -> rpc_pb2.ResponseHeader:
    return rpc_pb2.ResponseHeader(revision=store.revision)

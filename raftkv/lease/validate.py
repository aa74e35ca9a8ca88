"""etcd's rules for the TTL of a lease, which need no state.

Source: etcd 3.4 server/lease/lessor.go (MaxLeaseTTL), server/etcdserver/server.go (MinLeaseTTL).
"""

from __future__ import annotations

import math

from raftkv.errors import LEASE_TTL_TOO_LARGE, OutOfRange

TTL_MAX_S = 9_000_000_000


def min_ttl_s(*, election_timeout_ms: int, heartbeat_interval_ms: int) -> int:
    """The least TTL that is granted: an election must not cost anybody a lease."""
    election_heartbeats = election_timeout_ms // heartbeat_interval_ms
    return math.ceil(3 * election_heartbeats // 2 * heartbeat_interval_ms / 1000)


def granted_ttl_s(ttl_s: int, *, min_s: int) -> int:
    """What a client that asks for `ttl_s` is granted: 0 and less too count as too little.

    Raises:
        OutOfRange
    """
    if ttl_s > TTL_MAX_S:
        raise OutOfRange(LEASE_TTL_TOO_LARGE)
    return max(ttl_s, min_s)

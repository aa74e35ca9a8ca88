"""What is asked: requests drawn from a seed. A sequence of steps can be sent again, and any part of it, too."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message
from google.protobuf.text_format import MessageToString

from raftkv.pb import rpc_pb2
from tests.mvcc.test_against_etcd import ENDS, Operations

KV, LEASE, WATCH = "etcdserverpb.KV", "etcdserverpb.Lease", "etcdserverpb.Watch"

LEASES = (1, 2, 3, 4, 0x7FFF_FFFF_FFFF_FFFF)
TTLS_S = (600, 1_000, 86_400, 9_000_000_000)
"""None ends while steps are sent."""
ODD_TTLS_S = (9_000_000_001, 2**63 - 1)
"""None below the least that is granted: that follows from the election timeout, so it is 2 s there and 1 s here."""
WATCH_IDS_MAX = 24


@dataclass(frozen=True)
class Step:
    """One request to both.

    Attributes:
        service: on the wire.
        name: the RPC; of a watch: Create or Cancel.
    """

    service: str
    name: str
    request: Message

    @property
    def is_compaction(self) -> bool:
        return self.name == "Compact"

    def __str__(self) -> str:
        return f"{self.name} {{{shortened(MessageToString(self.request, as_one_line=True))}}}"


def shortened(text: str) -> str:
    """Text of a message in one line, without long runs of one byte."""
    return re.sub(r"(\\\d{3})\1{7,}", lambda run: f"{run[1]}*{len(run[0]) // 4}", " ".join(text.split()))


class Steps:
    """Draws one step after the other.

    Args:
        leases: whether the system has leases.
    """

    def __init__(self, seed: int, *, leases: bool) -> None:
        self._operations = _WithLeases(seed) if leases else Operations(seed)
        self._random = self._operations.random
        self._leases = leases

    def next(self, revision: int) -> Step:
        """The next one, when the store stands at this revision."""
        self._operations.revision = revision
        kind = self._random.random()
        if kind < 0.04:
            return self._watch()
        if kind < 0.16 and self._leases:
            return self._lease()
        method, request, _ = self._operations.next()
        service, _, name = method.partition("/")
        return Step(f"etcdserverpb.{service}", name, request)

    def _watch(self) -> Step:
        choose = self._random
        if choose.random() < 0.4:
            return Step(WATCH, "Cancel", rpc_pb2.WatchCancelRequest(watch_id=choose.randrange(1, WATCH_IDS_MAX)))
        request = rpc_pb2.WatchCreateRequest(
            key=self._operations.key(),
            range_end=choose.choice(ENDS),
            start_revision=max(0, self._operations.some_revision()) if choose.random() < 0.6 else 0,
            filters=choose.choice([[], [], [0], [1], [0, 1]]),
            prev_kv=choose.random() < 0.5,
            fragment=choose.random() < 0.2,
            watch_id=choose.randrange(1, WATCH_IDS_MAX),
        )
        return Step(WATCH, "Create", request)

    def _lease(self) -> Step:
        choose, lease = self._random, self._random.choice(LEASES)
        kind = choose.random()
        if kind < 0.4:
            ttl = choose.choice(TTLS_S if choose.random() < 0.85 else ODD_TTLS_S)
            return Step(LEASE, "LeaseGrant", rpc_pb2.LeaseGrantRequest(ID=lease, TTL=ttl))
        if kind < 0.6:
            return Step(LEASE, "LeaseRevoke", rpc_pb2.LeaseRevokeRequest(ID=lease))
        if kind < 0.8:
            keys = choose.random() < 0.7
            return Step(LEASE, "LeaseTimeToLive", rpc_pb2.LeaseTimeToLiveRequest(ID=lease, keys=keys))
        if kind < 0.9:
            return Step(LEASE, "LeaseKeepAlive", rpc_pb2.LeaseKeepAliveRequest(ID=lease))
        return Step(LEASE, "LeaseLeases", rpc_pb2.LeaseLeasesRequest())


class _WithLeases(Operations):
    """Attaches leases that exist, too."""

    def put(self) -> Any:
        request = super().put()
        if self.random.random() < 0.3:
            request.lease = self.random.choice(LEASES)
        return request

    def compare(self) -> Any:
        compare = super().compare()
        if compare.WhichOneof("target_union") == "lease" and self.random.random() < 0.7:
            compare.lease = self.random.choice(LEASES)
        return compare

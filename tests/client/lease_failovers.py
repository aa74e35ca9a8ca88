"""Leases through leader kills: `python -m tests.client.lease_failovers --kills 50`.

Each time the leader is killed while two leases run. One lives in a client, which renews it, from the first kill to the
last: it must never be lost. The other one's owner says nothing after it was granted: it must end in time, no sooner.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass, field

import raftkv
from raftkv.lab.cluster import LocalCluster
from raftkv.pb import rpc_pb2
from tests.server.grpc_api import Api, Failed

TTL_S = 5
LATE_S = 2.0
"""A lease whose owner fell silent lives no longer than this beyond its TTL."""
LOOK_S = 0.02
CALL_S = 20.0


@dataclass
class Lives:
    """What was seen of them, in seconds."""

    silent_s: list[float] = field(default_factory=list)
    """From before the grant to when the key was seen no more, of each lease that was not renewed."""
    least_left_s: float = float(TTL_S)
    """Of the renewed one, by its owner's clock."""


def live_through_kills(cluster: LocalCluster, *, kills: int, late_s: float = LATE_S) -> Lives:
    """Kill the leader so often, and assert that a lease ends if its owner is silent, in time, and only then."""
    lives = Lives()
    with (
        raftkv.connect(list(cluster.endpoints.values()), timeout=CALL_S) as kv,
        kv.lease(TTL_S) as renewed,
    ):
        kv.put("renewed", "", lease=renewed)
        for _ in range(kills):
            leader = cluster.wait_for_leader()
            survivor = next(name for name in cluster.names if name != leader)
            began = time.monotonic()
            _grant(cluster.endpoint(survivor), b"silent")
            cluster.kill(leader)
            while kv.get("silent") is not None:
                lives.least_left_s = min(lives.least_left_s, renewed.remaining())
                time.sleep(LOOK_S)
            lives.silent_s.append(time.monotonic() - began)
            assert TTL_S <= lives.silent_s[-1] <= TTL_S + late_s, lives
            renewed.require()
            assert kv.get("renewed") is not None, lives
            cluster.restart(leader)
    return lives


def _grant(endpoint: str, key: bytes) -> None:
    """A lease that nobody will renew, and a key on it."""
    api = Api(endpoint)
    granted = api.call("etcdserverpb.Lease", "LeaseGrant", rpc_pb2.LeaseGrantRequest(TTL=TTL_S))
    assert not isinstance(granted, Failed), granted
    put = api.kv(rpc_pb2.PutRequest(key=key, lease=granted.ID))
    assert not isinstance(put, Failed), put
    api.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    arguments = parser.parse_args()
    with LocalCluster.temporary(nodes=3, proxy=False) as cluster:
        cluster.start()
        lives = live_through_kills(cluster, kills=arguments.kills)
    sys.stdout.write(
        f"{arguments.kills} leaders killed: a renewed lease of {TTL_S} s lives, with {lives.least_left_s:.2f} s left at least;"
        f" silent ones ended after {min(lives.silent_s):.2f} to {max(lives.silent_s):.2f} s\n"
    )


if __name__ == "__main__":
    main()

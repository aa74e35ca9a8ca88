"""Leases of the client, on etcd and on raftkv: renewed while they are held, and lost by the owner's own clock."""

from __future__ import annotations

import asyncio
import queue
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import raftkv
from raftkv.lab.cluster import LocalCluster
from raftkv.pb import rpc_pb2
from tests.client.lease_failovers import live_through_kills
from tests.server.grpc_api import Api
from tests.server.process import servers_in

WAIT_S = 30.0
TTL_S = 2


def wait_until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


async def wait_for_count(kv: raftkv.AsyncClient, prefix: str, count: int) -> None:
    async with asyncio.timeout(WAIT_S):
        while await kv.count(prefix=prefix) != count:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)


def is_renewed(remaining: Callable[[], float]) -> Callable[[], bool]:
    """Whether more time is left than before: somebody renewed it."""
    last = remaining()

    def look() -> bool:
        nonlocal last
        before, last = last, remaining()
        return last > before

    return look


def test_a_lease_is_renewed_and_takes_its_keys_along(endpoint: str) -> None:
    with raftkv.connect(endpoint) as kv:
        with kv.lease(TTL_S) as lease:
            kv.put("lease/a", "1", lease=lease)
            kv.txn().then(kv.op.put("lease/b", "2", lease=lease)).commit()
            assert lease.keys() == (b"lease/a", b"lease/b")
            assert lease.id in kv.leases()
            assert kv.txn().when(kv["lease/a"].lease == lease).commit().succeeded
            assert 0 < lease.remaining() <= lease.ttl
            wait_until(is_renewed(lease.remaining), "it was not renewed")
            assert not lease.lost.is_set()

        assert lease.lost.is_set()
        assert kv.count(prefix="lease/") == 0
        assert lease.id not in kv.leases()
        with pytest.raises(raftkv.LeaseLost, match="it was revoked"):
            kv.put("lease/c", "3", lease=lease)


def test_one_that_was_revoked_elsewhere_is_lost_and_its_owner_is_told(endpoint: str) -> None:
    told: queue.Queue[raftkv.Lease] = queue.Queue()
    with raftkv.connect(endpoint) as kv:
        lease = kv.lease(TTL_S, on_lost=lambda lost: (lost.keys(), told.put(lost)))
        assert not lease.lost.wait(0.01)
        revoke(endpoint, lease.id)

        assert lease.lost.wait(WAIT_S)
        assert told.get(timeout=WAIT_S) is lease
        with pytest.raises(raftkv.LeaseLost, match="the server says"):
            lease.require()
        with pytest.raises(raftkv.LeaseLost) as refused:
            kv.put("late", "", lease=lease)
        assert refused.value.outcome is raftkv.Outcome.NOT_APPLIED
        assert kv.get("late") is None


def revoke(endpoint: str, lease_id: int) -> None:
    """As somebody else would."""
    api = Api(endpoint.removeprefix("http://"))
    api.call("etcdserverpb.Lease", "LeaseRevoke", rpc_pb2.LeaseRevokeRequest(ID=lease_id))
    api.close()


def test_without_a_server_it_is_lost_by_the_owners_own_clock(tmp_path: Path) -> None:
    with servers_in(tmp_path) as servers:
        server = servers.start().ready()
        with raftkv.connect(server.endpoint) as kv:
            lease = kv.lease(TTL_S)
            server.process.kill()
            gone_at = time.monotonic() + lease.remaining()
            assert not lease.lost.is_set()

            assert lease.lost.wait(WAIT_S)
            assert time.monotonic() >= gone_at
            with pytest.raises(raftkv.LeaseLost, match="no renewal was confirmed within its TTL"):
                lease.require()


def test_a_server_that_was_restarted_goes_on_with_it(tmp_path: Path) -> None:
    with servers_in(tmp_path) as servers:
        flags = ("--listen-client-urls", f"http://127.0.0.1:{servers.ports(1)[0]}")
        server = servers.start(*flags).ready()
        with raftkv.connect(server.endpoint, timeout=20) as kv, kv.lease(12) as lease:
            kv.put("lease/restarted", "", lease=lease)
            server.stop()
            server = servers.start(*flags).ready()
            wait_until(is_renewed(lease.remaining), "it was not renewed")
            assert kv.get("lease/restarted") is not None


def test_a_closed_client_renews_nothing(endpoint: str) -> None:
    with raftkv.connect(endpoint) as kv:
        lease = kv.lease(TTL_S)
    assert lease.lost.wait(WAIT_S)
    with pytest.raises(raftkv.LeaseLost, match="the client is closed"):
        lease.require()


@pytest.mark.parametrize("ttl", [0, -1, 1.5, True, 2**63])
def test_a_ttl_is_a_whole_number_of_seconds(ttl: int) -> None:
    with raftkv.connect("127.0.0.1:1") as kv, pytest.raises(raftkv.ConfigError, match="whole number of seconds"):
        kv.lease(ttl)


def test_a_lease_dies_with_its_owner_and_not_with_the_leader() -> None:
    """`python -m tests.client.lease_failovers --kills 50` for more, and for the claim on a machine that does nothing else."""
    with LocalCluster.temporary(nodes=3, proxy=False) as cluster:
        cluster.start()
        assert len(live_through_kills(cluster, kills=1, late_s=WAIT_S).silent_s) == 1


def test_a_ttl_that_no_server_grants_is_refused(endpoint: str) -> None:
    with raftkv.connect(endpoint) as kv, pytest.raises(raftkv.OutOfRange, match="too large lease TTL"):
        kv.lease(10**12)


def test_without_a_server_the_deadline_ends_the_attempt() -> None:
    with raftkv.connect("127.0.0.1:1") as kv, pytest.raises(raftkv.DeadlineExceeded, match="cannot connect"):
        kv.lease(10, timeout=0.3)


async def test_the_async_face_grants_when_awaited_or_entered(endpoint: str) -> None:
    async with raftkv.aio.connect(endpoint) as kv:
        told: list[raftkv.aio.AsyncLease] = []
        with pytest.raises(RuntimeError, match="not granted yet"):
            _ = kv.lease(TTL_S).id
        lease = await kv.lease(TTL_S, on_lost=told.append)
        await kv.put("lease/async", "", lease=lease)
        assert await lease.keys() == (b"lease/async",)
        await asyncio.to_thread(revoke, endpoint, lease.id)
        async with asyncio.timeout(WAIT_S):
            await lease.lost.wait()
        assert told == [lease]

        async with kv.lease(TTL_S) as entered:
            await kv.put("lease/async", "", lease=entered)
        assert await kv.get("lease/async") is None
        assert entered.lost.is_set()


FORKING = """
import os, sys, time, raftkv
with raftkv.connect(sys.argv[1]) as kv, kv.lease(2) as lease, kv.lock("forked", ttl=2) as lock:
    kv.put("forked/by", "", lease=lease)
    child = os.fork()
    if not child:
        assert lease.lost.is_set() and lock.lost.is_set()
        lease.revoke()
        with kv.lease(2) as own:
            kv.put("forked/child", "", lease=own)
        kv.close()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    end = time.monotonic() + 1.5 * lease.ttl
    while time.monotonic() < end:
        lease.require(), lock.require()
        time.sleep(0.05)
    assert kv.get("forked/by") is not None
    assert kv.txn().when(lock.fence).commit().succeeded
"""


def test_after_a_fork_the_parent_has_it_and_the_child_has_not(node: str) -> None:
    """In a process of its own: gRPC objects of other tests would not survive the fork."""
    done = subprocess.run(
        [sys.executable, "-c", FORKING, node], timeout=60, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr

"""Leadership moved on request: by etcdctl, by `raftkv move-leader`, by the client library; and what cannot be moved."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

import raftkv
from raftkv.errors import FailedPrecondition
from raftkv.lab.cluster import LocalCluster
from raftkv.pb import rpc_pb2
from tests.failover.load import load, write
from tests.server.grpc_api import Api, Failed
from tests.server.test_etcdctl import etcdctl

BAD_TRANSFEREE = Failed("FAILED_PRECONDITION", "etcdserver: bad leader transferee")
NOT_LEADER = Failed("FAILED_PRECONDITION", "etcdserver: not leader")


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster.temporary(nodes=3, proxy=False) as cluster:
        cluster.up()
        yield cluster


@pytest.fixture
def ids(cluster: LocalCluster) -> dict[str, int]:
    with raftkv.connect(",".join(cluster.endpoints.values())) as kv:
        return {member.name: member.id for member in kv.members()}


def follower_of(cluster: LocalCluster, leader: str) -> str:
    return next(name for name in cluster.names if name != leader)


def ask(endpoint: str, target: int) -> object:
    with ExitStack() as stack:
        api = Api(endpoint)
        stack.callback(api.close)
        return api.call("etcdserverpb.Maintenance", "MoveLeader", rpc_pb2.MoveLeaderRequest(targetID=target))


@pytest.mark.skipif(shutil.which("etcdctl") is None, reason="etcdctl is not installed (Debian: etcd-client)")
def test_etcdctl_moves_the_leader_and_prints_what_it_prints_for_etcd(
    cluster: LocalCluster, ids: dict[str, int]
) -> None:
    leader = cluster.wait_for_leader()
    follower = follower_of(cluster, leader)

    printed = etcdctl(",".join(cluster.endpoints.values()), "move-leader", f"{ids[follower]:x}")

    assert printed.code == 0, printed
    assert printed.out == f"Leadership transferred from {ids[leader]:x} to {ids[follower]:x}\n"
    assert cluster.wait_for_leader() == follower


def test_only_the_leader_hands_over_and_only_to_a_voter(cluster: LocalCluster, ids: dict[str, int]) -> None:
    leader = cluster.wait_for_leader()
    follower = follower_of(cluster, leader)

    assert ask(cluster.endpoint(follower), ids[follower]) == NOT_LEADER
    assert ask(cluster.endpoint(leader), 12345) == BAD_TRANSFEREE
    assert ask(cluster.endpoint(leader), 0) == BAD_TRANSFEREE
    assert ask(cluster.endpoint(leader), ids[leader]) == rpc_pb2.MoveLeaderResponse()
    assert cluster.wait_for_leader() == leader


async def test_the_client_library_moves_the_leader(cluster: LocalCluster, ids: dict[str, int]) -> None:
    leader = await asyncio.to_thread(cluster.wait_for_leader)
    follower = follower_of(cluster, leader)
    async with raftkv.aio.connect(list(cluster.endpoints.values())) as kv:
        with pytest.raises(FailedPrecondition, match="not leader"):
            await kv.move_leader(ids[follower], endpoint=cluster.endpoint(follower))

        await kv.move_leader(ids[follower], endpoint=cluster.endpoint(leader))

        assert (await kv.status(cluster.endpoint(follower))).is_leader


def test_leadership_goes_round_under_load_and_no_request_fails(cluster: LocalCluster, ids: dict[str, int]) -> None:
    with load(cluster) as traffic:
        for _ in range(6):
            leader = cluster.wait_for_leader()
            follower = follower_of(cluster, leader)
            assert ask(cluster.endpoint(leader), ids[follower]) == rpc_pb2.MoveLeaderResponse()
            write(traffic, 50)
        counts = traffic.counts
    assert (counts.refused, counts.unknown) == (0, 0)


def test_a_transfer_to_a_member_that_is_down_is_given_up_and_the_leader_leads_on(
    cluster: LocalCluster, ids: dict[str, int]
) -> None:
    leader = cluster.wait_for_leader()
    follower = follower_of(cluster, leader)
    cluster.kill(follower)

    answer = ask(cluster.endpoint(leader), ids[follower])

    assert answer == Failed("UNKNOWN", "etcdserver: request timed out, leader transfer took too long")
    assert cluster.wait_for_leader() == leader
    cluster.restart(follower)

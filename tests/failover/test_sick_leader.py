"""A leader whose disk is sick makes way: writes go on, and nothing acknowledged is lost."""

from __future__ import annotations

import grpc

from raftkv.lab.cluster import LocalCluster
from raftkv.pb.drill_pb2 import BreakRequest, BreakResponse, Fault, HealRequest, HealResponse
from tests.failover.conftest import PATIENT, Start
from tests.failover.load import load, term_of, wait_until, write


def break_disk(cluster: LocalCluster, name: str, fault: Fault, *, duration_s: float = 30.0) -> None:
    with grpc.insecure_channel(cluster.endpoint(name)) as channel:
        call = channel.unary_unary(
            "/raftkv.drill.Drill/Break",
            request_serializer=BreakRequest.SerializeToString,
            response_deserializer=BreakResponse.FromString,
        )
        call(BreakRequest(fault=fault, duration_ms=int(duration_s * 1000)), timeout=10.0, wait_for_ready=True)


def heal_disk(cluster: LocalCluster, name: str) -> None:
    with grpc.insecure_channel(cluster.endpoint(name)) as channel:
        call = channel.unary_unary(
            "/raftkv.drill.Drill/Heal",
            request_serializer=HealRequest.SerializeToString,
            response_deserializer=HealResponse.FromString,
        )
        call(HealRequest(), timeout=10.0, wait_for_ready=True)


def test_a_leader_whose_log_hangs_hands_over_and_comes_back_as_a_follower(start_cluster: Start) -> None:
    cluster = start_cluster("--enable-drills")
    with load(cluster) as traffic:
        leader = cluster.wait_for_leader()
        break_disk(cluster, leader, Fault.DISK_STALL)
        new_leader = cluster.wait_for_leader(other_than=leader)
        write(traffic, 200)
        heal_disk(cluster, leader)
        wait_until(lambda: cluster.leader() is not None, "somebody leads")
        write(traffic, 200)
        assert cluster.process_state(leader) == "running"
        assert cluster.process_state(new_leader) == "running"


def test_a_follower_whose_log_hangs_costs_no_election(start_cluster: Start) -> None:
    cluster = start_cluster("--enable-drills", *PATIENT)
    with load(cluster) as traffic:
        leader = cluster.wait_for_leader()
        term = term_of(cluster, leader)
        follower = next(name for name in cluster.names if name != leader)
        break_disk(cluster, follower, Fault.DISK_STALL)
        write(traffic, 1_000)
        assert (cluster.leader(), term_of(cluster, leader)) == (leader, term)
        heal_disk(cluster, follower)


def test_a_leader_whose_disk_is_full_makes_way_and_the_cluster_stays_writable(start_cluster: Start) -> None:
    cluster = start_cluster("--enable-drills")
    with load(cluster) as traffic:
        leader = cluster.wait_for_leader()
        break_disk(cluster, leader, Fault.DISK_FULL)
        cluster.wait_for_leader(other_than=leader)
        write(traffic, 500)
        assert cluster.leader() != leader
        # It follows as long as there is room in what it had allocated. A write that finds none ends it: it is not acknowledged.
        if cluster.process_state(leader) == "running":
            heal_disk(cluster, leader)
        else:
            cluster.restart(leader)
        write(traffic, 200)

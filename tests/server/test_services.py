"""What a node serves besides KV: status, members, health, raftkv's batches, and a clear no to what is not built yet."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from grpc_health.v1 import health_pb2

from raftkv.lab.cluster import LocalCluster
from raftkv.pb import rpc_pb2, store_pb2
from raftkv.pb.services import methods
from tests.server.beside_etcd import put_op, range_op
from tests.server.grpc_api import Api, Failed
from tests.server.process import Servers, wait_until

SERVED = {
    "etcdserverpb.KV": {"Range", "Put", "DeleteRange", "Txn", "Compact"},
    "etcdserverpb.Watch": {"Watch"},
    "etcdserverpb.Lease": {"LeaseGrant", "LeaseRevoke", "LeaseKeepAlive", "LeaseTimeToLive", "LeaseLeases"},
    "etcdserverpb.Cluster": {"MemberList", "MemberAdd", "MemberRemove", "MemberUpdate", "MemberPromote"},
    "etcdserverpb.Maintenance": {"Alarm", "Status", "Defragment", "Hash", "HashKV", "Snapshot", "MoveLeader"},
    "v3lockpb.Lock": {"Lock", "Unlock"},
    "v3electionpb.Election": {"Campaign", "Proclaim", "Leader", "Observe", "Resign"},
    "raftkv.store.Store": {"Batches", "OpenSession"},
    "raftkv.flight.Flight": {"Record"},
}


# --- Status, MemberList, HashKV ---------------------------------------------------------------------------------------


def status_of(api: Api) -> rpc_pb2.StatusResponse:
    return api.call("etcdserverpb.Maintenance", "Status", rpc_pb2.StatusRequest())


def test_status_tells_the_same_leader_and_term_on_every_node(nodes: dict[str, Api]) -> None:
    def answered() -> list[rpc_pb2.StatusResponse]:
        return [status_of(api) for api in nodes.values()]

    wait_until(lambda: len({(answer.leader, answer.raftTerm) for answer in answered()}) == 1)  # All have heard of it.
    answers = answered()
    ids = {answer.header.member_id for answer in answers}
    assert len(ids) == 3
    for answer in answers:
        assert answer.leader in ids
        assert answer.version == "3.4.23"
        assert answer.raftIndex >= answer.raftAppliedIndex > 0
        assert answer.raftTerm == answer.header.raft_term > 0
        assert answer.dbSize >= answer.dbSizeInUse > 0
        assert not answer.errors
        assert not answer.isLearner


def test_status_shows_a_write_that_was_acknowledged_by_the_node(node: Api) -> None:
    written = node.put(b"status", b"v")

    assert status_of(node).header.revision >= written.header.revision


def test_the_member_list_names_every_node_with_its_urls_in_order_of_ids(
    cluster: LocalCluster, nodes: dict[str, Api]
) -> None:
    def members(api: Api) -> list[rpc_pb2.Member]:
        return list(api.call("etcdserverpb.Cluster", "MemberList", rpc_pb2.MemberListRequest()).members)

    wait_until(lambda: all(member.clientURLs for api in nodes.values() for member in members(api)))

    lists = [members(api) for api in nodes.values()]
    assert lists[0] == lists[1] == lists[2]
    assert [member.ID for member in lists[0]] == sorted(member.ID for member in lists[0])
    for name, state in cluster.state.nodes.items():
        (member,) = [member for member in lists[0] if member.name == name]
        assert (list(member.clientURLs), list(member.peerURLs)) == ([state.client_url], [state.peer_url])
        assert member.ID == status_of(nodes[name]).header.member_id


def test_the_member_lists_header_has_no_revision_as_in_etcd(node: Api, etcd: Api) -> None:
    for api in (node, etcd):
        header = api.call("etcdserverpb.Cluster", "MemberList", rpc_pb2.MemberListRequest()).header
        assert header.revision == 0
        assert header.cluster_id
        assert header.member_id
        assert header.raft_term


def test_the_hash_is_the_same_on_every_node_and_changes_with_a_write(nodes: dict[str, Api]) -> None:
    def hashes(revision: int) -> set[tuple[int, int]]:
        answers = []
        for api in nodes.values():
            api.get(b"-")  # Linearizable: this node has applied what any node acknowledged.
            request = rpc_pb2.HashKVRequest(revision=revision)
            answers.append(api.call("etcdserverpb.Maintenance", "HashKV", request))
        return {(answer.hash, answer.compact_revision) for answer in answers}

    first = nodes["n1"].put(b"hash", b"1").header.revision
    before = hashes(first)
    second = nodes["n2"].put(b"hash", b"2").header.revision
    after = hashes(second)

    assert len(before) == len(after) == 1
    assert before != after
    assert hashes(first) == before, "the past does not change"


# --- what is not built yet --------------------------------------------------------------------------------------------

NOT_SERVED = [
    (service, name)
    for service, of_service in methods().items()
    if service not in ("raftkv.peer.Peer", "raftkv.drill.Drill")
    for name in of_service
    if name not in SERVED.get(service, ())
]


@pytest.mark.parametrize(("service", "name"), NOT_SERVED, ids=lambda part: part)
def test_what_is_not_built_yet_says_so(nodes: dict[str, Api], service: str, name: str) -> None:
    method = methods()[service][name]
    request = method.request_type()
    channel = nodes["n1"].channel
    kind = (method.client_streaming, method.server_streaming)
    make = {
        (False, False): channel.unary_unary,
        (False, True): channel.unary_stream,
        (True, False): channel.stream_unary,
        (True, True): channel.stream_stream,
    }[kind]
    call = make(
        method.path,
        request_serializer=method.request_type.SerializeToString,
        response_deserializer=method.response_type.FromString,
    )

    def ask() -> object:
        answer = call(iter([request]) if method.client_streaming else request, timeout=10.0)
        return next(answer) if method.server_streaming else answer

    with pytest.raises(grpc.RpcError) as refused:
        ask()

    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert refused.value.details() == "etcdserver: not implemented by this version of raftkv"


@pytest.mark.parametrize("path", ["/raftkv.peer.Peer/Stream", "/nobody.Knows/This", "/", "/etcdserverpb.KV/Nothing"])
def test_no_other_path_leads_anywhere_on_the_clients_port(nodes: dict[str, Api], path: str) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        nodes["n1"].channel.unary_unary(path)(b"", timeout=10.0)

    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


# --- health -----------------------------------------------------------------------------------------------------------


def health_of(api: Api, service: str = "") -> int:
    check = api.channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    return check(health_pb2.HealthCheckRequest(service=service), timeout=10.0, wait_for_ready=True).status


def test_a_node_that_knows_a_leader_is_serving(node: Api) -> None:
    wait_until(lambda: health_of(node) == health_pb2.HealthCheckResponse.SERVING)


def test_a_node_alone_of_three_is_not_serving(servers: Servers) -> None:
    api = Api(servers.alone_of_three().ready().endpoint)

    wait_until(lambda: health_of(api) == health_pb2.HealthCheckResponse.NOT_SERVING)
    api.close()


def test_a_client_that_requires_a_leader_is_served_with_one(node: Api) -> None:
    assert not isinstance(node.put(b"leader", b"v", metadata=(("hasleader", "true"),)), Failed)


# --- Batch ------------------------------------------------------------------------------------------------------------

Command = store_pb2.Command
Put, Range, Delete, Txn = rpc_pb2.PutRequest, rpc_pb2.RangeRequest, rpc_pb2.DeleteRangeRequest, rpc_pb2.TxnRequest


def batch(api: Api, *commands: Command) -> list[store_pb2.Answer]:
    answer = api.batch(store_pb2.BatchRequest(commands=commands))
    assert not isinstance(answer, Failed), answer
    assert answer.header.cluster_id
    assert answer.header.member_id
    assert answer.header.raft_term
    return list(answer.answers)


def test_a_batch_answers_each_command_in_its_place(node: Api) -> None:
    node.put(b"batch/old", b"old")

    answers = batch(
        node,
        Command(range=Range(key=b"batch/old")),
        Command(put=Put(key=b"batch/a", value=b"1", prev_kv=True)),
        Command(txn=Txn(success=[put_op(Put(key=b"batch/b", value=b"2")), range_op(Range(key=b"batch/old"))])),
        Command(range=Range(key=b"batch/old", serializable=True)),
        Command(delete_range=Delete(key=b"batch/nothing")),
        Command(txn=Txn(success=[range_op(Range(key=b"batch/old"))])),
    )

    assert [answer.WhichOneof("result") for answer in answers] == [
        "range",
        "put",
        "txn",
        "range",
        "delete_range",
        "txn",
    ]
    assert answers[0].range.kvs[0].value == answers[3].range.kvs[0].value == b"old"
    assert answers[2].txn.succeeded
    assert answers[2].txn.header.revision == answers[1].put.header.revision + 1, "each write has a revision of its own"
    assert node.get(b"batch/a").kvs[0].value == b"1"


def test_a_bad_command_fails_alone(node: Api) -> None:
    answers = batch(
        node,
        Command(put=Put(key=b"batch/first", value=b"1")),
        Command(put=Put(value=b"no key")),
        Command(),
        Command(range=Range()),
        Command(range=Range(key=b"k", revision=2**62)),
        Command(put=Put(key=b"batch/leased", lease=9)),
        Command(put=Put(key=b"batch/large", value=b"x" * 2_000_000)),
        Command(compaction=rpc_pb2.CompactionRequest(revision=2**62)),
        Command(publish=rpc_pb2.Member(ID=1, name="intruder")),
        Command(put=Put(key=b"batch/last", value=b"2")),
    )

    failures = [(answer.failure.code, answer.failure.message) for answer in answers[1:-1]]
    assert failures == [
        (3, "etcdserver: key is not provided"),
        (3, "etcdserver: key not found"),
        (3, "etcdserver: key is not provided"),
        (11, "etcdserver: mvcc: required revision is a future revision"),
        (5, "etcdserver: requested lease not found"),
        (3, "etcdserver: request is too large"),
        (11, "etcdserver: mvcc: required revision is a future revision"),
        (3, "etcdserver: key not found"),
    ]
    assert {answer.failure.outcome for answer in answers[1:-1]} == {store_pb2.Failure.NOT_APPLIED}
    assert answers[-1].put.header.revision == answers[0].put.header.revision + 1
    assert node.get(b"batch/first").count == node.get(b"batch/last").count == 1


def test_an_empty_batch_is_answered_emptily(node: Api) -> None:
    assert batch(node) == []


def test_many_batches_at_once_lose_and_double_nothing(nodes: dict[str, Api]) -> None:
    """Every command appends a version: as many as there were commands, whichever node took them."""

    def send(number: int) -> None:
        api = list(nodes.values())[number % 3]
        for answer in batch(api, *(Command(put=Put(key=b"batch/many", value=b"%d" % number)) for _ in range(20))):
            assert answer.WhichOneof("result") == "put"

    before = nodes["n1"].get(b"batch/many")
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(send, range(60)))

    version = nodes["n1"].get(b"batch/many").kvs[0].version
    assert version - (before.kvs[0].version if before.kvs else 0) == 1200


@pytest.mark.parametrize("position", ["before", "after"])
def test_a_batch_cannot_speak_for_its_node(node: Api, position: str) -> None:
    """The fields of a log entry that a request does not have (origin, incarnation, sequence, settled_below) are dropped:
    taken over, they could make the cluster forget, or apply twice, what others sent.
    """
    member_id = status_of(node).header.member_id
    count = f"smuggled/{position}".encode()
    honest = store_pb2.BatchRequest(commands=[Command(put=Put(key=count, value=b"v"))]).SerializeToString()
    before = node.get(count).kvs[0].version if node.get(count).count else 0

    for origin, incarnation, sequence, settled in (
        (member_id, 1, 1, 1),
        (member_id, 2**63, 2**63, 2**63),
        (12345, 2**64 - 1, 2**64 - 1, 2**64 - 1),
    ):
        smuggled = store_pb2.CommandBatch(
            origin=origin, incarnation=incarnation, sequence=sequence, settled_below=settled
        ).SerializeToString()
        raw = smuggled + honest if position == "before" else honest + smuggled
        answer = node.batch(raw)
        assert [one.WhichOneof("result") for one in answer.answers] == ["put"]
        assert not isinstance(node.put(count, b"honest"), Failed)

    assert node.get(count).kvs[0].version - before == 6


def test_unknown_fields_inside_a_command_do_no_harm(node: Api) -> None:
    unknown = b"\xf8\x3f\x01" + b"\xfa\x3f\x03abc"  # Fields 1023, as a number and as bytes.
    put = Put(key=b"unknown/field", value=b"v").SerializeToString() + unknown

    assert not isinstance(node.call("etcdserverpb.KV", "Put", put), Failed)
    assert node.get(b"unknown/field").kvs[0].value == b"v"

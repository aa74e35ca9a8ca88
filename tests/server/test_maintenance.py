"""Alarms, snapshots, defragmentation: what etcd does, side by side with it; and what our nodes do about it by themselves."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from raftkv.lab.cluster import LocalCluster
from raftkv.mvcc.schema import VERSION
from raftkv.mvcc.store import Store
from raftkv.pb import rpc_pb2
from raftkv.server.corruption import Damaged, Hash, suspects
from tests.server.beside_etcd import put_op, range_op
from tests.server.grpc_api import Api, Failed
from tests.server.process import Servers, wait_until
from tests.server.test_etcdctl import etcdctl

MAINTENANCE = "etcdserverpb.Maintenance"
GET, ACTIVATE, DEACTIVATE = 0, 1, 2
NONE, NOSPACE, CORRUPT = 0, 1, 2
MEBIBYTE = 1 << 20
PATIENCE_S = 60.0
"""For what several nodes do by and by, on a busy machine."""
NO_SPACE = Failed("RESOURCE_EXHAUSTED", "etcdserver: mvcc: database space exceeded")
CORRUPT_CLUSTER = Failed("DATA_LOSS", "etcdserver: corrupt cluster")


def alarm(api: Api, action: int = GET, member: int = 0, kind: int = NONE) -> rpc_pb2.AlarmResponse | Failed:
    return api.call(MAINTENANCE, "Alarm", rpc_pb2.AlarmRequest(action=action, memberID=member, alarm=kind))


def disarm(api: Api) -> None:
    for one in alarm(api).alarms:
        alarm(api, DEACTIVATE, one.memberID, one.alarm)


@contextmanager
def disarmed(*apis: Api) -> Iterator[None]:
    """Alarms concern everybody: none may be left for the next test."""
    try:
        yield
    finally:
        for api in apis:
            disarm(api)


# --- alarms -----------------------------------------------------------------------------------------------------------

ALARM_SCRIPT = (
    (GET, 0, NONE),
    (ACTIVATE, 5, NOSPACE),
    (ACTIVATE, 5, NOSPACE),
    (ACTIVATE, 6, NOSPACE),
    (GET, 0, NOSPACE),
    (GET, 0, CORRUPT),
    (GET, 5, NONE),
    (DEACTIVATE, 7, NOSPACE),
    (DEACTIVATE, 5, NOSPACE),
    (ACTIVATE, 8, CORRUPT),
    (GET, 0, CORRUPT),
    (DEACTIVATE, 8, CORRUPT),
    (DEACTIVATE, 6, NOSPACE),
    (GET, 0, NONE),
)


def test_alarms_are_raised_listed_and_ended_as_by_etcd(node: Api, etcd: Api) -> None:
    with disarmed(node, etcd):
        for step in ALARM_SCRIPT:
            ours, theirs = alarm(node, *step), alarm(etcd, *step)
            assert sorted(map(str, ours.alarms)) == sorted(map(str, theirs.alarms)), step
            assert ours.HasField("header") == theirs.HasField("header"), step


@pytest.mark.parametrize("kind", [NOSPACE, CORRUPT])
def test_what_an_alarm_refuses_is_what_it_refuses_in_etcd(nodes: dict[str, Api], etcd: Api, kind: int) -> None:
    """Raised at one node, it holds at all of them."""
    key = b"alarmed"
    requests = (
        rpc_pb2.PutRequest(key=key, value=b"v"),
        rpc_pb2.RangeRequest(key=key),
        rpc_pb2.RangeRequest(key=key, serializable=True),
        rpc_pb2.TxnRequest(success=[put_op(rpc_pb2.PutRequest(key=key))]),
        rpc_pb2.TxnRequest(success=[range_op(rpc_pb2.RangeRequest(key=key))]),
        rpc_pb2.DeleteRangeRequest(key=key),
    )
    with disarmed(nodes["n1"], etcd):
        for api in (nodes["n1"], etcd):
            alarm(api, ACTIVATE, 5, kind)
        for api in nodes.values():
            api.get(key)  # Linearizable: the alarm has been applied here.
        theirs = [etcd.kv(request) for request in requests]
        for api in nodes.values():
            for request, expected in zip(requests, theirs, strict=True):
                found = api.kv(request)
                assert isinstance(found, Failed) == isinstance(expected, Failed), (request, found)
                assert found == expected or not isinstance(expected, Failed), (request, found)
        assert (kind == CORRUPT) == (theirs[-1] == CORRUPT_CLUSTER)
        for name, lease in (
            ("LeaseGrant", rpc_pb2.LeaseGrantRequest(TTL=60)),
            ("LeaseRevoke", rpc_pb2.LeaseRevokeRequest(ID=0x5EA5E)),
        ):
            assert nodes["n2"].call("etcdserverpb.Lease", name, lease) == etcd.call("etcdserverpb.Lease", name, lease)
        compaction = rpc_pb2.CompactionRequest(revision=1)
        assert (etcd.kv(compaction) == CORRUPT_CLUSTER) == (nodes["n2"].kv(compaction) == CORRUPT_CLUSTER)


def test_an_alarm_stands_in_the_status_of_every_node(nodes: dict[str, Api], etcd: Api) -> None:
    with disarmed(nodes["n1"], etcd):
        for api in (nodes["n1"], etcd):
            alarm(api, ACTIVATE, 5, NOSPACE)
        for api in (*nodes.values(), etcd):
            api.get(b"-")
            status = api.call(MAINTENANCE, "Status", rpc_pb2.StatusRequest())
            assert list(status.errors) == ["memberID:5 alarm:NOSPACE "]


def test_an_alarm_or_action_that_does_not_exist_is_refused(node: Api) -> None:
    """Such an action ends the process of etcd 3.4."""
    for request in (rpc_pb2.AlarmRequest(action=5), rpc_pb2.AlarmRequest(action=ACTIVATE, memberID=1, alarm=9)):
        found = node.call(MAINTENANCE, "Alarm", request)
        assert (found.code, found.text) == ("INVALID_ARGUMENT", "etcdserver: unknown alarm or action")


def test_alarms_survive_a_restart(servers: Servers, tmp_path: Path) -> None:
    first = servers.start(data_dir=tmp_path / "data").ready()
    api = Api(first.endpoint)
    alarm(api, ACTIVATE, 5, NOSPACE)
    api.close()
    first.stop()

    api = Api(servers.start(data_dir=tmp_path / "data").ready().endpoint)

    assert api.put(b"k", b"v") == NO_SPACE
    assert [one.memberID for one in alarm(api).alarms] == [5]
    api.close()


def test_etcdctl_prints_for_maintenance_what_it_prints_for_etcd(node: Api, etcd: Api, tmp_path: Path) -> None:
    printed: dict[Api, list[tuple[int, str]]] = {}
    with disarmed(node, etcd):
        for api in (etcd, node):
            printed[api] = []
            alarm(api, ACTIVATE, 5, NOSPACE)
            for words in (
                ("alarm", "list"),
                ("alarm", "list", "-w", "json"),
                ("alarm", "list", "-w", "table"),
                ("put", "k", "v"),
                ("alarm", "disarm"),
                ("alarm", "disarm", "-w", "json"),
                ("alarm", "list"),
                ("put", "k", "v"),
                ("defrag",),
                ("snapshot", "save", str(tmp_path / "saved.db")),
                ("endpoint", "health"),
            ):
                done = etcdctl(api.endpoint, *words)
                printed[api].append((done.code, done.out.replace(api.endpoint, "ENDPOINT")))
    assert printed[node] == printed[etcd]


# --- NOSPACE by itself ------------------------------------------------------------------------------------------------


def test_a_database_beyond_its_quota_has_all_refuse_puts_until_there_is_room(servers: Servers) -> None:
    api = Api(servers.start("--quota-backend-bytes", str(2 * MEBIBYTE)).ready().endpoint)
    count = 0
    while not isinstance(refusal := api.put(b"k%d" % count, b"x" * 100_000), Failed):
        count += 1
        api.call(MAINTENANCE, "HashKV", rpc_pb2.HashKVRequest())  # Commits: sizes are those of the file.
        assert count < 200
    assert refusal == NO_SPACE
    wait_until(lambda: [one.alarm for one in alarm(api).alarms] == [NOSPACE], timeout_s=PATIENCE_S)

    disarm(api)  # By hand, while nothing has changed: it comes back.
    assert api.put(b"k", b"v") == NO_SPACE
    wait_until(lambda: [one.alarm for one in alarm(api).alarms] == [NOSPACE], timeout_s=PATIENCE_S)

    deleted = api.kv(rpc_pb2.DeleteRangeRequest(key=b"k", range_end=b"l"))
    assert deleted.deleted == count
    compacted = api.kv(rpc_pb2.CompactionRequest(revision=deleted.header.revision, physical=True))
    assert not isinstance(compacted, Failed)
    wait_until(lambda: not alarm(api).alarms, timeout_s=PATIENCE_S)
    assert not isinstance(api.put(b"k", b"v"), Failed)
    api.close()


# --- Snapshot ---------------------------------------------------------------------------------------------------------


def pieces_of(api: Api) -> grpc.Call:
    rpc = api.channel.unary_stream(
        "/etcdserverpb.Maintenance/Snapshot",
        request_serializer=rpc_pb2.SnapshotRequest.SerializeToString,
        response_deserializer=rpc_pb2.SnapshotResponse.FromString,
    )
    return rpc(rpc_pb2.SnapshotRequest(), timeout=30)


def test_a_snapshot_counts_down_and_ends_with_its_digest(node: Api) -> None:
    for number in range(20):
        node.put(b"snapshot/%d" % number, b"x" * 100_000)

    pieces = list(pieces_of(node))

    sizes = [len(piece.blob) for piece in pieces]
    data = b"".join(piece.blob for piece in pieces[:-1])
    assert len(pieces) > 3
    assert (len(data) % 512, sizes[-1]) == (0, 32)
    assert pieces[-1].blob == hashlib.sha256(data).digest()
    assert [piece.remaining_bytes for piece in pieces] == [
        *(len(data) - sum(sizes[: at + 1]) for at in range(len(sizes) - 1)),
        0,
    ]
    assert max(sizes) <= 1 << 20


def test_clients_that_stop_reading_or_go_away_hold_up_nobody(servers: Servers) -> None:
    """A third stream at a time is refused; one that was given up makes room; no reader of the store is open meanwhile."""
    serving = servers.start().ready()
    api = Api(serving.endpoint)
    for number in range(100):
        api.put(b"big/%d" % number, b"x" * 200_000)
    others = [Api(serving.endpoint) for _ in range(3)]
    stalled = [pieces_of(other) for other in others[:2]]
    for stream in stalled:
        next(iter(stream))

    refused = Failed("RESOURCE_EXHAUSTED", "etcdserver: too many requests")

    def third() -> Failed | int:
        try:
            return len(list(pieces_of(others[2])))
        except grpc.RpcError as error:
            return Failed(error.code().name, error.details())

    assert third() == refused
    done = api.call(MAINTENANCE, "Defragment", rpc_pb2.DefragmentRequest(), timeout_s=30)
    assert done == rpc_pb2.DefragmentResponse(), "it waits for readers"
    for stream in stalled:
        stream.cancel()
    wait_until(lambda: third() != refused)
    assert not list((serving.data_dir / "snapshots").iterdir())
    for one in (api, *others):
        one.close()


# --- Defragment -------------------------------------------------------------------------------------------------------


def test_a_defragmentation_gives_space_back_and_loses_nothing(nodes: dict[str, Api], cluster: LocalCluster) -> None:
    writer = nodes["n1"]
    for number in range(60):
        writer.put(b"fat/%d" % number, b"x" * 100_000)
    writer.put(b"lean", b"v")
    full = {}
    for name, api in nodes.items():
        api.kv(rpc_pb2.RangeRequest(key=b"lean"))  # Linearizable: it is applied here.
        api.call(MAINTENANCE, "HashKV", rpc_pb2.HashKVRequest())  # Commits: it is in the file.
        full[name] = api.call(MAINTENANCE, "Status", rpc_pb2.StatusRequest()).dbSizeInUse
    gone = writer.kv(rpc_pb2.DeleteRangeRequest(key=b"fat/", range_end=b"fat0"))
    for api in nodes.values():
        api.kv(rpc_pb2.RangeRequest(key=b"lean"))
    writer.kv(rpc_pb2.CompactionRequest(revision=gone.header.revision, physical=True))

    for name, api in nodes.items():

        def status(api: Api = api) -> rpc_pb2.StatusResponse:
            return api.call(MAINTENANCE, "Status", rpc_pb2.StatusRequest())

        limit = full[name] - 4 * MEBIBYTE  # Other tests may have left something, too.
        wait_until(lambda limit=limit, status=status: status().dbSizeInUse < limit)
        before = status()
        done = api.call(MAINTENANCE, "Defragment", rpc_pb2.DefragmentRequest(), timeout_s=60)
        assert done == rpc_pb2.DefragmentResponse()
        after = status()
        assert after.dbSize < before.dbSize - 3 * MEBIBYTE
        assert api.kv(rpc_pb2.RangeRequest(key=b"lean")).kvs[0].value == b"v"
        assert not isinstance(api.put(b"after", b"v"), Failed)
    for api in nodes.values():
        api.get(b"after")
    hashes = {api.call(MAINTENANCE, "HashKV", rpc_pb2.HashKVRequest()).hash for api in nodes.values()}
    assert len(hashes) == 1


# --- CORRUPT by itself ------------------------------------------------------------------------------------------------


def falsify_last_write(state: Path, key: bytes, value: bytes) -> None:
    """Give a node's last write another value, in a way that no check of its own can find."""
    store = Store(state, map_bytes=1 << 28)
    packed = store.latest(key)
    assert packed is not None
    main, sub, *_ = VERSION.unpack(packed)
    assert (main, sub) == (store.revision, 0)
    store.index_cursor.delete()
    store.forget([(key, packed)])
    store.revision = main - 1
    store.put(key, value, 0)
    store.end_write()
    store.commit()
    store.close()


def test_the_node_whose_data_differ_is_found_and_writes_are_refused_until_it_is_removed() -> None:
    with LocalCluster.temporary(nodes=3, proxy=False, flags=("--corrupt-check-time", "1s")) as cluster:
        cluster.start()
        cluster.wait_for_leader()
        apis = {name: Api(endpoint) for name, endpoint in cluster.endpoints.items()}
        apis["n1"].put(b"k", b"right")
        assert apis["n3"].get(b"k").kvs[0].value == b"right"
        cluster.stop("n3")
        falsify_last_write(cluster.data_path("n3") / "state", b"k", b"wrong")
        cluster.start()
        cluster.wait_ready()
        wait_until(lambda: not isinstance(apis["n3"].get(b"k"), Failed), timeout_s=PATIENCE_S)
        wrong = apis["n3"].get(b"k").header.member_id

        raised = [(wrong, CORRUPT)]
        wait_until(
            lambda: [(one.memberID, one.alarm) for one in alarm(apis["n1"]).alarms] == raised, timeout_s=PATIENCE_S
        )
        assert apis["n1"].put(b"k", b"v") == CORRUPT_CLUSTER
        assert apis["n1"].get(b"k").kvs[0].value == b"right"

        removed = rpc_pb2.MemberRemoveRequest(ID=wrong)
        wait_until(
            lambda: not isinstance(apis["n1"].call("etcdserverpb.Cluster", "MemberRemove", removed), Failed),
            timeout_s=PATIENCE_S,
        )
        wait_until(lambda: not isinstance(apis["n1"].put(b"k", b"v"), Failed), timeout_s=PATIENCE_S)
        assert not alarm(apis["n1"]).alarms
        for api in apis.values():
            api.close()


@pytest.mark.parametrize(
    ("findings", "members", "expected"),
    [
        ({1: Hash(7, (9, -1)), 2: Hash(7, (9, -1)), 3: Hash(7, (9, -1))}, 3, set()),
        ({1: Hash(7, (9, -1)), 2: Hash(7, (9, -1)), 3: Hash(8, (9, -1))}, 3, {3}),
        ({1: Hash(8, (9, -1)), 2: Hash(7, (9, -1)), 3: Hash(7, (9, -1))}, 3, {1}),
        ({1: Hash(7, (9, -1)), 2: Hash(8, (9, -1))}, 3, {1, 2}),
        ({1: Hash(7, (9, -1)), 2: Hash(8, (9, -1))}, 2, {1, 2}),
        ({1: Hash(7, (9, -1)), 2: Hash(8, (9, 5))}, 3, set()),
        ({1: Hash(7, (9, 5)), 2: Hash(7, (9, 5)), 3: Hash(8, (9, -1))}, 3, set()),
        ({1: Hash(7, (9, -1)), 2: Damaged(), 3: Hash(7, (9, -1))}, 3, {2}),
        ({1: Damaged()}, 1, {1}),
        ({1: Hash(7, (9, -1))}, 1, set()),
        ({}, 3, set()),
        (
            {1: Hash(1, (9, 0)), 2: Hash(1, (9, 0)), 3: Hash(2, (9, 0)), 4: Hash(2, (9, 0)), 5: Hash(3, (9, 0))},
            5,
            {1, 2, 3, 4, 5},
        ),
        ({1: Hash(1, (9, 0)), 2: Hash(1, (9, 0)), 3: Hash(1, (9, 0)), 4: Hash(2, (9, 0))}, 5, {4}),
    ],
)
def test_who_is_suspected_is_decided_by_the_majority_of_the_members(findings, members, expected) -> None:
    assert suspects(findings, members) == expected

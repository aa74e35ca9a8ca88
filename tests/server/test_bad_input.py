"""Requests nobody should send: too large, absurd, malformed. A clear error, the node goes on, and nothing is lost."""

from __future__ import annotations

from typing import Any

import pytest

from raftkv.pb import rpc_pb2, store_pb2
from tests.server.beside_etcd import Beside, delete_op, put_op, range_op, txn_op
from tests.server.grpc_api import Api, Failed
from tests.server.leasing import granted, keeping_alive, lease
from tests.server.process import Servers

RangeRequest = rpc_pb2.RangeRequest
Compare = rpc_pb2.Compare

ABSURD = (-(2**63), -(2**31), -1, 2**31, 2**63 - 1)
MEGABYTE = 1 << 20


@pytest.fixture
def kept(beside: Beside) -> Beside:
    """With one key, which must still be there afterwards, on both sides, and nothing else."""
    beside.both(beside.put(b"k", b"1"))
    beside.both(beside.put(b"k", b"2"))
    return beside


def assert_kept(beside: Beside) -> None:
    (kv,) = beside.both(beside.all()).kvs
    assert (kv.value, kv.version) == (b"2", 2)


# --- numbers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "field",
    [
        "limit",
        "revision",
        "min_mod_revision",
        "max_mod_revision",
        "min_create_revision",
        "max_create_revision",
    ],
)
def test_absurd_numbers_in_a_range_are_answered_as_etcd_answers_them(kept: Beside, field: str) -> None:
    # What etcd makes of a revision below 1 in a txn depends on whether something was ever compacted.
    kept.both(lambda base: rpc_pb2.CompactionRequest(revision=base + 1))
    for number in ABSURD:
        kept.both(kept.all(**{field: number}))
        kept.both(kept.one(b"k", **{field: number}))
        kept.both(kept.all(count_only=True, **{field: number}))
        kept.both(rpc_pb2.TxnRequest(success=[range_op(kept.all(**{field: number}))]))
    assert_kept(kept)


@pytest.mark.parametrize("lease", ABSURD)
def test_a_lease_nobody_granted_is_not_found(kept: Beside, lease: int) -> None:
    put = kept.put(b"k", b"leased", lease=lease)

    assert kept.both(put) == Failed("NOT_FOUND", "etcdserver: requested lease not found")
    assert kept.both(rpc_pb2.TxnRequest(success=[put_op(put)])).code == "NOT_FOUND"
    assert kept.both(kept.put(b"k", b"", lease=lease, ignore_value=True)).code == "NOT_FOUND"
    assert_kept(kept)


@pytest.mark.parametrize("revision", [number for number in ABSURD if number > 0])
def test_a_compaction_of_an_absurd_revision_is_refused(kept: Beside, revision: int) -> None:
    refusal = kept.both(rpc_pb2.CompactionRequest(revision=revision))

    assert refusal == Failed("OUT_OF_RANGE", "etcdserver: mvcc: required revision is a future revision")
    assert_kept(kept)


@pytest.mark.parametrize("revision", [-(2**63), -1, 0])
def test_a_compaction_of_no_revision_is_refused_once_something_was_compacted(kept: Beside, revision: int) -> None:
    """On a store never compacted etcd takes any number below 1, and what it does then is a fault of its own."""
    kept.both(lambda base: rpc_pb2.CompactionRequest(revision=base + 1))

    refusal = kept.both(rpc_pb2.CompactionRequest(revision=revision, physical=True))

    assert refusal == Failed("OUT_OF_RANGE", "etcdserver: mvcc: required revision has been compacted")
    assert_kept(kept)


@pytest.mark.parametrize("number", [-(2**31), -1, 3, 5, 2**31 - 1])
def test_sort_options_that_do_not_exist_are_refused(node: Api, number: int) -> None:
    """As etcd from 3.5 on does; 3.4 dies of them."""
    node.put(b"sorted", b"v")
    for options in ({"sort_order": number}, {"sort_target": number if number in (-1, 5) else -7}):
        request = RangeRequest(key=b"sorted", **options)
        refused = Failed("INVALID_ARGUMENT", "etcdserver: invalid sort option")
        assert node.kv(request) == refused
        assert node.kv(RangeRequest(key=b"sorted", serializable=True, **options)) == refused
        assert node.kv(rpc_pb2.TxnRequest(success=[range_op(request)])) == refused


def test_compares_that_do_not_exist_are_answered_as_etcd_answers_them(kept: Beside) -> None:
    for number in (-1, 4, 99):
        for options in (
            {"result": number, "version": 2},
            {"target": number + 1 if number > 0 else number, "result": Compare.EQUAL, "version": 2},
        ):
            kept.both(rpc_pb2.TxnRequest(compare=[Compare(key=kept.key(b"k"), **options)]))
    for number in ABSURD:
        for target, name in ((Compare.VERSION, "version"), (Compare.MOD, "mod_revision"), (Compare.LEASE, "lease")):
            compare = Compare(key=kept.key(b"k"), target=target, result=Compare.LESS, **{name: number})
            kept.both(rpc_pb2.TxnRequest(compare=[compare]))
    assert_kept(kept)


@pytest.mark.parametrize("revision", [number for number in ABSURD if number > 0])
def test_the_hash_of_a_future_revision_is_refused(node: Api, etcd: Api, revision: int) -> None:
    request = rpc_pb2.HashKVRequest(revision=revision)

    answers = [api.call("etcdserverpb.Maintenance", "HashKV", request) for api in (node, etcd)]

    assert (
        answers[0] == answers[1] == Failed("OUT_OF_RANGE", "etcdserver: mvcc: required revision is a future revision")
    )


@pytest.mark.parametrize("revision", [-(2**63), -1])
def test_the_hash_of_a_negative_revision_leaves_the_node_alive(node: Api, revision: int) -> None:
    node.call("etcdserverpb.Maintenance", "HashKV", rpc_pb2.HashKVRequest(revision=revision))

    assert not isinstance(node.put(b"alive", b"v"), Failed)


# --- ranges -----------------------------------------------------------------------------------------------------------


def test_a_range_that_ends_before_it_begins_is_empty(kept: Beside) -> None:
    key, before = kept.key(b"k"), kept.key(b"a")

    assert kept.both(RangeRequest(key=key, range_end=before)).count == 0
    assert kept.both(RangeRequest(key=key, range_end=key)).count == 0
    assert kept.both(rpc_pb2.DeleteRangeRequest(key=key, range_end=before, prev_kv=True)).deleted == 0
    assert kept.both(rpc_pb2.DeleteRangeRequest(key=key, range_end=key)).deleted == 0
    compare = Compare(key=key, range_end=before, target=Compare.VERSION, result=Compare.EQUAL, version=0)
    kept.both(rpc_pb2.TxnRequest(compare=[compare], success=[delete_op(kept.delete(b"k", range_end=before))]))
    assert_kept(kept)


# --- sizes ------------------------------------------------------------------------------------------------------------

TOO_LARGE = Failed("INVALID_ARGUMENT", "etcdserver: request is too large")


def test_a_request_over_the_limit_is_refused_and_one_below_it_is_not(kept: Beside) -> None:
    value = b"x" * MEGABYTE

    assert kept.both(kept.put(b"large", b"x" * (3 * MEGABYTE // 2 + 1))) == TOO_LARGE
    puts = [put_op(kept.put(b"%d" % number, b"x" * 20_000)) for number in range(100)]
    assert kept.both(rpc_pb2.TxnRequest(success=puts)) == TOO_LARGE
    assert kept.both(rpc_pb2.TxnRequest(failure=[txn_op(rpc_pb2.TxnRequest(success=puts))])) == TOO_LARGE
    assert_kept(kept)
    kept.both(kept.put(b"large", value))
    kept.both(kept.put(b"large", value + value[: MEGABYTE // 2 - 600]))
    assert len(kept.both(kept.one(b"large")).kvs[0].value) == 3 * MEGABYTE // 2 - 600


def test_a_message_beyond_what_grpc_takes_is_refused_without_being_read(node: Api) -> None:
    refusal = node.put(b"huge", b"x" * (20 * MEGABYTE))

    assert isinstance(refusal, Failed)
    assert refusal.code == "RESOURCE_EXHAUSTED"
    assert not node.get(b"huge").kvs


@pytest.mark.parametrize("size", [511, 512, 2000, 1_000_000])
def test_a_key_longer_than_the_storage_engine_takes_is_refused(node: Api, size: int) -> None:
    key = b"K" * size
    expected = Failed(
        "INVALID_ARGUMENT", "etcdserver: key is longer than 511 bytes, the limit of raftkv's storage engine"
    )

    answers = [node.put(key, b"v"), node.kv(rpc_pb2.TxnRequest(success=[put_op(rpc_pb2.PutRequest(key=key))]))]

    assert [answer == expected for answer in answers] == [size > 511] * 2
    # To read or delete what cannot exist is no error.
    assert node.kv(RangeRequest(key=key)).count == (size <= 511)
    assert node.kv(RangeRequest(key=key, range_end=key + b"\xff")).count == (size <= 511)
    assert node.kv(rpc_pb2.DeleteRangeRequest(key=key)).deleted == (size <= 511)
    assert node.kv(rpc_pb2.TxnRequest(compare=[Compare(key=key, version=0)])).succeeded


def test_limits_are_those_of_the_flags(servers: Servers) -> None:
    api = Api(servers.start("--max-request-bytes", "2000", "--max-txn-ops", "2").ready().endpoint)

    def puts(count: int) -> rpc_pb2.TxnRequest:
        return rpc_pb2.TxnRequest(success=[put_op(rpc_pb2.PutRequest(key=b"%d" % number)) for number in range(count)])

    assert api.put(b"k", b"x" * 2000) == TOO_LARGE
    assert not isinstance(api.put(b"k", b"x" * 1900), Failed)
    assert api.kv(puts(3)) == Failed("INVALID_ARGUMENT", "etcdserver: too many operations in txn request")
    assert not isinstance(api.kv(puts(2)), Failed)
    api.close()


def test_a_database_over_its_quota_refuses_puts_and_still_deletes(servers: Servers) -> None:
    """Leases too: none is granted, but nobody loses one over it."""
    api = Api(servers.start("--quota-backend-bytes", str(2 * MEGABYTE)).ready().endpoint)
    lease_id, refusal = granted(api, 3600), None
    for number in range(200):
        refusal = api.put(b"k%d" % number, b"x" * 100_000)
        if isinstance(refusal, Failed):
            break
        api.call("etcdserverpb.Maintenance", "HashKV", rpc_pb2.HashKVRequest())  # Commits: sizes are those of the file.

    assert refusal == Failed("RESOURCE_EXHAUSTED", "etcdserver: mvcc: database space exceeded")
    assert refusal.outcome == "not-applied"
    assert api.kv(rpc_pb2.TxnRequest(success=[put_op(rpc_pb2.PutRequest(key=b"k"))])) == refusal
    assert lease(api, rpc_pb2.LeaseGrantRequest(TTL=3600)) == refusal
    with keeping_alive(api) as stream:
        stream.renew(lease_id)
        assert stream.next().TTL == 3600
    assert not isinstance(lease(api, rpc_pb2.LeaseRevokeRequest(ID=lease_id)), Failed)
    assert api.kv(RangeRequest(key=b"k0")).count == 1
    assert api.kv(rpc_pb2.DeleteRangeRequest(key=b"k", range_end=b"l")).deleted > 10
    api.close()


# --- garbage ----------------------------------------------------------------------------------------------------------


GARBAGE: dict[str, bytes] = {
    "random": bytes(range(255, 0, -1)),
    "cut": rpc_pb2.PutRequest(key=b"garbage", value=b"v" * 100).SerializeToString()[:-50],
    "wrong types": b"\x08\x96\x01\x15\x00\x00\x00\x00",
    "a group that never ends": b"\x0b" * 1000,
    "zeros": bytes(100),
}
PATHS = (
    ("etcdserverpb.KV", "Range"),
    ("etcdserverpb.KV", "Put"),
    ("etcdserverpb.KV", "DeleteRange"),
    ("etcdserverpb.KV", "Txn"),
    ("etcdserverpb.KV", "Compact"),
    ("etcdserverpb.Lease", "LeaseGrant"),
    ("etcdserverpb.Lease", "LeaseRevoke"),
    ("etcdserverpb.Lease", "LeaseTimeToLive"),
    ("raftkv.store.Store", "Batches"),
)


def ask(api: Api, service: str, name: str, request: bytes) -> Any:
    """An RPC that takes one request, or one batch on a stream."""
    return api.batch(request) if name == "Batches" else api.call(service, name, request)


@pytest.mark.parametrize("garbage", GARBAGE)
def test_a_request_that_is_no_protobuf_is_an_error_and_the_node_goes_on(node: Api, garbage: str) -> None:
    before = node.get(b"-").header.revision

    for service, name in PATHS:
        answer = ask(node, service, name, GARBAGE[garbage])
        if garbage != "wrong types":  # To some messages, these are fields they do not know.
            assert isinstance(answer, Failed), f"{service}/{name}"
            assert answer.code == "INTERNAL", answer
            assert answer.text.startswith("grpc: error unmarshalling request: "), answer
            assert answer.outcome == "not-applied"

    assert node.get(b"-").header.revision == before
    assert not isinstance(node.put(b"alive", b"v"), Failed)


def nested(depth: int) -> bytes:
    """A txn in a txn in a txn..., made by hand: the Python library would refuse to nest that deep."""
    message = b""
    for _ in range(depth):
        operation = b"\x22" + varint(len(message)) + message
        message = b"\x12" + varint(len(operation)) + operation
    return message


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def test_txns_nested_too_deeply_to_be_applied_or_answered_are_refused(nodes: dict[str, Api]) -> None:
    """A log entry, and an answer, wrap what a request brings in further messages, of which protobuf reads 100 levels."""
    for depth in (1, 31, 32, 33, *range(45, 55), 100, 5000):
        for api in nodes.values():
            answer = api.call("etcdserverpb.KV", "Txn", nested(depth))
            assert isinstance(answer, Failed) == (depth > 32), answer
            if isinstance(answer, Failed):
                assert answer.code in ("INTERNAL", "INVALID_ARGUMENT"), answer
                assert answer.outcome == "not-applied"
            command = b"\x1a" + varint(len(nested(depth))) + nested(depth)
            batch = api.batch(b"\x7a" + varint(len(command)) + command)
            refused = isinstance(batch, Failed) or batch.answers[0].WhichOneof("result") == "failure"
            assert refused == (depth > 32), batch

    for api in nodes.values():
        assert not isinstance(api.put(b"alive", b"v"), Failed)


def unknown_groups(depth: int) -> bytes:
    """A field that no message here has, nested in itself; as a group, which parsers follow to its bottom."""
    tag = 200 << 3
    return varint(tag | 3) * depth + varint(tag | 4) * depth


def test_unknown_fields_nested_as_deep_as_can_be_parsed_reach_no_log_entry(nodes: dict[str, Api]) -> None:
    """An entry that cannot be parsed stops every node, again after each restart."""
    requests = {
        ("etcdserverpb.KV", "Put"): rpc_pb2.PutRequest(key=b"deep", value=b"v"),
        ("etcdserverpb.KV", "DeleteRange"): rpc_pb2.DeleteRangeRequest(key=b"nothing"),
        ("etcdserverpb.KV", "Txn"): rpc_pb2.TxnRequest(success=[put_op(rpc_pb2.PutRequest(key=b"deep"))]),
        ("etcdserverpb.KV", "Compact"): rpc_pb2.CompactionRequest(revision=1),
        ("etcdserverpb.Lease", "LeaseGrant"): rpc_pb2.LeaseGrantRequest(TTL=60),
        ("etcdserverpb.Lease", "LeaseRevoke"): rpc_pb2.LeaseRevokeRequest(ID=77),
        ("etcdserverpb.Maintenance", "Alarm"): rpc_pb2.AlarmRequest(action=rpc_pb2.AlarmRequest.DEACTIVATE),
        ("raftkv.store.Store", "Batches"): store_pb2.BatchRequest(commands=[put_command(b"deep")]),
        ("raftkv.store.Store", "OpenSession"): store_pb2.OpenSessionRequest(),
    }
    for (service, name), request in requests.items():
        for depth in range(96, 103):
            answer = ask(nodes["n1"], service, name, request.SerializeToString() + unknown_groups(depth))
            is_bytes = isinstance(answer, Failed) and answer.code == "INTERNAL"
            assert is_bytes == (depth > 100), (name, depth, answer)
    with keeping_alive(nodes["n1"]) as stream:
        for depth in range(96, 101):
            stream.send(rpc_pb2.LeaseKeepAliveRequest(ID=77).SerializeToString() + unknown_groups(depth))
            assert stream.next().TTL == 0

    for api in nodes.values():
        assert not isinstance(api.put(b"alive", b"v"), Failed)


def put_command(key: bytes) -> store_pb2.Command:
    return store_pb2.Command(put=rpc_pb2.PutRequest(key=key))

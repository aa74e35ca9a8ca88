"""The KV API through every node, beside a real etcd: options, transactions, headers, errors.

What the operations do to a store is compared at random in `tests/mvcc`; here it is the way through the server.
"""

from __future__ import annotations

import itertools

import pytest

from raftkv.pb import rpc_pb2
from tests.server.beside_etcd import Beside, delete_op, put_op, range_op, txn_op
from tests.server.grpc_api import Api, Failed

RangeRequest = rpc_pb2.RangeRequest
Compare = rpc_pb2.Compare


def fill(beside: Beside) -> None:
    """Three keys, one written twice, one deleted again: revisions 1 to 6 of the test."""
    for name, value in ((b"a", b"1"), (b"b", b"3"), (b"c", b"2"), (b"a", b"9"), (b"d", b"0")):
        beside.both(beside.put(name, value))
    beside.both(beside.delete(b"d"))


# --- Range ------------------------------------------------------------------------------------------------------------


def test_range_with_every_option(beside: Beside) -> None:
    fill(beside)
    for options in (
        {},
        {"limit": 2},
        {"limit": 3},
        {"keys_only": True},
        {"count_only": True},
        {"count_only": True, "limit": 1},
        {"keys_only": True, "limit": 1},
        {"serializable": False, "limit": 1, "sort_order": RangeRequest.DESCEND},
    ):
        assert beside.both(beside.all(**options)).count == 3
    for order, target in itertools.product(RangeRequest.SortOrder.values(), RangeRequest.SortTarget.values()):
        beside.both(beside.all(sort_order=order, sort_target=target))
        beside.both(beside.all(sort_order=order, sort_target=target, limit=2))
    for bound, offset in itertools.product(
        ("min_mod_revision", "max_mod_revision", "min_create_revision", "max_create_revision"), range(1, 6)
    ):
        beside.both(lambda base, b=bound, o=offset: beside.all(**{b: base + o}))


def test_range_of_one_key_of_keys_from_and_of_nothing(beside: Beside) -> None:
    fill(beside)

    assert beside.both(beside.one(b"a")).kvs[0].value == b"9"
    assert not beside.both(beside.one(b"d")).kvs
    assert not beside.both(beside.one(b"nothing")).kvs
    assert beside.both(RangeRequest(key=beside.key(b"b"), range_end=beside.end)).count == 2
    assert beside.both(RangeRequest(key=beside.key(b"b"), range_end=beside.key(b"c"))).count == 1
    assert beside.both(RangeRequest(key=b"\xff" * 8, range_end=b"\0")).count == 0


def test_range_in_the_past(beside: Beside) -> None:
    fill(beside)

    for offset in range(1, 7):
        beside.both(lambda base, o=offset: beside.all(revision=base + o))
        beside.both(lambda base, o=offset: beside.one(b"a", revision=base + o))


def test_a_serializable_range_sees_its_nodes_own_writes(node: Api) -> None:
    written = node.put(b"own", b"v").header.revision

    found = node.kv(RangeRequest(key=b"own", serializable=True))

    assert (found.kvs[0].value, found.header.revision >= written) == (b"v", True)


# --- Put and DeleteRange ----------------------------------------------------------------------------------------------


def test_put_with_every_option(beside: Beside) -> None:
    beside.both(beside.put(b"k", b"1", prev_kv=True))
    assert beside.both(beside.put(b"k", b"2", prev_kv=True)).prev_kv.value == b"1"
    beside.both(beside.put(b"k", ignore_value=True))
    assert beside.both(beside.put(b"k", ignore_value=True, prev_kv=True)).prev_kv.value == b"2"
    beside.both(beside.put(b"k", b"3", ignore_lease=True))
    beside.both(beside.put(b"k", ignore_value=True, ignore_lease=True))
    beside.both(beside.put(b"empty"))

    assert beside.both(beside.one(b"k")).kvs[0].version == 6


def test_delete_range_with_every_option(beside: Beside) -> None:
    fill(beside)

    assert beside.both(beside.delete(b"nothing")).deleted == 0
    assert beside.both(beside.delete(b"a", prev_kv=True)).prev_kvs[0].value == b"9"
    assert beside.both(beside.delete(b"a", prev_kv=True)).deleted == 0
    assert beside.both(beside.delete(b"b", range_end=beside.end, prev_kv=True)).deleted == 2
    assert beside.both(beside.all()).count == 0


# --- Txn --------------------------------------------------------------------------------------------------------------


def test_a_txn_answers_each_operation_and_is_one_revision(beside: Beside) -> None:
    fill(beside)

    answer = beside.both(
        rpc_pb2.TxnRequest(
            compare=[Compare(key=beside.key(b"a"), target=Compare.VALUE, result=Compare.EQUAL, value=b"9")],
            success=[
                put_op(beside.put(b"a", b"10", prev_kv=True)),
                range_op(beside.all()),
                delete_op(beside.delete(b"b", prev_kv=True)),
                put_op(beside.put(b"e", b"5")),
                range_op(beside.all(keys_only=True)),
            ],
            failure=[range_op(beside.all())],
        )
    )

    assert answer.succeeded
    assert not answer.responses[0].response_put.header.cluster_id


@pytest.mark.parametrize("matches", [True, False])
def test_nested_txns_take_their_branches(beside: Beside, matches: bool) -> None:
    fill(beside)
    version = Compare(key=beside.key(b"a"), target=Compare.VERSION, result=Compare.EQUAL, version=2 if matches else 7)

    def branch(name: bytes) -> list[rpc_pb2.RequestOp]:
        inner = rpc_pb2.TxnRequest(
            compare=[version],
            success=[put_op(beside.put(name + b"1", b"then")), range_op(beside.all())],
            failure=[delete_op(beside.delete(b"c"))],
        )
        return [txn_op(inner), put_op(beside.put(name, b"outer"))]

    beside.both(rpc_pb2.TxnRequest(compare=[version], success=branch(b"s"), failure=branch(b"f")))
    beside.both(beside.all())


def test_every_compare_target_and_relation(beside: Beside) -> None:
    fill(beside)
    relations = (Compare.EQUAL, Compare.GREATER, Compare.LESS, Compare.NOT_EQUAL)
    for name, relation in itertools.product((b"a", b"nothing"), relations):
        for target, operand in (
            (Compare.VERSION, {"version": 2}),
            (Compare.CREATE, {"create_revision": 0}),
            (Compare.MOD, {"mod_revision": 1}),
            (Compare.VALUE, {"value": b"9"}),
            (Compare.LEASE, {"lease": 0}),
        ):
            compare = Compare(key=beside.key(name), target=target, result=relation, **operand)
            beside.both(rpc_pb2.TxnRequest(compare=[compare], success=[range_op(beside.one(b"a"))]))
    whole = Compare(key=beside.prefix, range_end=beside.end, target=Compare.VERSION, result=Compare.LESS, version=3)
    assert beside.both(rpc_pb2.TxnRequest(compare=[whole])).succeeded


def test_a_txn_without_operations_and_a_readonly_one_make_no_revision(beside: Beside) -> None:
    fill(beside)

    beside.both(rpc_pb2.TxnRequest())
    beside.both(rpc_pb2.TxnRequest(success=[range_op(beside.all())]))

    beside.both(beside.one(b"a"))


# --- Compact ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("physical", [False, True])
def test_a_compaction_hides_what_it_removes(beside: Beside, physical: bool) -> None:
    fill(beside)

    beside.both(lambda base: rpc_pb2.CompactionRequest(revision=base + 4, physical=physical))

    for offset in (3, 4, 5, 6, 7):
        beside.both(lambda base, o=offset: beside.all(revision=base + o))
    beside.both(lambda base: rpc_pb2.CompactionRequest(revision=base + 4))
    beside.both(lambda base: rpc_pb2.CompactionRequest(revision=base + 1_000_000))


# --- headers ----------------------------------------------------------------------------------------------------------


def test_every_response_has_a_whole_header(nodes: dict[str, Api]) -> None:
    clusters, members = set(), {}
    for name, api in nodes.items():
        last = 0
        for request in (
            rpc_pb2.PutRequest(key=b"h"),
            RangeRequest(key=b"h"),
            RangeRequest(key=b"h", serializable=True),
            RangeRequest(key=b"nothing"),
            rpc_pb2.DeleteRangeRequest(key=b"h"),
            rpc_pb2.TxnRequest(success=[put_op(rpc_pb2.PutRequest(key=b"h"))]),
            rpc_pb2.TxnRequest(success=[range_op(RangeRequest(key=b"h"))]),
        ):
            header = api.kv(request).header
            assert header.raft_term > 0, request
            assert header.revision >= last > -1, request
            last = header.revision
            clusters.add(header.cluster_id)
            members.setdefault(name, set()).add(header.member_id)
    assert len(clusters) == 1
    assert 0 not in clusters
    assert all(len(ids) == 1 for ids in members.values())
    assert len(set.union(*members.values())) == 3


def test_a_write_through_one_node_is_read_through_every_other(nodes: dict[str, Api]) -> None:
    for number, (writer, reader) in enumerate(itertools.permutations(nodes, 2)):
        written = nodes[writer].put(b"shared", b"%d" % number)
        read = nodes[reader].get(b"shared")
        assert read.kvs[0].value == b"%d" % number
        assert read.kvs[0].mod_revision == written.header.revision


# --- errors, in etcd's words ------------------------------------------------------------------------------------------


def bad_requests(beside: Beside) -> dict[str, object]:
    """Requests that etcd refuses, with and without a transaction around them."""
    put, one, key = beside.put, beside.one, beside.key(b"k")
    txn = rpc_pb2.TxnRequest
    return {
        "range without key": RangeRequest(),
        "put without key": rpc_pb2.PutRequest(value=b"v"),
        "delete without key": rpc_pb2.DeleteRangeRequest(range_end=b"x"),
        "value with ignore_value": put(b"k", b"v", ignore_value=True),
        "lease with ignore_lease": put(b"k", b"v", ignore_lease=True, lease=5),
        "ignore_value of nothing": put(b"new", ignore_value=True),
        "ignore_lease of nothing": put(b"new", ignore_lease=True),
        "unknown lease": put(b"k", b"v", lease=12345),
        "negative lease": put(b"k", b"v", lease=-1),
        "future revision": lambda base: one(b"k", revision=base + 1_000_000),
        "absurd revision": one(b"k", revision=2**63 - 1),
        "compare without key": txn(compare=[Compare()]),
        "txn with empty operation": txn(success=[rpc_pb2.RequestOp()]),
        "txn with put without key": txn(success=[put_op(rpc_pb2.PutRequest())]),
        "txn with range without key": txn(failure=[range_op(RangeRequest())]),
        "txn with delete without key": txn(success=[delete_op(rpc_pb2.DeleteRangeRequest())]),
        "txn with too many operations": txn(success=[put_op(put(b"%d" % n)) for n in range(129)]),
        "txn with too many compares": txn(compare=[Compare(key=key)] * 129),
        "nested txn with too many": txn(
            success=[txn_op(txn(success=[put_op(put(b"%d" % n)) for n in range(128)])), put_op(put(b"k"))]
        ),
        "put twice": txn(success=[put_op(put(b"k")), put_op(put(b"k"))]),
        "put and delete": txn(success=[put_op(put(b"k")), delete_op(beside.delete(b"k"))]),
        "put in a deleted range": txn(
            success=[put_op(put(b"k")), delete_op(beside.delete(b"a", range_end=beside.end))]
        ),
        "put twice across nesting": txn(success=[put_op(put(b"k")), txn_op(txn(failure=[put_op(put(b"k"))]))]),
        "txn with unknown lease": txn(success=[put_op(put(b"k", lease=77))]),
        "txn with ignore_value of nothing": txn(success=[put_op(put(b"new", ignore_value=True))]),
        "txn with a future revision": lambda base: txn(success=[range_op(one(b"k", revision=base + 1_000_000))]),
        "compaction of the future": lambda base: rpc_pb2.CompactionRequest(revision=base + 1_000_000),
        "compaction of an absurd revision": rpc_pb2.CompactionRequest(revision=2**63 - 1),
    }


def test_refusals_have_etcds_codes_and_texts_and_change_nothing(beside: Beside) -> None:
    beside.both(beside.put(b"k", b"kept"))

    for name, request in bad_requests(beside).items():
        refusal = beside.both(request)
        assert isinstance(refusal, Failed), name
        assert refusal.outcome == "not-applied", name

    answer = beside.both(beside.all())
    assert [kv.value for kv in answer.kvs] == [b"kept"]


def test_a_delete_of_what_the_same_txn_does_not_put_is_allowed_twice(beside: Beside) -> None:
    beside.both(beside.put(b"k", b"v"))

    beside.both(rpc_pb2.TxnRequest(success=[delete_op(beside.delete(b"k")), delete_op(beside.delete(b"k"))]))
    beside.both(
        rpc_pb2.TxnRequest(
            compare=[Compare(key=beside.key(b"k"))],
            success=[
                txn_op(rpc_pb2.TxnRequest(success=[put_op(beside.put(b"x"))], failure=[put_op(beside.put(b"x"))]))
            ],
        )
    )
    beside.both(beside.all())

"""Sessions over the wire, through every node: what clients of other languages can rely on too."""

from __future__ import annotations

from typing import Any

from raftkv.errors import SESSION_EXPIRED
from raftkv.pb import rpc_pb2, store_pb2
from tests.server.grpc_api import Api


def open_session(api: Api) -> int:
    answer = api.call("raftkv.store.Store", "OpenSession", store_pb2.OpenSessionRequest())
    assert answer.ttl_ms >= 60_000
    session: int = answer.session
    return session


def send(api: Api, *commands: store_pb2.Command) -> list[Any]:
    return list(api.batch(store_pb2.BatchRequest(commands=commands)).answers)


def put(key: bytes, session: int, sequence: int) -> store_pb2.Command:
    return store_pb2.Command(
        put=rpc_pb2.PutRequest(key=key, value=b"v", prev_kv=True), session=session, sequence=sequence
    )


def test_a_write_sent_to_every_node_takes_effect_once(nodes: dict[str, Api]) -> None:
    session = open_session(nodes["n1"])

    answers = [send(api, put(b"sessions/once", session, 1)) for api in (*nodes.values(), *nodes.values())]

    assert len({answer.put.header.revision for (answer,) in answers}) == 1
    assert not any(answer.put.HasField("prev_kv") for (answer,) in answers)
    found = nodes["n2"].call("etcdserverpb.KV", "Range", rpc_pb2.RangeRequest(key=b"sessions/once"))
    assert found.kvs[0].version == 1


def test_in_one_batch_a_bad_operation_fails_alone_and_a_copy_gets_the_first_answer(node: Api) -> None:
    session = open_session(node)
    bad = store_pb2.Command(put=rpc_pb2.PutRequest(key=b""), session=session, sequence=2)

    first, refused, copy = send(node, put(b"sessions/twice", session, 1), bad, put(b"sessions/twice", session, 1))

    assert first.put.header.revision == copy.put.header.revision
    assert refused.failure.message == "etcdserver: key is not provided"


def test_an_unknown_session_is_told_so_and_nothing_is_applied(node: Api) -> None:
    (answer,) = send(node, put(b"sessions/none", 12345, 1))

    assert (answer.failure.message, answer.failure.outcome) == (SESSION_EXPIRED, store_pb2.Failure.NOT_APPLIED)
    found = node.call("etcdserverpb.KV", "Range", rpc_pb2.RangeRequest(key=b"sessions/none"))
    assert not found.kvs

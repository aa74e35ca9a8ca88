from __future__ import annotations

import threading

import pytest

from raftkv.client import calls
from raftkv.client.operation import ThreadWaiter, batch_request
from raftkv.client.transaction import OPERATIONS, TxnBuilder
from raftkv.pb import rpc_pb2, store_pb2


@pytest.mark.parametrize("size", [0, 1, 100, 110, 115, 120, 121, 122, 125, 126, 127, 128, 16_000, 16_400, 3_000_000])
def test_hand_made_frames_are_what_protobuf_would_write(size: int) -> None:
    operation = calls.put("key", b"x" * size)

    request = store_pb2.BatchRequest.FromString(batch_request([operation, operation]))

    command = store_pb2.Command(put=rpc_pb2.PutRequest(key=b"key", value=b"x" * size))
    assert request == store_pb2.BatchRequest(commands=[command, command])
    assert request.SerializeToString() == batch_request([operation, operation])


def test_every_batched_kind_lands_in_its_own_field() -> None:
    operations = [
        calls.put("k", "v"),
        calls.get("k"),
        calls.delete("k"),
        calls.txn(TxnBuilder().then(OPERATIONS.get("k")).request),
    ]

    request = store_pb2.BatchRequest.FromString(batch_request(operations))

    fields = [command.WhichOneof("operation") for command in request.commands]
    assert fields == ["put", "range", "delete_range", "txn"] == [operation.kind.name for operation in operations]


def test_what_may_answer_late_or_large_travels_alone() -> None:
    assert calls.compact(7, physical=True).alone
    assert calls.range_page(calls.range_request(prefix="a")).alone
    assert not calls.range_page(calls.range_request(prefix="a", limit=10)).alone
    assert not calls.get("a").alone


def test_a_thread_sleeps_until_its_answer_is_there() -> None:
    waiter = ThreadWaiter()
    threading.Timer(0.01, waiter.set_result, ["answer"]).start()

    assert waiter.wait() == "answer"
    assert waiter.done()


def test_a_thread_is_woken_by_an_exception() -> None:
    waiter = ThreadWaiter()
    waiter.set_exception(KeyError("gone"))

    with pytest.raises(KeyError):
        waiter.wait()

"""What a client will have from one node alone, that node answers without the others; and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from raftkv.errors import DeadlineExceeded
from raftkv.pb import rpc_pb2 as rpc
from raftkv.server.kv import KvService
from raftkv.server.limits import Limits
from tests.node.support import TIMEOUT_S, member

LIMITS = Limits(request_bytes_max=1 << 20, txn_ops_max=128, quota_bytes=1 << 30)
COMPARE = rpc.Compare(key=b"key", target=rpc.Compare.CREATE, result=rpc.Compare.EQUAL, create_revision=0)


@pytest.fixture
async def kv(tmp_path: Path) -> AsyncIterator[KvService]:
    """A node of three that has found no other."""
    async with member(tmp_path, voters=(1, 2, 3)) as this:
        yield KvService(this.node, LIMITS)


def of_range(*, serializable: bool) -> rpc.RequestOp:
    return rpc.RequestOp(request_range=rpc.RangeRequest(key=b"key", serializable=serializable))


async def test_a_txn_of_serializable_ranges_is_answered_by_the_node_alone(kv: KvService) -> None:
    local = of_range(serializable=True)

    answer = await kv.txn(rpc.TxnRequest(compare=[COMPARE], success=[local, local], failure=[local]), TIMEOUT_S)

    assert answer.succeeded
    assert [one.response_range.count for one in answer.responses] == [0, 0]


@pytest.mark.parametrize(
    "request_",
    [
        rpc.TxnRequest(success=[of_range(serializable=True), of_range(serializable=False)]),
        rpc.TxnRequest(success=[of_range(serializable=True)], failure=[of_range(serializable=False)]),
        rpc.TxnRequest(compare=[COMPARE]),
    ],
    ids=["one range is not", "one on the other branch is not", "compares alone"],
)
async def test_a_txn_that_asks_for_more_waits_for_the_others(kv: KvService, request_: rpc.TxnRequest) -> None:
    with pytest.raises(DeadlineExceeded):
        await kv.txn(request_, 0.05)

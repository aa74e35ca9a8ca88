"""What was applied is never answered as not applied, even if what was to follow it does not come about."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from raftkv.errors import Code, Outcome, RequestError
from raftkv.node.members import Members
from raftkv.pb import rpc_pb2, store_pb2
from raftkv.server.cluster import ClusterService
from raftkv.server.kv import KvService
from raftkv.server.limits import Limits
from raftkv.statemachine import MemberTable
from tests.node.support import TIMEOUT_S, Member, member
from tests.support import eventually

LIMITS = Limits(request_bytes_max=1 << 20, txn_ops_max=128, quota_bytes=1 << 30)


def stands_still(this: Member) -> list[Any]:
    """Let the state machine apply, and do no other work from now on; what it was asked for."""
    asked: list[Any] = []
    this.applier.call = lambda job, done: asked.append(job)
    return asked


@pytest.mark.parametrize("ends", ["the node stops", "time runs out"])
async def test_a_physical_compaction_that_cannot_wait_for_the_removal_is_unknown(tmp_path: Path, ends: str) -> None:
    async with member(tmp_path) as this:
        await this.leads()
        for _ in range(3):
            await this.put(b"key")
        asked = stands_still(this)
        request = rpc_pb2.CompactionRequest(revision=3, physical=True)
        hold_s = TIMEOUT_S if ends == "the node stops" else 0.1
        compacting = asyncio.create_task(KvService(this.node, LIMITS).compact(request, hold_s))
        await eventually(lambda: asked or compacting.done())
        assert this.machine.compact_revision == 3

        if ends == "the node stops":
            this.node.stop()
        with pytest.raises(RequestError) as raised:
            await compacting

        expected = Code.UNAVAILABLE if ends == "the node stops" else Code.DEADLINE_EXCEEDED
        assert (raised.value.code, raised.value.outcome) == (expected, Outcome.UNKNOWN)


class Done(Members):
    """Every change has been made by the leader already."""

    async def change(self, change: store_pb2.MemberChange, *, timeout_s: float) -> MemberTable:
        return MemberTable((rpc_pb2.Member(ID=7),))


async def test_a_change_of_members_is_answered_though_this_node_cannot_read_it_in_time(tmp_path: Path) -> None:
    async with member(tmp_path) as this:
        await this.leads()
        service = ClusterService(this.node, Done(this.node, None, set))
        stands_still(this)

        answer = await service.member_remove(rpc_pb2.MemberRemoveRequest(ID=2), 0.1)

        assert [one.ID for one in answer.members] == [7]

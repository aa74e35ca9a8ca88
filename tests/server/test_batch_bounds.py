"""What one Batch call may ask of a node: it is one of many callers, however little it costs to write the call."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from raftkv.client import limits as of_clients
from raftkv.errors import ConfigError, InvalidArgument, Outcome
from raftkv.node.proposals import BATCH_COMMANDS_MAX
from raftkv.pb import store_pb2
from raftkv.server.limits import Limits
from raftkv.server.store import StoreService
from tests.node.support import TIMEOUT_S, Member, member
from tests.statemachine.support import put

LIMITS = Limits(request_bytes_max=1 << 21, txn_ops_max=128, quota_bytes=1 << 30)


@pytest.fixture
async def leader(tmp_path: Path) -> AsyncIterator[Member]:
    """A node that is its whole cluster."""
    async with member(tmp_path) as this:
        this.campaign()
        yield await this.leads()


@pytest.fixture
def store(leader: Member) -> StoreService:
    return StoreService(leader.node, LIMITS)


async def ask(store: StoreService, *commands: store_pb2.Command) -> list[store_pb2.Answer]:
    response = await store.batch(store_pb2.BatchRequest(commands=commands).SerializeToString(), TIMEOUT_S)
    return list(response.answers)


# --- commands ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [put(b"k"), store_pb2.Command()], ids=["puts", "nothing at all"])
async def test_a_batch_of_too_many_commands_is_refused_as_a_whole(
    leader: Member, store: StoreService, command: store_pb2.Command
) -> None:
    last_index, revision = leader.raft.last_index, leader.machine.revision

    with pytest.raises(InvalidArgument, match="too many commands in one batch: more than 4096") as refused:
        await ask(store, *[command] * (BATCH_COMMANDS_MAX + 1))

    assert refused.value.outcome is Outcome.NOT_APPLIED
    assert (leader.raft.last_index, leader.machine.revision) == (last_index, revision)


async def test_a_batch_of_just_so_many_commands_is_carried_out(leader: Member, store: StoreService) -> None:
    revision = leader.machine.revision

    answers = await ask(store, *[put(b"k")] * BATCH_COMMANDS_MAX)

    assert [answer.put.header.revision for answer in answers] == list(
        range(revision + 1, revision + 1 + BATCH_COMMANDS_MAX)
    )


def test_a_client_cannot_be_told_to_send_more_than_a_server_takes() -> None:
    assert of_clients.OPERATIONS_MAX == BATCH_COMMANDS_MAX
    of_clients.Limits(operations_max=BATCH_COMMANDS_MAX)

    with pytest.raises(ConfigError, match=r"operations_max is 4097; a server takes 4096 at most"):
        of_clients.Limits(operations_max=BATCH_COMMANDS_MAX + 1)

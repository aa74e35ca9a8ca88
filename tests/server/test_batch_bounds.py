"""What one Batch call may ask of a node: it is one of many callers, however little it costs to write the call."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from raftkv.client import limits as of_clients
from raftkv.errors import BATCH_ANSWERS_TOO_LARGE, Code, ConfigError, InvalidArgument, Outcome
from raftkv.node.proposals import BATCH_COMMANDS_MAX
from raftkv.pb import rpc_pb2 as rpc
from raftkv.pb import store_pb2
from raftkv.server import store as of_batches
from raftkv.server.limits import Limits
from raftkv.server.store import StoreService
from tests.node.support import TIMEOUT_S, Member, commands, member
from tests.statemachine.support import compact, put

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


# --- answers ----------------------------------------------------------------------------------------------------------


def get(key: bytes, range_end: bytes = b"", **options: Any) -> store_pb2.Command:
    return store_pb2.Command(range=rpc.RangeRequest(key=key, range_end=range_end, **options))


@pytest.mark.parametrize("is_local", [False, True], ids=["linearizable", "serializable"])
async def test_what_a_batch_answers_has_a_bound(
    leader: Member, store: StoreService, monkeypatch: pytest.MonkeyPatch, *, is_local: bool
) -> None:
    """As many answers as have room; those behind are refused, and no more is read for them."""
    monkeypatch.setattr(of_batches, "ANSWERS_BYTES_MAX", 10_000)
    await leader.put(b"k", b"v" * 1000)

    answers = await ask(store, *[get(b"k", serializable=is_local)] * 1000, put(b"other"))

    assert [len(answer.range.kvs[0].value) for answer in answers[:9]] == [1000] * 9
    assert {(one.failure.code, one.failure.message, one.failure.outcome) for one in answers[9:-1]} == {
        (Code.RESOURCE_EXHAUSTED, BATCH_ANSWERS_TOO_LARGE, store_pb2.Failure.NOT_APPLIED)
    }
    assert answers[-1].WhichOneof("result") == "put"


@pytest.mark.parametrize("mebibytes", [2, 6], ids=["where it begins", "on the way"])
async def test_a_long_range_that_does_not_fit_lets_go_what_it_pins(
    leader: Member, store: StoreService, monkeypatch: pytest.MonkeyPatch, mebibytes: int
) -> None:
    monkeypatch.setattr(of_batches, "ANSWERS_BYTES_MAX", mebibytes << 20)
    for number in range(12):
        await leader.put(b"k%02d" % number, b"v" * (1 << 20))

    first, long, last = await ask(store, get(b"k00"), get(b"k", b"l"), get(b"k00"))

    assert first.range.count == 1
    assert long.failure.message == last.failure.message == BATCH_ANSWERS_TOO_LARGE
    await leader.put(b"k00")
    revision = leader.machine.revision
    await leader.node.submit(commands(compact(revision)), 1, timeout_s=TIMEOUT_S)
    while leader.machine.compact_some():
        pass
    assert leader.machine.removed_revision == revision


async def test_others_get_their_turn_between_the_reads_of_a_batch(leader: Member, store: StoreService) -> None:
    """A batch of ranges that takes the node's thread for long is read in pieces; what is applied meanwhile does not wait."""
    await leader.put(b"k", b"v")
    jobs = 0
    call = leader.applier.call

    def counted(job: Any, done: Any) -> None:
        nonlocal jobs
        jobs += 1
        call(job, done)

    leader.applier.call = counted

    gets = await ask(store, *[get(b"k")] * 1024)
    of_gets, jobs = jobs, 0
    ranges = await ask(store, *[get(b"k", b"l", count_only=True)] * 64)

    assert [answer.range.count for answer in gets + ranges] == [1] * (1024 + 64)
    assert (of_gets, jobs) == (4, 16)


async def test_the_ranges_of_a_batch_share_one_deadline(leader: Member, store: StoreService) -> None:
    await leader.put(b"k", b"v")
    raw = store_pb2.BatchRequest(commands=[get(b"k")] * 1000).SerializeToString()
    leader.applier.is_held = True

    response = await store.batch(raw, 0.05)

    leader.applier.release()
    assert {answer.failure.code for answer in response.answers} == {Code.DEADLINE_EXCEEDED}

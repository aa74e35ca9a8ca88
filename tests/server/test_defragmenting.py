"""Defragment holds a node up: however often it is asked for, by callers who wait or have gone, it is done once at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from raftkv.errors import DiskFullError, ResourceExhausted
from raftkv.pb import rpc_pb2 as rpc
from raftkv.server.maintenance import MaintenanceService
from tests.node.support import TIMEOUT_S, Member, member
from tests.support import eventually

REQUEST = rpc.DefragmentRequest()


@pytest.fixture
async def busy(tmp_path: Path) -> AsyncIterator[Member]:
    """A node whose state machine does nothing until it is released."""
    async with member(tmp_path) as this:
        this.applier.is_held = True
        yield this


@pytest.fixture
def done(busy: Member, monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """One for each time that the state was really copied."""
    times: list[None] = []
    defragment = busy.machine.defragment
    monkeypatch.setattr(busy.machine, "defragment", lambda: times.append(defragment()))
    return times


async def test_calls_that_were_given_up_cost_one_copy(busy: Member, done: list[None], tmp_path: Path) -> None:
    service = MaintenanceService(busy.node, tmp_path)
    for _ in range(60):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await service.defragment(REQUEST, TIMEOUT_S)
    last = asyncio.create_task(service.defragment(REQUEST, TIMEOUT_S))
    await asyncio.sleep(0)

    busy.applier.release()

    assert await last == rpc.DefragmentResponse()
    assert len(done) == 1


async def test_who_asks_when_one_is_done_gets_another(busy: Member, done: list[None], tmp_path: Path) -> None:
    busy.applier.release()
    service = MaintenanceService(busy.node, tmp_path)

    await service.defragment(REQUEST, TIMEOUT_S)
    await service.defragment(REQUEST, TIMEOUT_S)

    assert len(done) == 2


async def test_all_who_wait_are_told_why_it_failed_and_the_next_may_try(
    busy: Member, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    service = MaintenanceService(busy.node, tmp_path)

    def without_room() -> None:
        raise DiskFullError("no room")

    with monkeypatch.context() as patched:
        patched.setattr(busy.machine, "defragment", without_room)
        both = [asyncio.create_task(service.defragment(REQUEST, TIMEOUT_S)) for _ in range(2)]
        await asyncio.sleep(0)
        busy.applier.release()
        results = await asyncio.gather(*both, return_exceptions=True)

    assert [type(result) for result in results] == [ResourceExhausted] * 2
    assert await service.defragment(REQUEST, TIMEOUT_S) == rpc.DefragmentResponse()


async def test_a_failure_that_nobody_waits_for_is_no_failure_of_the_node(
    busy: Member, done: list[None], tmp_path: Path
) -> None:
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    service = MaintenanceService(busy.node, tmp_path)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await service.defragment(REQUEST, TIMEOUT_S)

    busy.node.stop()
    await eventually(lambda: not [task for task in asyncio.all_tasks() if task.get_name() == "raftkv-defragment"])

    assert complaints == []
    assert done == []

"""Locks on a lease that was lent to them: their keys do not go with it, so they have to be deleted, each by its owner."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

import raftkv
from raftkv.client.leasing import AsyncLease
from raftkv.client.locking import AsyncLock
from tests.client.fakes import FakeQueue
from tests.support import eventually


@pytest.fixture
async def queue() -> AsyncIterator[FakeQueue]:
    queue = FakeQueue()
    yield queue
    await queue.stop()


@pytest.fixture
async def lease(queue: FakeQueue) -> AsyncLease:
    return await queue.lease()


@pytest.fixture
def lock(queue: FakeQueue, lease: AsyncLease, monkeypatch: pytest.MonkeyPatch) -> AsyncLock:
    monkeypatch.setattr("raftkv.client.contender.RELEASE_S", 0.1)
    return AsyncLock(queue.home, "n", 10, timeout=0.1, wait=None, lease=lease)


async def test_who_gives_up_while_queueing_leaves_no_key_though_it_held_the_lock_before(
    queue: FakeQueue, lock: AsyncLock
) -> None:
    await lock.acquire()
    await lock.release()
    queue.gate.clear()
    before = queue.arrived
    acquiring = asyncio.create_task(lock.acquire())
    await eventually(lambda: queue.arrived > before)

    acquiring.cancel()
    queue.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await acquiring

    await eventually(lambda: queue.answered == queue.arrived)
    assert queue.keys == {}


async def test_a_child_does_not_delete_the_key_of_its_parent(
    queue: FakeQueue, lease: AsyncLease, lock: AsyncLock
) -> None:
    await lock.acquire()
    held = dict(queue.keys)
    lease.leave_behind("it belongs to the parent", is_forked=True)

    with pytest.raises(raftkv.LeaseLost):
        await lock.end(is_quiet=False)
    await lock.release()

    assert queue.keys == held != {}


async def test_a_release_that_nobody_answered_is_said_and_can_be_repeated(queue: FakeQueue, lock: AsyncLock) -> None:
    await lock.acquire()
    queue.refusals["txn"] = raftkv.Unavailable("etcdserver: no leader")
    for _ in range(2):
        with pytest.raises(raftkv.Unavailable):
            await lock.release()
        assert not lock.is_held
    assert queue.keys

    queue.refusals.clear()
    await lock.release()

    assert queue.keys == {}


async def test_a_block_whose_key_could_not_be_deleted_raises(queue: FakeQueue, lock: AsyncLock) -> None:
    with pytest.raises(raftkv.Unavailable):
        async with lock:
            queue.refusals["txn"] = raftkv.Unavailable("etcdserver: no leader")
    with pytest.raises(raftkv.Unavailable):  # What is left has to go before another place is taken.
        await lock.acquire()
    (old,) = queue.keys.values()

    queue.refusals.clear()
    async with lock:
        (new,) = queue.keys.values()

    assert new > old
    assert queue.keys == {}


async def test_an_error_of_the_block_is_not_replaced_by_that(queue: FakeQueue, lock: AsyncLock) -> None:
    async def fail() -> None:
        async with lock:
            queue.refusals["txn"] = raftkv.Unavailable("etcdserver: no leader")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()

    queue.refusals.clear()
    await lock.release()
    assert queue.keys == {}


async def test_a_server_that_ends_the_wait_does_not_keep_the_place(queue: FakeQueue, lock: AsyncLock) -> None:
    queue.refusals["range"] = raftkv.Cancelled("the server ended the watch")
    with pytest.raises(raftkv.Cancelled):
        await lock.acquire()

    assert queue.keys == {}


async def test_a_loop_that_ends_for_a_fork_keeps_the_place_for_the_next_one(queue: FakeQueue, lock: AsyncLock) -> None:
    """What still runs at the end of a loop is cancelled by asyncio."""
    queue.gate.clear()
    before = queue.arrived
    acquiring = asyncio.create_task(lock.acquire())
    await eventually(lambda: queue.arrived > before)
    queue.is_closed = True
    acquiring.cancel()
    queue.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await acquiring
    await eventually(lambda: queue.answered == queue.arrived)
    place = dict(queue.keys)

    queue.is_closed = False
    await lock.acquire()

    assert queue.keys == place != {}
    await lock.release()

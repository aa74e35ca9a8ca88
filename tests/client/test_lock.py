"""Locks of the client, on etcd and on raftkv, beside etcdctl's."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import raftkv
from tests.client.test_lease import revoke, wait_for_count, wait_until

WAIT_S = 30.0


@pytest.fixture
def name() -> str:
    return uuid.uuid4().hex


def queued(kv: raftkv.Client, name: str) -> int:
    return kv.count(prefix=f"{name}/")


def test_a_lock_is_a_key_named_after_its_lease_and_goes_at_the_end(kv: raftkv.Client, name: str) -> None:
    with kv.lock(name) as lock:
        (item,) = kv.range(prefix=f"{name}/")
        assert (item.key, item.value) == (lock.key, b"")
        assert item.key == f"{name}/{item.lease:x}".encode()
        assert lock.fencing_token == item.create_revision
        assert lock.is_held
        lock.require()

    assert queued(kv, name) == 0
    assert not lock.is_held
    assert lock.lost.is_set()


def test_it_is_had_in_the_order_in_which_it_was_asked_for(kv: raftkv.Client, name: str) -> None:
    order: list[tuple[int, int]] = []

    def contend(number: int) -> None:
        with kv.lock(name) as lock:
            order.append((number, lock.fencing_token))

    threads = [threading.Thread(target=contend, args=(number,)) for number in range(4)]
    with kv.lock(name):
        for number, thread in enumerate(threads):
            thread.start()
            wait_until(lambda at=number: queued(kv, name) == at + 2, "it did not queue up")  # type: ignore[misc]
        assert order == []
    for thread in threads:
        thread.join(WAIT_S)

    assert [number for number, _ in order] == [0, 1, 2, 3]
    assert [token for _, token in order] == sorted({token for _, token in order})


def test_who_waits_in_vain_leaves_the_queue(kv: raftkv.Client, name: str) -> None:
    with kv.lock(name) as held:
        late = kv.lock(name, timeout=0.2)
        with pytest.raises(raftkv.DeadlineExceeded, match=f"the lock '{name}' was not free within 0.2 s"):
            late.acquire()
        assert [item.key for item in kv.range(prefix=f"{name}/")] == [held.key]
        with pytest.raises(RuntimeError, match="not held"):
            _ = late.fencing_token
    late.acquire()
    late.release()
    assert queued(kv, name) == 0


async def test_who_is_cancelled_leaves_the_queue(endpoint: str, name: str) -> None:
    async with raftkv.aio.connect(endpoint) as kv, kv.lock(name) as held:
        waiting = asyncio.create_task(kv.lock(name).acquire())
        await wait_for_count(kv, f"{name}/", 2)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert [item.key async for item in kv.range(prefix=f"{name}/")] == [held.key]
        assert held.is_held


def test_a_write_under_a_lock_that_went_to_somebody_else_is_refused(kv: raftkv.Client, name: str) -> None:
    lock = kv.lock(name, ttl=2)
    lock.acquire()
    token = lock.fencing_token
    assert kv.txn().when(lock.fence).then(kv.op.put("guarded", "1")).commit().succeeded

    kv.delete(lock.key)
    with kv.lock(name) as successor:
        assert successor.fencing_token > token
        late = kv.txn().when(lock.fence).then(kv.op.put("guarded", "2")).commit()

    assert not late.succeeded
    item = kv.get("guarded")
    assert item is not None
    assert item.text == "1"
    lock.release()


def test_a_lock_that_was_lost_says_so_at_the_end(kv: raftkv.Client, endpoint: str, name: str) -> None:
    told: list[raftkv.Lock] = []

    def lose() -> None:
        with kv.lock(name, ttl=2, on_lost=told.append) as lock:
            revoke(endpoint, int(lock.key.rpartition(b"/")[2], 16))
            assert lock.lost.wait(WAIT_S)
            assert not lock.is_held
            assert lock.fencing_token > 0

    with pytest.raises(raftkv.LeaseLost):
        lose()
    wait_until(lambda: told, "nobody was told")


def test_who_loses_the_lease_while_waiting_never_gets_the_lock(kv: raftkv.Client, endpoint: str, name: str) -> None:
    with kv.lock(name) as held:
        raised: list[BaseException] = []

        def contend() -> None:
            try:
                kv.lock(name, ttl=2).acquire()
            except raftkv.LeaseLost as error:
                raised.append(error)

        waiting = threading.Thread(target=contend)
        waiting.start()
        wait_until(lambda: queued(kv, name) == 2, "it did not queue up")
        (other,) = (item for item in kv.range(prefix=f"{name}/") if item.key != held.key)
        revoke(endpoint, other.lease)
        waiting.join(WAIT_S)
        assert len(raised) == 1
        assert queued(kv, name) == 1


def test_locks_may_share_a_lease_that_outlives_them(kv: raftkv.Client, name: str) -> None:
    with kv.lease(10) as lease:
        with kv.lock(f"{name}-a", lease=lease) as first, kv.lock(f"{name}-b", lease=lease) as second:
            assert sorted(lease.keys()) == sorted((first.key, second.key))
        assert lease.keys() == ()
        assert not lease.lost.is_set()


def test_a_lock_is_not_acquired_twice(kv: raftkv.Client, name: str) -> None:
    with kv.lock(name) as lock, pytest.raises(RuntimeError, match="held already"):
        lock.acquire()


@contextmanager
def etcdctl(endpoint: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    if shutil.which("etcdctl") is None:
        pytest.skip("etcdctl is not installed (Debian: etcd-client)")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ETCDCTL_")}
    command = ["etcdctl", "--endpoints", endpoint, *arguments]
    with subprocess.Popen(command, env=environment | {"ETCDCTL_API": "3"}, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def test_etcdctl_waits_behind_us(kv: raftkv.Client, endpoint: str, name: str) -> None:
    with kv.lock(name) as held, etcdctl(endpoint, "lock", name, "echo", "mine") as theirs:
        wait_until(lambda: queued(kv, name) == 2, "etcdctl did not queue up")
        assert theirs.poll() is None
        held.release()
        assert theirs.communicate(timeout=WAIT_S)[0] == b"mine\n"


def test_we_wait_behind_etcdctl(kv: raftkv.Client, endpoint: str, name: str) -> None:
    with etcdctl(endpoint, "lock", name) as theirs:
        wait_until(lambda: queued(kv, name) == 1, "etcdctl did not take the lock")
        with pytest.raises(raftkv.DeadlineExceeded):
            kv.lock(name, timeout=0.2).acquire()
        theirs.send_signal(signal.SIGINT)
        with kv.lock(name, timeout=WAIT_S) as lock:
            assert lock.is_held


FORKING = """
import os, sys, threading, raftkv

with raftkv.connect(sys.argv[1]) as kv:
    held = kv.lock("forked", ttl=600)
    held.acquire()
    tokens = []

    def wait():
        with kv.lock("forked", ttl=600, timeout=30) as lock:
            tokens.append(lock.fencing_token)

    waiting = threading.Thread(target=wait)
    waiting.start()
    while kv.count(prefix="forked/") < 2:
        pass
    for _ in range(3):
        child = os.fork()
        if not child:
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    held.release()
    waiting.join()
    assert tokens > [held.fencing_token], tokens
    assert kv.count(prefix="forked/") == 0
"""


def test_who_waits_in_one_thread_while_another_forks_gets_the_lock(node: str) -> None:
    """In a process of its own: gRPC objects of other tests would not survive the fork."""
    command = [sys.executable, "-c", FORKING, node]
    done = subprocess.run(command, timeout=60, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")

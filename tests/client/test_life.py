"""Opening, closing, forking; and what a client says when it is used wrongly."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

import raftkv
from raftkv import Outcome
from tests.client.fakes import FakeStore
from tests.support import eventually, free_port


async def test_a_closed_client_says_so_and_may_be_closed_again(store: FakeStore) -> None:
    kv = raftkv.aio.connect(store.address)
    await kv.put("k", "v")
    await kv.close()
    await kv.close()

    for call in (kv.put("k", "v"), kv.status(), kv.status(store.address)):
        with pytest.raises(raftkv.Cancelled, match="the client is closed") as caught:
            await call
        assert caught.value.outcome is Outcome.NOT_APPLIED


async def test_a_client_closed_before_its_first_use_says_so() -> None:
    kv = raftkv.aio.connect(f"127.0.0.1:{free_port()}")
    await kv.close()

    with pytest.raises(raftkv.Cancelled, match="the client is closed"):
        await kv.get("k")


def test_a_closed_sync_client_says_so_and_may_be_closed_again() -> None:
    kv = raftkv.connect(f"127.0.0.1:{free_port()}")
    with pytest.raises(raftkv.DeadlineExceeded):
        kv.get("k", timeout=0.05)
    kv.close()
    kv.close()

    with pytest.raises(raftkv.Cancelled, match="the client is closed"):
        kv.get("k")
    with pytest.raises(raftkv.Cancelled, match="the client is closed"):
        kv.status("127.0.0.1:1")


async def test_closing_tells_what_became_of_everything(store: FakeStore) -> None:
    store.gate.clear()
    kv = raftkv.aio.connect(store.address, limits=raftkv.Limits(operations_max=2, queue_operations_max=1))
    flying = [asyncio.create_task(kv.put("w", "v")), asyncio.create_task(kv.get("r"))]
    await eventually(lambda: bool(store.batches))
    waiting = [asyncio.create_task(kv.put("q", "v")) for _ in range(3)]
    asking = asyncio.create_task(kv.status(store.address))
    await eventually(lambda: store.unary == 1)

    await kv.close()

    results = await asyncio.gather(*flying, *waiting, asking, return_exceptions=True)
    assert [type(result) for result in results] == [raftkv.Cancelled] * 6
    outcomes = [result.outcome for result in results if isinstance(result, raftkv.Cancelled)]
    assert outcomes == [Outcome.UNKNOWN, *[Outcome.NOT_APPLIED] * 5]


async def test_a_write_to_one_endpoint_that_had_no_answer_is_of_unknown_outcome(store: FakeStore) -> None:
    """Neither when time ran out nor when the client was closed; what was never sent surely was not applied."""
    store.gate.clear()
    kv = raftkv.aio.connect(store.address)
    with pytest.raises(raftkv.DeadlineExceeded) as late:
        await kv.move_leader(1, endpoint=store.address, timeout=1.5)
    moving = asyncio.create_task(kv.move_leader(1, endpoint=store.address))
    await eventually(lambda: store.unary == 2)
    with pytest.raises(raftkv.Unavailable) as unsent:
        await kv.move_leader(1, endpoint=f"127.0.0.1:{free_port()}")
    await kv.close()
    with pytest.raises(raftkv.Cancelled) as closed:
        await moving

    assert [caught.value.outcome for caught in (late, closed, unsent)] == [
        Outcome.UNKNOWN,
        Outcome.UNKNOWN,
        Outcome.NOT_APPLIED,
    ]


async def test_closing_wakes_sleeping_threads(store: FakeStore) -> None:
    store.gate.clear()
    kv = raftkv.connect(store.address)
    call = asyncio.create_task(asyncio.to_thread(kv.put, "k", "v"))
    await eventually(lambda: bool(store.batches))

    await asyncio.to_thread(kv.close)

    with pytest.raises(raftkv.Cancelled, match="closed before the answer came") as caught:
        await call
    assert caught.value.outcome is Outcome.UNKNOWN


async def test_a_closed_sync_client_leaves_no_thread_behind(store: FakeStore) -> None:
    before = set(threading.enumerate())
    with raftkv.connect(store.address) as kv:
        await asyncio.to_thread(kv.put, "k", "v")
        (thread,) = [t for t in set(threading.enumerate()) - before if t.name == "raftkv-client"]

    assert not thread.is_alive()


async def test_a_forgotten_client_warns(store: FakeStore) -> None:
    kv = raftkv.connect(store.address)
    # A thread that ends: one of a pool may still hold the client when the put has returned.
    user = threading.Thread(target=kv.put, args=("k", "v"))
    user.start()
    await asyncio.to_thread(user.join)

    forgotten = [kv]
    del kv
    with pytest.warns(ResourceWarning, match=r"unclosed <raftkv client of 127\.0\.0\.1"):
        forgotten.clear()


def test_an_async_client_belongs_to_one_loop() -> None:
    kv = raftkv.aio.connect(f"127.0.0.1:{free_port()}")

    async def use() -> None:
        with pytest.raises(raftkv.DeadlineExceeded):
            await kv.get("k", timeout=0.05)

    async def misuse() -> None:
        with pytest.raises(RuntimeError, match="belongs to another event loop"):
            await kv.get("k")

    async def use_and_stay() -> None:
        await use()
        await asyncio.to_thread(asyncio.run, misuse())
        await kv.close()

    asyncio.run(use_and_stay())


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf")])
def test_a_timeout_is_a_number_of_seconds(timeout: float) -> None:
    with pytest.raises(raftkv.ConfigError, match="timeout is"):
        raftkv.connect(timeout=timeout)
    with raftkv.connect() as kv, pytest.raises(raftkv.ConfigError, match="timeout is"):
        kv.get("k", timeout=timeout)


def test_limits_are_positive() -> None:
    with pytest.raises(raftkv.ConfigError, match="flights_max is 0"):
        raftkv.Limits(flights_max=0)


FORKING = """
import logging, multiprocessing, os, sys, threading
from pathlib import Path

left = set()
ours = Path("/proc/self/comm").read_text()
os.register_at_fork(before=lambda: left.update(name for name in thread_names() if name != ours))

def thread_names():
    for task in Path("/proc/self/task").iterdir():
        try:
            yield (task / "comm").read_text()
        except OSError:
            pass  # One of Python's has ended.

import raftkv  # Its handler is called before ours: the last one that is registered is the first.

logging.getLogger("asyncio").setLevel(logging.ERROR)  # Its debug mode warns of every step that a busy machine makes slow.
kv = raftkv.connect(sys.argv[1])
kv.put("fork/parent", "before")
stop = threading.Event()
errors = []

def write() -> None:
    try:
        while not stop.is_set():
            kv.put("fork/load", "v")
    except BaseException as error:
        errors.append(error)

threads = [threading.Thread(target=write) for _ in range(3)]
for thread in threads:
    thread.start()
for i in range(5):
    child = os.fork()
    if child == 0:
        ok = kv.get("fork/parent").text == "before" and kv.put(f"fork/child{i}", "v").revision > 0
        kv.close()
        os._exit(0 if ok else 1)
    assert os.waitpid(child, 0)[1] == 0, f"child {i} failed"
stop.set()
for thread in threads:
    thread.join()
assert not errors, errors

process = multiprocessing.get_context("fork").Process(target=lambda: kv.put("fork/process", "v"))
process.start()
process.join()
assert process.exitcode == 0, process.exitcode
assert kv.count(prefix="fork/child") == 5
assert kv.get("fork/process") is not None
kv.close()
del kv
if os.fork() == 0:
    os._exit(0)
os.wait()
assert not left, f"{left} were there during a fork"
print("done")
"""


def test_a_sync_client_works_in_parent_and_child_after_a_fork_under_load(etcd: str) -> None:
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", FORKING, etcd]

    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert (result.returncode, result.stdout.strip(), result.stderr.strip()) == (0, "done", "")


LEAVING = """
import sys
import raftkv
kv = raftkv.connect(sys.argv[1])
kv.put("leave", "v")
"""


def test_a_process_that_ends_without_closing_ends_quietly(etcd: str) -> None:
    command = [sys.executable, "-c", LEAVING, etcd]

    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert (result.returncode, result.stderr) == (0, "")

"""The thread behind the sync face: what waits on it when a fork comes, and clients that nobody closed."""

from __future__ import annotations

import asyncio
import gc
import itertools
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

import raftkv
from raftkv.client import errand as client_errand
from raftkv.client import operation as client_operation
from raftkv.client import runner as client_runner
from raftkv.client.engine import Engine
from raftkv.client.leasing_sync import Lost
from raftkv.client.runner import Runner
from raftkv.client.tenure import Tenure
from raftkv.client.tenure import now as tenure_clock
from raftkv.client.watch_cursor import WatchCursor, watch_request
from raftkv.client.watching import AsyncWatch
from raftkv.client.watching_sync import Watch
from tests.client.test_lease import wait_until
from tests.support import WAIT_S, free_port

LINGER_S = 0.2
"""An engine that closes takes so long after it has told those who wait: time for them to draw the wrong conclusion."""

ASLEEP_S = 0.05
"""Within so long a thread that begins to wait sleeps, as a rule; where it does not yet, it heeds a signal anyway."""

INTERRUPTED_FILES = {
    module.__file__ for module in (client_runner, client_errand, client_operation, asyncio.base_events, threading)
}
"""Not that of whatever is called back for an object that has ended just then: what is raised there goes nowhere."""


def cursor() -> WatchCursor:
    return WatchCursor(watch_request("k", None, prefix=None, revision=0, previous=False, only=None), progress=False)


def watches(runner: Runner) -> int:
    """How many watches are being followed on the loop there is."""

    async def count(_: Engine) -> int:
        return sum(getattr(task.get_coro(), "__qualname__", "") == "AsyncWatch._run" for task in asyncio.all_tasks())

    return runner.run(count)


@pytest.mark.parametrize(
    "waiting",
    [
        lambda runner: runner.run_anew(lambda engine: AsyncWatch(engine.watch_pool, cursor(), 60).next()),
        lambda runner: Watch(runner, cursor(), 60).next(),
    ],
    ids=["anything", "watch"],
)
def test_what_waits_when_a_fork_comes_goes_on_afterwards(waiting: Callable[[Runner], Any]) -> None:
    runner = Runner([f"127.0.0.1:{free_port()}"], raftkv.Limits())
    ended: list[BaseException] = []

    def wait() -> None:
        try:
            waiting(runner)
        except BaseException as error:
            ended.append(error)

    thread = threading.Thread(target=wait)

    async def close_slowly(engine: Engine) -> None:
        pool = engine.watch_pool()
        try:
            await asyncio.Event().wait()
        finally:
            await pool.close()
            await asyncio.to_thread(thread.join, LINGER_S)

    async def prepare(engine: Engine) -> None:
        engine.spawn(close_slowly(engine))

    runner.run(prepare)
    thread.start()
    wait_until(lambda: watches(runner) == 1, "it does not wait")

    runner.park()
    runner.resume()

    wait_until(lambda: ended or watches(runner) == 1, "it waits no more")
    assert ended == []
    runner.close()
    thread.join()
    assert [type(error) for error in ended] == [raftkv.Cancelled]


def test_what_has_to_be_done_anew_ends_with_the_client() -> None:
    runner = Runner([f"127.0.0.1:{free_port()}"], raftkv.Limits())
    began = threading.Event()
    ended: list[BaseException] = []

    async def forever(_: Engine) -> None:
        began.set()
        await asyncio.Event().wait()

    def wait() -> None:
        for run in (runner.run, runner.run_anew):
            try:
                run(forever)
            except raftkv.Cancelled as error:
                ended.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    began.wait()
    runner.close()
    thread.join()

    assert [str(error) for error in ended] == ["the client was closed before this was done", "the client is closed"]


def test_an_interrupt_at_any_line_leaves_nothing_behind() -> None:
    """Of `run`, in the thread that waits: a coroutine that was made and not awaited would be told of on stderr, and a lock that
    was taken and not released would hang the loop."""
    runner = Runner([f"127.0.0.1:{free_port()}"], raftkv.Limits())
    under_way: set[int] = set()

    async def work(number: int) -> int:
        under_way.add(number)
        try:
            await asyncio.sleep(0)
        finally:
            under_way.discard(number)
        return number

    def run(number: int) -> int:
        return runner.run(lambda _: work(number))

    def run_interrupted(at: int) -> int:
        steps = itertools.count()

        def trace(frame: FrameType, event: str, _argument: Any) -> Any:
            if frame.f_code.co_filename not in INTERRUPTED_FILES:
                return None
            if event in ("line", "return") and next(steps) == at:
                raise KeyboardInterrupt
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            return run(at)
        finally:
            sys.settrace(before)

    run(0)  # So that there is a loop.
    gc.collect()  # Of others' garbage nothing is to be told here.
    interrupted = 0
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        while True:
            try:
                assert run_interrupted(interrupted) == interrupted
                break
            except KeyboardInterrupt:
                interrupted += 1
        gc.collect()

    assert [str(warning.message) for warning in told] == []
    assert interrupted > 10, "hardly a line was interrupted"
    assert run(7) == 7
    assert not under_way
    runner.close()


class Interrupted(BaseException):
    """Raised by a signal's handler, as KeyboardInterrupt is."""


def signal_that_wakes_nobody() -> None:
    """A signal that is only noted: as if the thread that has to handle it had not quite fallen asleep when it came."""
    signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)


def wait_for_an_answer() -> bool:
    """Whether it was given up before it was there."""
    runner = Runner([f"127.0.0.1:{free_port()}"], raftkv.Limits())
    given_up = threading.Event()

    async def work(_: Engine) -> None:
        await asyncio.sleep(ASLEEP_S)
        signal_that_wakes_nobody()
        try:
            await asyncio.sleep(WAIT_S)
        except asyncio.CancelledError:
            given_up.set()
            raise

    try:
        with pytest.raises(Interrupted):
            runner.run(work)
        return given_up.wait(WAIT_S)
    finally:
        runner.close()


def wait_for_the_end_of_a_lease() -> bool:
    tenure = Tenure(1, round(WAIT_S), sent_at=tenure_clock())
    other = threading.Timer(ASLEEP_S, signal_that_wakes_nobody)
    other.start()
    try:
        with pytest.raises(Interrupted):
            Lost(lambda: tenure).wait()
        return not tenure.is_over
    finally:
        other.join()


@pytest.mark.parametrize("wait_in_vain", [wait_for_an_answer, wait_for_the_end_of_a_lease])
def test_a_signal_that_comes_while_a_thread_falls_asleep_is_heeded(wait_in_vain: Callable[[], bool]) -> None:
    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        assert wait_in_vain()
    finally:
        signal.signal(signal.SIGUSR1, before)


COLLECTING = """
import gc, os, sys, raftkv

class Holder: pass

gc.disable()  # So that it is the collection before the fork which finds it.
for uses in (False, True):
    holder = Holder()
    holder.itself, holder.kv = holder, raftkv.connect(sys.argv[1])
    if uses:
        try:
            holder.kv.get("k", timeout=0.05)
        except raftkv.DeadlineExceeded:
            pass
    del holder
    child = os.fork()
    if not child:
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


def test_a_forgotten_client_may_be_collected_in_the_middle_of_a_fork() -> None:
    """In a process of its own: gRPC objects of other tests would not survive the fork."""
    command = [sys.executable, "-c", COLLECTING, f"127.0.0.1:{free_port()}"]
    done = subprocess.run(command, timeout=20, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_forgotten_client_may_be_collected_on_a_thread_that_a_fork_waits_for() -> None:
    runner = Runner([f"127.0.0.1:{free_port()}"], raftkv.Limits())

    async def collect_at_the_end() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            runner.forget()

    async def prepare(engine: Engine) -> None:
        engine.spawn(collect_at_the_end())

    runner.run(prepare)
    parking = threading.Thread(target=lambda: (runner.park(), runner.resume()), daemon=True)
    parking.start()
    parking.join(10)

    assert not parking.is_alive()
    assert runner.is_closed

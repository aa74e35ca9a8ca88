"""A thread with an event loop for the sync face, and its life: started at first use, stopped at close, parked for a fork.

gRPC does not survive a fork: its threads exist in the parent only, and a channel used in the child hangs. So before a
fork every sync client finishes what is in flight (for at most a second), closes its connections and ends its thread, and
gRPC's threads are waited for; parent and child both start anew when they are next used. This covers `os.fork` and
`multiprocessing`; a process that also holds *async* clients or gRPC channels of its own across a fork is on its own with
those.

What may not live here: what operations mean.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import gc
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import CancelledError
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from raftkv.client.engine import Engine, closed_error
from raftkv.client.errand import Errand
from raftkv.client.limits import Limits
from raftkv.client.operation import Operation, ThreadWaiter
from raftkv.errors import Cancelled, Outcome

if TYPE_CHECKING:
    from raftkv.client.leasing import Resident

T = TypeVar("T")

PARK_S: Final = 1.0
"""How long a fork waits for calls in flight. What is still in flight then ends with an unknown outcome."""

GRPC_END_S: Final = 0.5
"""How long a fork waits for gRPC's own threads, which end some milliseconds after its last object. Those of somebody else's
channels stay."""

GRPC_THREADS: Final = ("grpc_", "event_engine", "lifeguard", "timer_manager", "default-exec", "resolver-exec")
"""How their names begin."""


class Runner:
    """Runs an `Engine` on a thread of its own for any number of calling threads.

    A calling thread costs one append and, unless the loop has been told already, one wake-up of the loop. Threads wait for
    one operation each, so they bound the queue by themselves.
    """

    def __init__(self, addresses: Sequence[str], limits: Limits) -> None:
        self._addresses = addresses
        self._limits = limits
        self._lock = threading.RLock()
        """Around everything below; held throughout a fork. The thread that holds it may collect a forgotten client, which closes."""
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._engine: Engine | None = None
        self._stop: asyncio.Event | None = None
        self._drain_s = 0.0
        self._inbox: deque[Operation[Any]] = deque()
        self._told = False
        self._closed = False
        self._residents: set[Resident] = set()
        """Leases: renewed on the loop there is, and after a fork on the next one of the parent."""
        _runners.add(self)

    def perform(self, operation: Operation[T], timeout: float) -> T:
        """Send an operation and sleep until its result is there; see `Engine.perform`."""
        operation.deadline = time.monotonic() + timeout
        waiter = operation.waiter = ThreadWaiter()
        with self._lock:
            loop = self._running()
            self._inbox.append(operation)
            if not self._told:
                self._told = True
                loop.call_soon_threadsafe(self._submit_all)
        return operation.convert(waiter.wait())

    def run(self, work: Callable[[Engine], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine beside the operations and sleep until it has ended."""
        errand = Errand(work)
        try:
            with self._lock:
                self._running().call_soon_threadsafe(errand.begin, self.usable())
            return errand.wait()
        except CancelledError:  # The loop has ended, and the coroutine did not wait for a call that would have said so.
            raise Cancelled("the client was closed before this was done", outcome=Outcome.NOT_APPLIED) from None
        except BaseException:
            errand.give_up()  # The waiting thread was interrupted: nobody takes what the coroutine would return.
            raise

    def run_if_open(self, work: Callable[[Engine], Coroutine[Any, Any, None]]) -> None:
        """As `run`, where there is a loop; else there is nothing to do."""
        with self._lock:
            if self._thread is None or self._loop is None or self._engine is None:
                return
            errand = Errand(work)
            self._loop.call_soon_threadsafe(errand.begin, self._engine)
        with contextlib.suppress(CancelledError):  # The loop has ended meanwhile.
            errand.wait()

    def run_anew(self, work: Callable[[Engine], Coroutine[Any, Any, T]]) -> T:
        """As `run`; if the loop had to end for a fork meanwhile, from the beginning on the next one."""
        while True:
            began_on: list[Engine] = []

            async def begin(engine: Engine, began_on: list[Engine] = began_on) -> T:
                began_on.append(engine)
                return await work(engine)

            try:
                return self.run(begin)
            except Cancelled:
                if not self.goes_on_after(began_on):
                    raise

    def goes_on_after(self, began_on: Sequence[Engine | None]) -> bool:
        """Whether these have ended for a fork, so that there is, or will be, another one. Waits for a fork that is under way."""
        with self._lock:  # What an engine that closes wakes comes here before that engine is gone.
            return not self._closed and self._engine not in began_on

    def usable(self) -> Engine:
        """What runs now. On the loop."""
        if self._engine is None:
            raise closed_error()
        return self._engine

    def add(self, resident: Resident) -> None:
        """Run it, now and after every fork of this process. On the loop."""
        self._residents.add(resident)
        resident.move_in(self.usable())

    def discard(self, resident: Resident) -> None:
        """Run it no more."""
        self._residents.discard(resident)

    @property
    def is_closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        """Stop the thread. Idempotent."""
        with self._lock:
            self._closed = True
            self._end()
        for resident in list(self._residents):
            resident.leave_behind("the client is closed", is_forked=False)

    def forget(self) -> None:
        """Close it because nobody has it any more: without waiting for whoever holds the lock, who may wait for this thread."""
        self._closed = True
        if self._lock.acquire(blocking=False):
            try:
                self.close()
            finally:
                self._lock.release()
        else:
            threading.Thread(target=self.close, name="raftkv-forgotten", daemon=True).start()

    def park(self) -> None:
        """Before a fork: let calls land and end the thread, and let nobody in until `resume`."""
        self._lock.acquire()
        self._drain_s = PARK_S
        self._end()

    def resume(self) -> None:
        """After a fork, in the parent."""
        self._drain_s = 0.0
        try:
            if self._residents and not self._closed:
                with contextlib.suppress(Cancelled):  # It was forgotten, and collected, in this very moment.
                    self._running()
        finally:
            self._lock.release()

    def reborn(self) -> None:
        """After a fork, in the child: the threads that knew the lock are gone."""
        self._drain_s = 0.0
        self._lock = threading.RLock()
        for resident in self._residents:
            resident.leave_behind("it belongs to the process that this one was forked from", is_forked=True)
        self._residents.clear()

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._closed:
            raise closed_error()
        if self._thread is None:
            started = threading.Lock()  # Taken until there is a loop. Bare: see `errand`.
            started.acquire()
            self._thread = threading.Thread(target=self._main, args=(started,), name="raftkv-client", daemon=True)
            self._thread.start()
            started.acquire()
            if self.is_closed:  # Meanwhile, on this very thread.
                self._end()
                raise closed_error()
        assert self._loop is not None, "the thread has started without a loop"
        return self._loop

    def _end(self) -> None:
        thread, loop, stop = self._thread, self._loop, self._stop
        if thread is None or loop is None or stop is None:
            return
        self._thread = self._loop = self._stop = None  # First: this may be called again while the thread is waited for.
        loop.call_soon_threadsafe(stop.set)
        if thread is not threading.current_thread():  # A client may be collected as garbage on this very thread.
            thread.join()
            self._engine = None
        _note_end()

    def _main(self, started: threading.Lock) -> None:
        with asyncio.Runner() as runner:
            runner.run(self._serve(started))

    async def _serve(self, started: threading.Lock) -> None:
        stop = asyncio.Event()
        engine = Engine(self._addresses, self._limits)
        self._loop, self._engine, self._stop = asyncio.get_running_loop(), engine, stop
        for resident in list(self._residents):
            resident.move_in(engine)
        started.release()
        await stop.wait()
        self._submit_all()
        if self._drain_s:
            await engine.drain(self._drain_s)
        await engine.close()

    def _submit_all(self) -> None:
        """On the loop's thread. Forgets that it was told first, so that nothing appended from now on is overlooked."""
        self._told = False
        engine, inbox = self._engine, self._inbox
        assert engine is not None, "operations came in without an engine"
        while inbox:
            engine.submit(inbox.popleft())


_runners: weakref.WeakSet[Runner] = weakref.WeakSet()
_fork_lock = threading.Lock()
_parked: list[Runner] = []
_has_ended = False
"""A loop has, parked or closed, since the last fork: gRPC's threads may still be there."""


def _note_end() -> None:
    global _has_ended
    _has_ended = True


def _before_fork() -> None:
    global _has_ended
    _fork_lock.acquire()
    _parked[:] = list(_runners)
    for runner in _parked:
        runner.park()
    if _parked or _has_ended:
        gc.collect()  # gRPC stops its own threads when the last of its objects is gone.
    if _has_ended:
        _await_end_of_grpc()
        _has_ended = False


def _await_end_of_grpc() -> None:
    """Until gRPC's own threads are gone: a lock that one of them holds in the moment of the fork stays locked in the child.

    On Linux. Elsewhere nobody says which threads there are.
    """
    deadline = time.monotonic() + GRPC_END_S
    while any(name.startswith(GRPC_THREADS) for name in _thread_names()) and time.monotonic() < deadline:
        time.sleep(0.0002)  # Nothing tells when a thread that is not Python's has ended.


def _thread_names() -> Iterator[str]:
    """All of this process, those that Python does not know of included."""
    for task in Path("/proc/self/task").glob("*"):
        with contextlib.suppress(OSError):  # It has ended meanwhile.
            yield (task / "comm").read_text()


def _after_fork_in_parent() -> None:
    for runner in _parked:
        runner.resume()
    _parked.clear()
    _fork_lock.release()


def _after_fork_in_child() -> None:
    global _fork_lock
    _fork_lock = threading.Lock()
    for runner in _parked:
        runner.reborn()
    _parked.clear()


@atexit.register
def _close_all() -> None:
    for runner in list(_runners):
        runner.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)

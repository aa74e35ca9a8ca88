"""A coroutine that runs on the client's loop for a thread that waits for it.

A wait of the main thread may be interrupted between any two steps: a signal's handler raises there. What waits in a
`threading.Condition`, as a `concurrent.futures.Future` and an `Event` do, then leaves it locked once in a while, and the loop,
which wants to say that all is done, hangs for ever. So here are bare locks, each taken and waited for in one step of C, and no
more than one assignment wherever both threads write.

What may not live here: the loop's life (`runner`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from typing import Any, Generic, TypeVar

from raftkv.client.engine import Engine
from raftkv.client.operation import ThreadWaiter

T = TypeVar("T")


class Errand(Generic[T]):
    """From `begin`, on the loop, to the end of `wait`, in a thread, or to `give_up`."""

    def __init__(self, work: Callable[[Engine], Coroutine[Any, Any, T]]) -> None:
        """`work` makes the coroutine, on the loop: one made by a thread that is interrupted would never be awaited."""
        self._work = work
        self._waiter = ThreadWaiter()
        self._task: asyncio.Task[T] | None = None
        self._is_given_up = False

    def begin(self, engine: Engine) -> None:
        """Run the coroutine, unless nobody waits for it any more. On the loop."""
        self._task = asyncio.get_running_loop().create_task(self._work(engine))
        self._task.add_done_callback(self._tell)
        if self._is_given_up:  # Before `give_up` could see the task.
            self._task.cancel()

    def wait(self) -> T:
        """Sleep until the coroutine has ended; return or raise what it did.

        Raises:
            CancelledError: it was cancelled, as everything on a loop that ends.
        """
        result: T = self._waiter.wait()
        return result

    def give_up(self) -> None:
        """Cancel it if it has not ended: the thread does not wait any more."""
        self._is_given_up = True
        task = self._task
        if task is not None:
            with contextlib.suppress(RuntimeError):  # The loop is closed, and the task has ended with it.
                task.get_loop().call_soon_threadsafe(task.cancel)

    def _tell(self, task: asyncio.Task[T]) -> None:
        self._task = (
            None  # It ends here, on the loop: its end calls weak references back, where what a signal raises is lost.
        )
        if task.cancelled():
            self._waiter.set_exception(CancelledError())
        elif (error := task.exception()) is not None:
            self._waiter.set_exception(error)
        else:
            self._waiter.set_result(task.result())

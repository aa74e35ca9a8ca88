"""An asyncio event loop in virtual time, and processes on it that can be stopped, held up and killed like real ones.

Every callback carries a context, and what a callback starts inherits it: so every timer, task and callback of a node belongs to
its process, however deep in the product it was made. Killing a process is then one flag; pausing it, another.

What may not live here: nodes, faults.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.sim.world import World

PROCESS: contextvars.ContextVar[Process] = contextvars.ContextVar("PROCESS")
TASKS_PRUNED_AT = 64


class Handle:
    """What asyncio asks of the handle of a callback, and no more."""

    __slots__ = ("_when", "arguments", "callback", "context", "is_cancelled")

    def __init__(
        self, when: float, callback: Callable[..., Any], arguments: tuple[Any, ...], context: contextvars.Context
    ) -> None:
        self._when = when
        self.callback: Callable[..., Any] | None = callback
        self.arguments = arguments
        self.context = context
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True
        self.callback, self.arguments = None, ()

    def cancelled(self) -> bool:
        return self.is_cancelled

    def when(self) -> float:
        return self._when


class Process:
    """One life of a program. `after_step` is called after each of its callbacks."""

    def __init__(self, after_step: Callable[[], None]) -> None:
        self.is_alive = True
        self.is_paused = False
        self.after_step = after_step
        self.postponed: list[Handle] = []
        self.context = contextvars.copy_context()
        self.context.run(PROCESS.set, self)
        self._tasks: list[asyncio.Task[Any]] = []
        self._jobs: list[Handle] = []

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """As if this process had called it."""
        if PROCESS.get(None) is self:
            return function(*arguments)
        return self.context.copy().run(function, *arguments)

    def add_task(self, task: asyncio.Task[Any]) -> None:
        if len(self._tasks) >= TASKS_PRUNED_AT:
            self._tasks = [task for task in self._tasks if not task.done()]
        self._tasks.append(task)

    def add_job(self, job: Handle) -> None:
        self._jobs.append(job)

    def kill(self) -> None:
        """What it held is let go of: a view of the state would keep that open. See `VirtualLoop.kill`."""
        self.is_alive = False
        for job in self._jobs:
            job.cancel()
        for task in self._tasks:
            if not task.done():
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                task.get_coro().close()  # type: ignore[union-attr]
        for handle in self.postponed:
            handle.cancel()
        self._tasks, self._jobs, self.postponed = [], [], []


class VirtualLoop(asyncio.AbstractEventLoop):
    """Callbacks at their virtual times, in the order of scheduling where those are equal. Work for other threads is done on
    it too, a little later.
    """

    def __init__(self, world: World, job_delay: Callable[[], int]) -> None:
        self._world = world
        self._job_delay = job_delay
        self.complaints: list[dict[str, Any]] = []
        self._world_itself = Process(lambda: None)

    @contextmanager
    def running(self) -> Iterator[None]:
        """This is the running loop until the block ends."""
        asyncio._set_running_loop(self)
        try:
            yield
        finally:
            asyncio._set_running_loop(None)

    def time(self) -> float:
        return self._world.now / 1e6

    def call_soon(self, callback: Any, *args: Any, context: contextvars.Context | None = None) -> Any:
        handle = Handle(0.0, callback, args, context or contextvars.copy_context())
        self._world.after(0, self._run, handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_at(self, when: float, callback: Any, *args: Any, context: contextvars.Context | None = None) -> Any:
        handle = Handle(when, callback, args, context or contextvars.copy_context())
        self._world.after(max(0, round(when * 1e6) - self._world.now), self._run, handle)
        return handle

    def call_later(self, delay: float, callback: Any, *args: Any, context: contextvars.Context | None = None) -> Any:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def _run(self, handle: Handle) -> None:
        if handle.is_cancelled:
            return
        process = handle.context.get(PROCESS)
        if process is None:
            handle.context.run(handle.callback, *handle.arguments)  # type: ignore[arg-type]
        elif process.is_paused:
            process.postponed.append(handle)
        elif process.is_alive:
            handle.context.run(handle.callback, *handle.arguments)  # type: ignore[arg-type]
            process.after_step()

    def kill(self, process: Process) -> None:
        """Nothing of it runs any more, and nothing is held by what it had in mind."""
        for arguments in self._world.pending():
            if arguments and isinstance(arguments[0], Handle) and arguments[0].context.get(PROCESS) is process:
                arguments[0].cancel()
        process.kill()

    def resume(self, process: Process) -> None:
        """What was to happen while it stood still happens now."""
        process.is_paused = False
        postponed, process.postponed = process.postponed, []
        for handle in postponed:
            self._world.after(0, self._run, handle)

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self, coro: Any, *, name: str | None = None, context: contextvars.Context | None = None
    ) -> asyncio.Task[Any]:
        task = asyncio.Task(coro, loop=self, name=name, context=context)
        process = PROCESS.get(None) if context is None else context.get(PROCESS)
        (process or self._world_itself).add_task(task)
        return task

    def end(self) -> None:
        """Nobody waits for anything any more."""
        self._world_itself.kill()

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """The job is done at once, later."""
        future = self.create_future()
        handle = self.call_at(self.time() + self._job_delay() / 1e6, self._do, future, func, args)
        process = PROCESS.get(None)
        if process is not None:
            process.add_job(handle)
        return future

    @staticmethod
    def _do(future: asyncio.Future[Any], func: Callable[..., Any], args: tuple[Any, ...]) -> None:
        if future.cancelled():
            return
        try:
            result = func(*args)
        except Exception as error:
            future.set_exception(error)
        else:
            future.set_result(result)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """What asyncio would write to a log: an exception that nobody looked at."""
        self.complaints.append(context)

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

"""The one implementation behind both faces: a queue, a few calls in flight, deadlines, sending again.

    submit ─► queue ─► flight: a batch (up to operations_max, bytes_max), or one unary RPC ─► settle each operation
                ▲                                                        │
                └──── may be sent again (`Operation.is_repeatable`) ◄────┘  what else failed raises, with its outcome

Whatever has queued while the flights under way took goes as one; a lone caller's operation goes at once. Operations of
one caller that waits for each answer are applied in its order; operations that are in flight together are concurrent,
whoever sent them.

There is no task and no timer per operation: a flight has one task, and one timer serves the earliest of all deadlines.
Everything here runs on one event loop's thread.

What may not live here: the meaning of arguments and results (see `calls.py`), threads (see `runner.py`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Sequence
from typing import Any, Final, TypeVar

from raftkv.client.connection import Connection
from raftkv.client.flight import Flight
from raftkv.client.limits import Limits
from raftkv.client.operation import OPEN_SESSION, Operation, batch_request
from raftkv.client.outcomes import CallFailed, Failure, failure_in_answer
from raftkv.client.pool import Pool
from raftkv.client.queue import NEVER, Queue
from raftkv.client.session import Session
from raftkv.client.watch_pool import WatchPool
from raftkv.errors import (
    BATCH_ANSWERS_TOO_LARGE,
    SESSION_EXPIRED,
    Cancelled,
    Code,
    DeadlineExceeded,
    Outcome,
    Unavailable,
)
from raftkv.pb import store_pb2

T = TypeVar("T")

_RETRY_FIRST_S: Final = 0.02
_RETRY_MAX_S: Final = 0.25
_TIMER_GRAIN_S: Final = 0.001
_SESSION_OPEN_S: Final = 5.0
"""An attempt to open a session may take so long; another one follows."""


class Engine:
    """Sends the operations of one client. Belongs to the event loop on which it was made."""

    def __init__(self, addresses: Sequence[str], limits: Limits) -> None:
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._pool = Pool(addresses, connect_timeout_s=limits.connect_timeout_s)
        self._queue = Queue(operations_max=limits.queue_operations_max, bytes_max=limits.queue_bytes_max)
        self._watch_pool: WatchPool | None = None
        self._session: Session | None = None
        self._is_opening_session = False
        self._flights: dict[asyncio.Task[None], Flight] = {}
        self._others: set[asyncio.Task[Any]] = set()
        self._beside: set[asyncio.Task[None]] = set()
        self._connecting: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = NEVER
        self._flush_due = False
        self._failures = 0  # In a row, over all endpoints.
        self._resume_at = 0.0
        self._trouble = ""  # Why nothing could be sent lately, for the text of a DeadlineExceeded.
        self._closed = False

    @property
    def queued(self) -> int:
        """Operations that wait to be sent."""
        return len(self._queue)

    @property
    def is_closed(self) -> bool:
        return self._closed

    # What callers do.

    async def perform(self, operation: Operation[T], timeout: float) -> T:
        """Send an operation and wait for its result.

        Args:
            operation: not submitted before.
            timeout: seconds, including the wait for room in the queue.

        Raises:
            RequestError: with its outcome.
        """
        operation.deadline = time.monotonic() + timeout
        if self._queue.must_wait:
            try:
                await self._queue.room(timeout)
            except TimeoutError:
                raise _too_late("there was no room in the client's queue") from None
        waiter = operation.waiter = self._loop.create_future()
        self.submit(operation)
        return operation.convert(await waiter)

    def submit(self, operation: Operation[Any]) -> None:
        """Queue an operation whose `deadline` and `waiter` are set."""
        if self._closed:
            operation.fail(closed_error())
            return
        self._queue.append(operation)
        if operation.deadline < self._timer_at:
            self._arm(operation.deadline)
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    async def ask(self, operation: Operation[T], address: str, timeout: float) -> T:
        """Send it to one endpoint and to no other, once."""
        if self._closed:
            raise closed_error()
        asking = self._loop.create_task(self._ask(operation, address, timeout))
        self._others.add(asking)
        try:
            return await asking
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if caller is None or caller.cancelling():
                raise
            # Not the caller was cancelled: `close` was called meanwhile.
            raise closed_error(operation.outcome_unsent) from None
        finally:
            self._others.discard(asking)

    async def _ask(self, operation: Operation[T], address: str, timeout: float) -> T:
        connection = self._pool.open(address)
        connection.unary_flights += 1
        connection.retired = True  # For this one call.
        is_sent = False
        try:
            async with asyncio.timeout(timeout):
                if not await connection.connect():
                    raise Unavailable(f"cannot connect to {address}", outcome=Outcome.NOT_APPLIED)
                is_sent = True
                return operation.convert(await connection.call_unary(operation.kind, operation.request, timeout))
        except (TimeoutError, asyncio.CancelledError) as end:
            operation.in_doubt = is_sent and not operation.kind.reads
            if isinstance(end, asyncio.CancelledError):
                raise
            raise _too_late(f"no answer from {address}", operation.outcome_unsent) from None
        except CallFailed as failed:
            raise failed.failure.error(operation) from failed
        finally:
            connection.unary_flights -= 1
            self._pool.landed(connection)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something beside the operations, until it ends or the engine is closed."""
        if self._closed:
            work.close()
            raise closed_error()
        task = self._own(work)
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)
        return task

    def watch_pool(self) -> WatchPool:
        """The connection of the client's watches, made when it is first wanted."""
        if self._closed:
            raise closed_error()
        if self._watch_pool is None:
            self._watch_pool = WatchPool(self._pool.addresses, connect_timeout_s=self._limits.connect_timeout_s)
        return self._watch_pool

    async def drain(self, timeout: float) -> None:
        """Wait until nothing is queued or in flight, but no longer than `timeout` seconds."""
        end = time.monotonic() + timeout
        while (self._queue or self._flights or self._others) and time.monotonic() < end:
            tasks = {*self._flights, *self._others, *([self._connecting] if self._connecting else [])}
            if tasks:
                await asyncio.wait(tasks, timeout=end - time.monotonic(), return_when=asyncio.FIRST_COMPLETED)
            else:
                await asyncio.sleep(_RETRY_FIRST_S)  # Between two attempts.

    async def close(self) -> None:
        """Stop. What is queued was not applied; of what is in flight nobody knows. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._disarm()
        for operation in self._queue.clear():
            operation.fail(closed_error(operation.outcome_unsent))
        for flight in self._flights.values():
            for operation in flight.operations:
                outcome = Outcome.NOT_APPLIED if operation.kind.reads else Outcome.UNKNOWN
                operation.fail(Cancelled("the client was closed before the answer came", outcome=outcome))
        tasks = [*self._flights, *self._others, *self._beside, *([self._connecting] if self._connecting else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._watch_pool is not None:
            await self._watch_pool.close()
        await self._pool.close()

    # Queue to flights.

    def _flush(self) -> None:
        """Send what is queued, as far as calls may be in flight."""
        self._flush_due = False
        limits, queue, pool = self._limits, self._queue, self._pool
        while not self._closed:
            head = queue.first()
            if head is None:
                break
            connection = pool.current
            if connection is None or not connection.is_ready:
                self._reconnect(connection)
                break
            if head.in_doubt and connection.batches is False:
                queue.pop().fail(Unavailable(f"{connection.address} knows no sessions", outcome=Outcome.UNKNOWN))
            elif head.alone or connection.batches is False:
                if connection.unary_flights >= limits.unary_flights_max:
                    break
                connection.unary_flights += 1
                self._start(Flight(connection, [queue.pop()], batched=False))
            else:
                # The first one finds out whether the server knows batches.
                if connection.batch_flights >= (limits.flights_max if connection.batches else 1):
                    break
                session = self._session_for(connection)
                is_without = session is None and connection.sessions is not False
                if is_without and not head.is_repeatable:
                    if self._is_opening_session or self._session is not None:
                        break  # It is on its way, or has no room: what lands makes some.
                    self._open_session()
                    continue
                operations = queue.take(
                    operations_max=limits.operations_max, bytes_max=limits.bytes_max, repeatable_only=is_without
                )
                if session is not None:
                    session.number_all(operations)
                connection.batch_flights += 1
                self._start(Flight(connection, operations, batched=True))
        queue.let_in()

    def _session_for(self, connection: Connection) -> Session | None:
        """The session in which writes are numbered now. None: there is none yet, it has no room, or the server has none."""
        session = self._session
        if session is not None and not session.is_fresh:
            session = self._session = None
        return session if session is not None and session.has_room and connection.sessions is not False else None

    def _open_session(self) -> None:
        """Have a session opened, before everything else."""
        operation: Operation[store_pb2.OpenSessionResponse] = Operation(OPEN_SESSION, b"", lambda response: response)
        operation.deadline = time.monotonic() + _SESSION_OPEN_S
        opening = operation.waiter = self._loop.create_future()
        opening.add_done_callback(self._session_opened)
        self._is_opening_session = True
        self._queue.put_back([operation])
        self._arm(operation.deadline)

    def _session_opened(self, opening: asyncio.Future[store_pb2.OpenSessionResponse]) -> None:
        """Or not: then the next write asks again, unless the server has said that it has no sessions."""
        self._is_opening_session = False
        if opening.exception() is None:
            response = opening.result()
            self._session = Session(response.session, response.ttl_ms / 1000)
        self._flush_soon()

    def _flush_soon(self) -> None:
        if not self._flush_due and not self._closed:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _start(self, flight: Flight) -> None:
        task = self._own(self._fly(flight))
        self._flights[task] = flight
        if len(self._pool.addresses) > 1:
            self._arm(flight.started + self._limits.stall_s)

    async def _fly(self, flight: Flight) -> None:
        connection, operations = flight.connection, flight.operations
        timeout = max(flight.latest - flight.started, _TIMER_GRAIN_S)
        try:
            if flight.batched:
                self._batch_landed(flight, await connection.call_batch(batch_request(operations), timeout))
            else:
                response = await connection.call_unary(operations[0].kind, operations[0].request, timeout)
                operations[0].settle(response)
                self._failures = 0
            connection.answered_at = time.monotonic()
        except CallFailed as failed:
            self._call_failed(flight, failed.failure)
        except Exception as bug:
            for operation in operations:
                operation.fail(bug)
            raise
        finally:
            if flight.batched:
                connection.batch_flights -= 1
            else:
                connection.unary_flights -= 1
            task = asyncio.current_task()
            assert task is not None, "a flight runs in its task"
            self._flights.pop(task, None)
            if not self._closed:
                self._pool.landed(connection)
                self._flush_soon()

    def _own(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task whose failure, which can only be our bug, is reported and not swallowed."""
        task = self._loop.create_task(work)
        task.add_done_callback(self._report)
        return task

    def _report(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (bug := task.exception()) is not None:
            self._loop.call_exception_handler({"message": "raftkv client failed", "exception": bug, "task": task})

    # Answers and failures.

    def _batch_landed(self, flight: Flight, response: store_pb2.BatchResponse) -> None:
        flight.connection.batches = True
        operations, answers = flight.operations, response.answers
        if len(answers) != len(operations):
            message = f"{flight.connection.address} gave {len(answers)} answers to {len(operations)} operations"
            self._call_failed(flight, Failure(Code.INTERNAL, message, Outcome.UNKNOWN))
            return
        session = next((operation.session for operation in operations if operation.session is not None), None)
        if session is not None:
            session.used()
        again: list[Operation[Any]] = []
        too_large: list[Operation[Any]] = []
        for operation, answer in zip(operations, answers, strict=True):
            result = answer.WhichOneof("result")
            if result == operation.kind.name:
                operation.settle(getattr(answer, result))
            elif not operation.waiter.done():
                failure = self._failure_in(answer, result)
                if failure.message == BATCH_ANSWERS_TOO_LARGE and not flight.has_moved(operation):
                    operation.alone = True  # There was no room beside the others: by itself it may have any length.
                    too_large.append(operation)
                    continue
                if self._is_to_go_again(flight, operation, failure):
                    again.append(operation)
                self._trouble = f"{flight.connection.address}: {failure.message}"
        self._queue.put_back(too_large)
        if again:
            self._leave(flight.connection)
            self._queue.put_back(again)
        else:
            self._failures = 0

    def _failure_in(self, answer: store_pb2.Answer, result: str | None) -> Failure:
        if result != "failure":
            return Failure(Code.INTERNAL, f"the answer is a {result}, of another operation", Outcome.UNKNOWN)
        return failure_in_answer(answer.failure)

    def _call_failed(self, flight: Flight, failure: Failure) -> None:
        """Nothing in the flight was answered."""
        connection = flight.connection
        pending = [operation for operation in flight.operations if not operation.waiter.done()]
        if flight.batched and failure.code is Code.UNIMPLEMENTED:
            connection.batches = False
            self._queue.put_back([operation for operation in pending if not flight.has_moved(operation)])
            return
        is_of_a_session = flight.operations[0].kind is OPEN_SESSION
        if is_of_a_session and not failure.is_silence:
            connection.sessions = False
        self._trouble = f"{connection.address}: {failure.message}"
        again = [operation for operation in pending if self._is_to_go_again(flight, operation, failure)]
        if failure.code is Code.UNAVAILABLE or (is_of_a_session and failure.is_silence):
            self._leave(connection)
        self._queue.put_back(again)

    def _is_to_go_again(self, flight: Flight, operation: Operation[Any], failure: Failure) -> bool:
        """Whether an operation without an answer is to be sent again. If not, its caller is told, or another flight has it."""
        if flight.has_moved(operation):
            return False
        if failure.message == SESSION_EXPIRED:
            if self._session is operation.session:
                self._session = None
            if not operation.in_doubt:
                operation.session = None  # Surely not applied: it gets a number in the next session.
                return True
        if failure.outcome is Outcome.UNKNOWN and not operation.kind.reads:
            operation.in_doubt = True
        if failure.may_resend(operation):
            return True
        operation.fail(failure.error(operation))
        return False

    def _leave(self, connection: Connection) -> None:
        """Go to the next endpoint: at once, but only once round before taking breath."""
        if connection is self._pool.current:
            self._failed(1)
        self._pool.drop(connection)

    def _failed(self, attempts: int) -> None:
        self._failures += attempts
        rounds = self._failures // len(self._pool.addresses)
        if rounds:
            self._resume_at = time.monotonic() + min(_RETRY_FIRST_S * 2 ** min(rounds - 1, 8), _RETRY_MAX_S)

    def _reconnect(self, lost: Connection | None) -> None:
        if lost is not None:
            self._pool.drop(lost)
        if self._connecting is not None:
            return
        if self._resume_at > time.monotonic():
            self._arm(self._resume_at)
        else:
            self._connecting = self._own(self._connect())

    async def _connect(self) -> None:
        try:
            connection = await self._pool.connect()
        finally:
            self._connecting = None
        if connection is None:
            self._trouble = f"cannot connect to {', '.join(self._pool.addresses)}"
            self._failed(len(self._pool.addresses))
        self._flush_soon()

    # Time.

    def _arm(self, at: float) -> None:
        if at < self._timer_at:
            self._disarm()
            self._timer_at = at
            self._timer = self._loop.call_later(max(at - time.monotonic(), _TIMER_GRAIN_S), self._on_time)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        self._timer_at = NEVER

    def _on_time(self) -> None:
        self._timer = None
        self._timer_at = NEVER
        now = time.monotonic()
        for operation in self._queue.expired(now):
            what = "it was sent and had no answer" if operation.in_doubt else "it was never sent"
            why = self._trouble or "calls before it had no answer yet"
            operation.fail(_too_late(f"{what} ({why})", operation.outcome_unsent))
        next_at = min(self._queue.earliest, self._resume_at if self._queue and self._resume_at > now else NEVER)
        for flight in list(self._flights.values()):
            if flight.earliest <= now:
                self._expire(flight, now)
            self._leave_if_stalled(flight, now)
            next_at = min(next_at, flight.earliest, self._stall_check_at(flight))
        if next_at < NEVER:
            self._arm(next_at)
        self._flush_soon()

    def _expire(self, flight: Flight, now: float) -> None:
        flight.earliest = NEVER
        for operation in flight.operations:
            if operation.waiter.done():
                continue
            if operation.deadline <= now:
                outcome = Outcome.NOT_APPLIED if operation.kind.reads else Outcome.UNKNOWN
                operation.fail(_too_late(f"no answer from {flight.connection.address}", outcome))
            else:
                flight.earliest = min(flight.earliest, operation.deadline)

    def _stall_check_at(self, flight: Flight) -> float:
        if flight.connection.retired or len(self._pool.addresses) == 1:
            return NEVER
        return flight.stalls_at(self._limits.stall_s)

    def _leave_if_stalled(self, stalled: Flight, now: float) -> None:
        """Silence for too long: new operations go elsewhere, and so does what waits here and may be sent twice."""
        if self._stall_check_at(stalled) > now:
            return
        self._trouble = f"{stalled.connection.address} accepts calls and does not answer"
        self._leave(stalled.connection)
        if self._watch_pool is not None:
            self._watch_pool.suspect(stalled.connection.address)
        for flight in self._flights.values():
            if flight.connection is stalled.connection and not flight.moved:
                moving = [o for o in flight.operations if o.is_repeatable and not o.waiter.done()]
                for operation in moving:
                    operation.in_doubt |= not operation.kind.reads
                flight.moved = True
                self._queue.put_back(moving)


def closed_error(outcome: Outcome = Outcome.NOT_APPLIED) -> Cancelled:
    """For operations that come after `close`, or wait to be sent then."""
    return Cancelled("the client is closed", outcome=outcome)


def _too_late(why: str, outcome: Outcome = Outcome.NOT_APPLIED) -> DeadlineExceeded:
    return DeadlineExceeded(f"the deadline passed: {why}", outcome=outcome)

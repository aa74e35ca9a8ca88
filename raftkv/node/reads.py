"""Linearizable reads on their way: gathered, confirmed by one heartbeat round, answered once the log is applied so far.

    read ──► waiting ──► asked (one context for all that waited) ──► confirmed at an index ──► state machine ──► answer

A read that came while a round is under way waits for the next one: the round must begin after the read did (Raft
dissertation §6.4).

What may not live here: Raft, the state machine, clocks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError, EncodeError

from raftkv.errors import Outcome, RequestError, ResourceExhausted, Unavailable
from raftkv.statemachine import StateMachine

ROUNDS_IN_FLIGHT_MAX = 2
"""One round on its way and one behind it; further reads share the next."""
LARGER_THAN_A_MESSAGE = "raftkv: the answer is larger than 2 GiB; ask for less at a time"
READS_PER_JOB_MAX = 256
"""Reads done in one go on the state machine's thread, before applies get their turn."""


@dataclass(slots=True, eq=False)
class Read:
    job: Callable[[StateMachine], Any]
    future: asyncio.Future[Any]


class Reads:
    """The linearizable reads of one process."""

    def __init__(self, *, first_context: int) -> None:
        self._waiting: list[Read] = []
        self._asked: dict[int, list[Read]] = {}
        self._confirmed: list[tuple[int, list[Read]]] = []
        self._running: dict[Read, None] = {}
        self._next_context = first_context

    @property
    def is_idle(self) -> bool:
        return not (self._waiting or self._asked or self._confirmed or self._running)

    def add(self, read: Read) -> None:
        self._waiting.append(read)

    def next_round(self) -> int | None:
        """A context to ask Raft about on behalf of everything that waits; None when nothing may be asked now."""
        self._waiting = [read for read in self._waiting if not read.future.done()]
        if not self._waiting or len(self._asked) >= ROUNDS_IN_FLIGHT_MAX:
            return None
        context = self._next_context
        self._next_context += 1
        self._asked[context] = self._waiting
        self._waiting = []
        return context

    def answered(self, context: int, index: int | None) -> None:
        """Raft's answer to a context: an index, or None when it could not be confirmed (then it is asked again)."""
        reads = self._asked.pop(context, None)
        if reads is None:
            return
        if index is None:
            self._waiting = reads + self._waiting
        else:
            self._confirmed.append((index, reads))

    def ask_again(self) -> None:
        """What was asked may be lost (a new leader, a broken stream): ask anew under new contexts."""
        for reads in self._asked.values():
            self._waiting.extend(reads)
        self._asked.clear()

    def take_ready(self, applied_index: int) -> list[Read]:
        """Confirmed reads that a state machine at `applied_index` may answer."""
        if not self._confirmed:
            return []
        ready = [read for index, reads in self._confirmed if index <= applied_index for read in reads]
        self._confirmed = [(index, reads) for index, reads in self._confirmed if index > applied_index]
        return ready

    def begin(self, reads: list[Read]) -> None:
        """These go to the state machine's thread; `finish` follows unless the node stops first."""
        self._running.update(dict.fromkeys(reads))

    def finish(self, reads: list[Read], results: Any) -> None:
        for read in reads:
            self._running.pop(read, None)
        deliver(reads, results)

    def fail_unconfirmed(self, message: str) -> None:
        """Nobody will confirm what waits; what is confirmed goes on."""
        for read in (read for group in (self._waiting, *self._asked.values()) for read in group):
            if not read.future.done():
                read.future.set_exception(Unavailable(message, outcome=Outcome.NOT_APPLIED))
        self._waiting, self._asked = [], {}

    def fail_all(self, message: str) -> None:
        groups = [self._waiting, *self._asked.values(), *(reads for _, reads in self._confirmed), self._running]
        for read in (read for group in groups for read in group):
            if not read.future.done():
                read.future.set_exception(Unavailable(message, outcome=Outcome.NOT_APPLIED))
        self._waiting, self._asked, self._confirmed, self._running = [], {}, [], {}


def run_jobs(machine: StateMachine, reads: list[Read]) -> list[Any]:
    """On the state machine's thread: each read's result, or the RequestError it raised."""
    results: list[Any] = []
    for read in reads:
        try:
            results.append(read.job(machine))
        except RequestError as error:
            results.append(error)
        except (DecodeError, EncodeError):  # Protobuf's word for a message of which a part is larger than it can be.
            results.append(ResourceExhausted(LARGER_THAN_A_MESSAGE, outcome=Outcome.NOT_APPLIED))
    return results


def deliver(reads: list[Read], results: Any) -> None:
    """On the loop: hand the results to whoever still waits."""
    for read, result in zip(reads, results, strict=True):
        if read.future.done():
            continue
        if isinstance(result, RequestError):
            read.future.set_exception(result)
        else:
            read.future.set_result(result)

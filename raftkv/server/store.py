"""raftkv's own service: many callers' operations in one batch, answered together; and sessions.

The writes of a batch enter the log as they came; the reads share one ReadIndex round, and room for their answers. Operations of
one batch are concurrent with each other, as those of different callers are: a caller that wants order waits for the first answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from functools import partial
from typing import Any

from raftkv import wire
from raftkv.errors import STOPPED, InvalidArgument, Outcome, RequestError, Unavailable
from raftkv.mvcc.allowance import Allowance
from raftkv.node import Node
from raftkv.node.proposals import BATCH_COMMANDS_MAX
from raftkv.pb import rpc_pb2, store_pb2
from raftkv.server.limits import Limits
from raftkv.server.ranges import RangeReading
from raftkv.server.services import Serve, answered, header, parsed
from raftkv.statemachine import StateMachine

TOO_MANY_COMMANDS = f"raftkv: too many commands in one batch: more than {BATCH_COMMANDS_MAX}"
ANSWERS_BYTES_MAX = 64 * 1024 * 1024
"""Of what the ranges of one batch answer, together. A few bytes ask for a megabyte, and a batch may ask for it thousands of times."""
JOB_GETS_MAX = 256
"""Reads done in one go on the state machine's thread, before others get their turn. A range counts for many."""
JOB_GETS_PER_RANGE = 64
JOB_BYTES = 1024 * 1024
QUIET_S = 0.05
SEND_AWAY_MAX_S = 0.4


class StoreService:
    """What a batch is, and OpenSession. The stream that batches come on is `batch_stream.py`'s."""

    def __init__(self, node: Node, limits: Limits) -> None:
        self._node = node
        self._limits = limits
        self._sends_away = False
        self._asked_at = 0.0

    def methods(self) -> dict[str, Serve]:
        return {"/raftkv.store.Store/OpenSession": self.open_session}

    async def send_away(self) -> None:
        """Refuse all batches from now on, so that clients go to another node, and return when no more of them come.

        gRPC breaks what is on its way to a server which closes, and callers cannot know what became of it. A batch that is
        refused by us is known not to have been carried out: raftkv's client sends it elsewhere.
        """
        self._sends_away = True
        loop = asyncio.get_running_loop()
        began = self._asked_at = loop.time()
        while (left_s := min(self._asked_at + QUIET_S, began + SEND_AWAY_MAX_S) - loop.time()) > 0:  # noqa: ASYNC110 - time must pass
            await asyncio.sleep(left_s)

    async def batch(self, raw: bytes, hold_s: float) -> store_pb2.BatchResponse:
        """Carry out a batch, its operations each for itself.

        Raises:
            InvalidArgument: it has more than BATCH_COMMANDS_MAX commands; none was carried out. They would be one entry of the
                log, which every node applies in one go, deaf to everybody else.
        """
        if self._sends_away:
            self._asked_at = asyncio.get_running_loop().time()
            raise Unavailable(STOPPED, outcome=Outcome.NOT_APPLIED)
        request = _parse(raw)
        answers: list[Any] = [None] * len(request.commands)
        writes: list[int] = []
        reads: list[int] = []
        local_reads: list[int] = []
        for position, command in enumerate(request.commands):
            try:
                self._limits.check(command, self._node)
            except RequestError as error:
                answers[position] = error
                continue
            if command.HasField("range"):
                (local_reads if command.range.serializable else reads).append(position)
            else:
                writes.append(position)
        deadline = asyncio.get_running_loop().time() + hold_s
        room = Allowance(ANSWERS_BYTES_MAX)
        work: list[Coroutine[Any, Any, None]] = []
        if writes:
            work.append(self._write(request, writes, answers, hold_s))
        if reads:
            work.append(self._read(request, reads, answers, deadline, room, self._node.read))
        if local_reads:
            work.append(self._read(request, local_reads, answers, deadline, room, self._node.read_local))
        if len(work) == 1:
            await work[0]  # As a rule: without a task of its own.
        else:
            await asyncio.gather(*work)
        return _respond(self._node, request, answers)

    async def open_session(self, request: store_pb2.OpenSessionRequest, hold_s: float) -> Any:
        """A session, in which each write takes effect once however often it is sent."""
        if self._sends_away:
            raise Unavailable(STOPPED, outcome=Outcome.NOT_APPLIED)
        command = store_pb2.Command(open_session=request)
        commands = store_pb2.BatchRequest(commands=(command,)).SerializeToString()
        (answer,) = await self._node.submit(commands, 1, timeout_s=hold_s)
        return answered(self._node, answer)

    async def _write(
        self, request: store_pb2.BatchRequest, positions: list[int], answers: list[Any], hold_s: float
    ) -> None:
        if len(positions) == len(request.commands):
            batch = request
        else:
            batch = store_pb2.BatchRequest(commands=[request.commands[position] for position in positions])
        try:
            results = await self._node.submit(batch.SerializeToString(), len(positions), timeout_s=hold_s)
        except RequestError as error:
            results = [error] * len(positions)
        for position, result in zip(positions, results, strict=True):
            answers[position] = result

    async def _read(
        self,
        request: store_pb2.BatchRequest,
        positions: list[int],
        answers: list[Any],
        deadline: float,
        room: Allowance,
        read: Any,
    ) -> None:
        """Answer the ranges in their order, some at a time, each to its end before the next are begun.

        Only the first go by `read`: what was confirmed for them holds for the others, as the state has only moved on since.
        """
        loop = asyncio.get_running_loop()
        while positions:
            ranges = [request.commands[position].range for position in positions[:JOB_GETS_MAX]]
            try:
                job = partial(_ranges, requests=ranges, room=room)
                readings = await read(job, timeout_s=max(0.0, deadline - loop.time()))
            except RequestError as error:
                readings = [error] * len(positions)
            for position, reading in zip(positions, readings, strict=False):
                answers[position] = await self._finish(reading, max(0.0, deadline - loop.time()))
            positions = positions[len(readings) :]
            read = self._node.read_local

    async def _finish(self, reading: RangeReading | RequestError, hold_s: float) -> bytes | RequestError:
        if isinstance(reading, RequestError):
            return reading
        try:
            return await reading.finish(self._node, hold_s)
        except RequestError as error:
            return error


def _parse(raw: bytes) -> store_pb2.BatchRequest:
    # The bytes end up beside the proposal's own fields: a field that BatchRequest does not have must not become one of them.
    return parsed(_not_too_many, raw)


def _not_too_many(raw: bytes) -> store_pb2.BatchRequest:
    """Counted before anything else is done with the commands: two bytes are one."""
    request = store_pb2.BatchRequest.FromString(raw)
    if len(request.commands) > BATCH_COMMANDS_MAX:
        raise InvalidArgument(TOO_MANY_COMMANDS)
    return request


def _ranges(machine: StateMachine, requests: list[rpc_pb2.RangeRequest], room: Allowance) -> list[Any]:
    """On the state machine's thread: the first of the ranges, each as far as it was read in one go, or RequestError.

    How many they are follows from what they cost; at least one.
    """
    results: list[Any] = []
    gets = size = 0
    for request in requests:
        if gets >= JOB_GETS_MAX or size >= JOB_BYTES:
            break
        gets += JOB_GETS_PER_RANGE if request.range_end else 1
        try:
            reading = RangeReading(machine, request, room)
            size += reading.size
            results.append(reading)
        except RequestError as error:
            results.append(error)
    return results


def _respond(node: Node, request: store_pb2.BatchRequest, answers: list[Any]) -> store_pb2.BatchResponse:
    """The response to a batch. Each answer's own header carries its revision alone; the rest stands once, on top."""
    response = store_pb2.BatchResponse(header=header(node, 0))
    add = response.answers.add
    for command, answer in zip(request.commands, answers, strict=True):
        slot = add()
        if isinstance(answer, rpc_pb2.PutResponse):  # As nearly every answer is; by its name it costs twice as much.
            slot.put.CopyFrom(answer)
        elif isinstance(answer, RequestError):
            slot.failure.CopyFrom(wire.encode_error(answer))
        elif isinstance(answer, bytes):
            slot.range.MergeFromString(answer)
        else:
            getattr(slot, command.WhichOneof("operation")).MergeFrom(answer)
    return response

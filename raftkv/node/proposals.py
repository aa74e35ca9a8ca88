"""Commands of this node's clients on their way into the log, each taking effect at most once.

    submit ──► queue ──► batch (origin, incarnation, sequence) ──► Raft ──► applied ──► answers
                             ▲                                      │
                             └── proposed again: new leader, rejected, or lost on the way

A batch may be proposed any number of times, because the state machine applies a (origin, incarnation, sequence) once. So a
request is *held* through an election instead of being failed: its batch is simply proposed to the next leader.

Nothing waits for a batch to fill: whatever has queued while earlier batches, two as a rule, were under way goes as one.

What may not live here: Raft, sockets, clocks.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from raftkv.errors import LEADER_CHANGED, TOO_MANY_REQUESTS, Outcome, ResourceExhausted, Unavailable
from raftkv.pb import store_pb2
from raftkv.raft.types import NodeId, Proposal

BATCH_BYTES_MAX = 1024 * 1024
BATCH_COMMANDS_MAX = 4096
BATCHES_IN_FLIGHT_MAX = 8
"""Enough to keep the pipeline to the quorum full."""
BATCHES_AT_ONCE = 2
"""Beyond so many a batch that is not full goes at most once a tick: on a fast network what has queued meanwhile goes as one, and costs
every node as one (a sixth more unary puts than with eight); on a slow one nobody waits for the answers of others for long."""
QUEUE_BYTES_MAX = 64 * 1024 * 1024
"""Beyond this a client is refused (ResourceExhausted): the memory is the node's, not the clients'."""


@dataclass(slots=True, eq=False)
class Submission:
    """What one caller wants, and where the answers go."""

    commands: bytes
    """Serialized `CommandBatch.commands`: field 15, one or more times."""
    count: int
    future: asyncio.Future[list[Any]]
    was_proposed: bool = False


@dataclass(slots=True)
class Batch:
    sequence: int
    proposal: Proposal
    submissions: list[Submission] = field(default_factory=list)

    @property
    def is_abandoned(self) -> bool:
        return all(submission.future.done() for submission in self.submissions)


class Proposals:
    """The queue and the batches in flight of one process."""

    def __init__(self, origin: NodeId, incarnation: int) -> None:
        self.origin = origin
        self.incarnation = incarnation
        self._queue: deque[Submission] = deque()
        self._queue_bytes = 0
        self._in_flight: dict[int, Batch] = {}
        self._next_sequence = 1
        self._may_overlap = False
        """A tick has passed since a batch went beside others that were under way."""

    @property
    def is_idle(self) -> bool:
        return not self._queue and not self._in_flight

    @property
    def in_flight_count(self) -> int:
        return len(self._in_flight)

    @property
    def waiting_count(self) -> int:
        """Submissions without an answer."""
        return len(self._queue) + sum(len(batch.submissions) for batch in self._in_flight.values())

    def submit(self, submission: Submission) -> None:
        """Queue a submission.

        Raises:
            ResourceExhausted: the queue is full; the commands will not be applied.
        """
        if self._queue_bytes + len(submission.commands) > QUEUE_BYTES_MAX:
            raise ResourceExhausted(TOO_MANY_REQUESTS)
        self._queue.append(submission)
        self._queue_bytes += len(submission.commands)

    def tick(self) -> None:
        """Time passes."""
        self._may_overlap = True

    def next_batch(self) -> Batch | None:
        """Make a batch of what has queued, and count it as in flight; None when there is nothing, or enough is under way."""
        if not self._queue or len(self._in_flight) >= BATCHES_IN_FLIGHT_MAX:
            return None
        if len(self._in_flight) >= BATCHES_AT_ONCE and self._queue_bytes < BATCH_BYTES_MAX:
            if not self._may_overlap:
                return None
            self._may_overlap = False
        submissions: list[Submission] = []
        chunks: list[bytes] = [b""]
        size = count = 0
        while self._queue:
            first = self._queue[0]
            if submissions and (
                size + len(first.commands) > BATCH_BYTES_MAX or count + first.count > BATCH_COMMANDS_MAX
            ):
                break
            self._queue.popleft()
            self._queue_bytes -= len(first.commands)
            if first.future.done():  # Its caller gave up while it waited here: it was never proposed.
                continue
            first.was_proposed = True
            submissions.append(first)
            chunks.append(first.commands)
            size += len(first.commands)
            count += first.count
        if not submissions:
            return None
        sequence = self._next_sequence
        self._next_sequence += 1
        chunks[0] = store_pb2.CommandBatch(
            origin=self.origin,
            incarnation=self.incarnation,
            sequence=sequence,
            settled_below=min(self._in_flight, default=sequence),
        ).SerializeToString()
        batch = Batch(sequence, Proposal(b"".join(chunks)), submissions)
        self._in_flight[sequence] = batch
        return batch

    def put_back(self, batch: Batch) -> None:
        """A batch from `next_batch` that Raft would not even take: it goes to the head of the queue, as if never made."""
        assert batch.sequence == self._next_sequence - 1, f"batch {batch.sequence} is not the newest"
        del self._in_flight[batch.sequence]
        self._next_sequence -= 1
        for submission in reversed(batch.submissions):
            submission.was_proposed = False
            self._queue.appendleft(submission)
            self._queue_bytes += len(submission.commands)

    def unresolved(self) -> Iterator[Batch]:
        """Batches in flight whose callers still wait, oldest first; those that nobody waits for are forgotten."""
        for batch in list(self._in_flight.values()):
            if batch.is_abandoned:
                del self._in_flight[batch.sequence]
            else:
                yield batch

    def resolve(self, sequence: int, answers: list[Any] | None) -> bool:
        """A batch took effect. `answers` None: it did so in a snapshot, and what it answered is not known here.

        True if none before it is left: a batch that was lost on its way is overtaken by those that were not.
        """
        is_oldest = sequence == min(self._in_flight, default=0)
        batch = self._in_flight.pop(sequence, None)
        if batch is None:
            return False
        position = 0
        for submission in batch.submissions:
            if not submission.future.done():
                if answers is None:
                    submission.future.set_exception(Unavailable(LEADER_CHANGED, outcome=Outcome.UNKNOWN))
                else:
                    submission.future.set_result(answers[position : position + submission.count])
            position += submission.count
        return is_oldest

    def fail_all(self, message: str, *, proposed: Outcome = Outcome.UNKNOWN) -> None:
        """The node stops: what was proposed is unknown (or as the caller knows), what was not will never be applied."""
        for batch in self._in_flight.values():
            for submission in batch.submissions:
                _fail(submission, message, proposed)
        for submission in self._queue:
            _fail(submission, message, Outcome.NOT_APPLIED)
        self._in_flight.clear()
        self._queue.clear()
        self._queue_bytes = 0


def _fail(submission: Submission, message: str, outcome: Outcome) -> None:
    if not submission.future.done():
        submission.future.set_exception(Unavailable(message, outcome=outcome))

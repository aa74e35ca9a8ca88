"""What this node's clients wait for: commands and linearizable reads, given to the core as far as it takes them.

    submit ─► Proposals ─┐                        ┌─► applied ─► answers
                         ├─► pump ─► Raft ─ ... ──┤
    read ───► Reads ─────┘     ▲                  └─► confirmed ─► state machine ─► answers
                               └── ask_again: a new leader, a refusal, a lost message

Requests are *held* while nobody leads: what to do with them is decided here, once, when somebody does.

What may not live here: which events there are and what else follows from them (`node`), sockets, the rules of Raft.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from raftkv.errors import NO_LEADER, TIMED_OUT, DeadlineExceeded, Outcome, RequestError, Unavailable
from raftkv.node.patience import Patience
from raftkv.node.ports import ApplierPort
from raftkv.node.proposals import Proposals, Submission
from raftkv.node.reads import READS_PER_JOB_MAX, Read, Reads, run_jobs
from raftkv.raft import ProposalDropped, Raft, ReadState, RoleName
from raftkv.raft.types import NO_NODE
from raftkv.statemachine import StateMachine

T = TypeVar("T")

CONTEXT_BITS = 40
"""ReadIndex contexts count within an incarnation: an answer to this node's previous life fits none."""


class Requests:
    """The clients' side of a node. Belongs to the event loop.

    Args:
        wake: have `pump` called soon.
    """

    def __init__(self, raft: Raft, *, incarnation: int, repropose_ticks: int, wake: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._raft = raft
        self._wake = wake
        self._proposals = Proposals(raft.node_id, incarnation)
        self._reads = Reads(first_context=incarnation << CONTEXT_BITS)
        self._patience = Patience(repropose_ticks)
        self._is_leader_awaited = False
        """The core would not take something: try again with the next tick."""
        self._is_cut_short = False
        """Not everything unresolved could be proposed again."""
        self._is_refusing = False
        self._is_holding = False
        self.proposals_failed = 0
        self._taken = 0

    def start(self, applier: ApplierPort) -> None:
        self._applier = applier

    # What clients do ------------------------------------------------------------------------------------------------

    async def submit(self, commands: bytes, count: int, *, timeout_s: float) -> list[Any]:
        """See `Node.submit`."""
        self._taken += 1
        self._check_not_refusing()
        submission = Submission(commands, count, self._loop.create_future())
        self._proposals.submit(submission)
        self._wake()
        timer = self._loop.call_later(timeout_s, _expire, submission)
        try:
            return await submission.future
        except RequestError:
            self.proposals_failed += 1
            raise
        finally:
            timer.cancel()

    async def read(self, job: Callable[[StateMachine], T], *, timeout_s: float) -> T:
        """See `Node.read`."""
        self._taken += 1
        self._check_not_refusing()
        read = Read(job, self._loop.create_future())
        self._reads.add(read)
        self._wake()
        return await self._within(read.future, timeout_s)

    async def read_local(self, job: Callable[[StateMachine], T], *, timeout_s: float) -> T:
        """See `Node.read_local`."""
        read = Read(job, self._loop.create_future())
        self._run_reads([read])
        return await self._within(read.future, timeout_s)

    async def _within(self, future: asyncio.Future[T], timeout_s: float) -> T:
        timer = self._loop.call_later(timeout_s, _time_out, future)
        try:
            return await future
        finally:
            timer.cancel()

    @property
    def proposals_pending(self) -> int:
        """Writes that wait for their answer."""
        return self._proposals.waiting_count

    @property
    def progress(self) -> tuple[int, int]:
        """See `Node.requests_progress`."""
        return self._taken, self._proposals.in_flight_count

    @property
    def is_idle(self) -> bool:
        """Nobody waits for an answer."""
        return self._proposals.is_idle and self._reads.is_idle

    def refuse(self, is_refusing: bool) -> None:
        """While the node is cut off nobody is kept waiting: another node may answer at once.

        What was never proposed will not be applied; of the rest nobody here can know.
        """
        self._is_refusing = is_refusing
        if is_refusing:
            self._proposals.fail_all(NO_LEADER)
            self._reads.fail_unconfirmed(NO_LEADER)

    def hold(self, is_holding: bool) -> None:
        """See `Node.hold_requests`."""
        self._is_holding = is_holding
        if not is_holding:
            self.ask_again()
            self._wake()

    def _check_not_refusing(self) -> None:
        if self._is_refusing:
            raise Unavailable(NO_LEADER, outcome=Outcome.NOT_APPLIED)

    # To the core ----------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """A tick has passed: what the core refused may be tried again, and what takes too long is asked for again."""
        self._is_leader_awaited = False
        self._proposals.tick()
        if self._patience.tick() and (self._is_cut_short or self._raft.role is not RoleName.LEADER):
            self.ask_again()  # A leader's own log loses nothing: what it took in need not be said twice.

    def pump(self) -> None:
        """Give the core what callers want, as far as it takes it now."""
        if self._is_leader_awaited or self._is_holding or self._raft.leader == NO_NODE:
            return
        while (batch := self._proposals.next_batch()) is not None:
            try:
                self._raft.propose([batch.proposal])
            except ProposalDropped:
                self._proposals.put_back(batch)
                self._is_leader_awaited = True
                return
            if self._proposals.in_flight_count == 1:
                self._patience.moved()
        context = self._reads.next_round()
        if context is not None:
            self._raft.read_index(context)

    def ask_again(self) -> None:
        """Leadership changed, or something we sent to the leader may be lost: ask for everything unresolved once more."""
        if self._is_holding:
            return
        self._reads.ask_again()
        self._is_cut_short = False
        if self._raft.leader == NO_NODE:
            return
        try:
            for batch in self._proposals.unresolved():
                self._raft.propose([batch.proposal])
        except ProposalDropped:
            self._is_leader_awaited = self._is_cut_short = True
            self._patience.refused()

    # From the core --------------------------------------------------------------------------------------------------

    def leader_known(self) -> None:
        """There is a leader, perhaps another one: it is asked for everything."""
        self._patience.moved()
        self.ask_again()

    def rejected(self) -> None:
        """The leader refused what was passed on to it: ask again, after a pause."""
        self._is_leader_awaited = True
        self._patience.refused()

    def confirmed(self, states: Iterable[ReadState], *, applied_index: int) -> None:
        """Answers to `Raft.read_index`; what may be read at `applied_index` goes to the state machine's thread."""
        for state in states:
            self._reads.answered(state.context, state.index)
            self._is_leader_awaited |= state.index is None
        self._run_reads(self._reads.take_ready(applied_index))

    def applied(self, batches: Sequence[Any]) -> None:
        """Batches of ours took effect."""
        for batch in batches:
            if self._proposals.resolve(batch.sequence, batch.answers):
                self._patience.moved()

    def installed(self) -> None:
        """A snapshot is the state: batches in it took effect, but what they answered passed us by."""
        sequences = [batch.sequence for batch in self._proposals.unresolved()]
        origin = (self._proposals.origin, self._proposals.incarnation)
        self._applier.call(
            lambda machine: [sequence for sequence in sequences if machine.is_applied(*origin, sequence)],
            self._applied_in_snapshot,
        )
        self.ask_again()

    def fail_all(self, message: str, *, proposed: Outcome = Outcome.UNKNOWN) -> None:
        """Nobody waits any longer: everyone is told so, with the truthful outcome of a write."""
        self._proposals.fail_all(message, proposed=proposed)
        self._reads.fail_all(message)

    def _applied_in_snapshot(self, sequences: list[int]) -> None:
        for sequence in sequences:
            self._proposals.resolve(sequence, None)

    def _run_reads(self, reads: list[Read]) -> None:
        for start in range(0, len(reads), READS_PER_JOB_MAX):
            chunk = reads[start : start + READS_PER_JOB_MAX]
            self._reads.begin(chunk)
            self._applier.call(
                lambda machine, chunk=chunk: run_jobs(machine, chunk),  # type: ignore[misc]
                lambda results, chunk=chunk: self._reads.finish(chunk, results),  # type: ignore[misc]
            )


def _expire(submission: Submission) -> None:
    if not submission.future.done():
        outcome = Outcome.UNKNOWN if submission.was_proposed else Outcome.NOT_APPLIED
        submission.future.set_exception(Unavailable(TIMED_OUT, outcome=outcome))


def _time_out(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_exception(DeadlineExceeded(TIMED_OUT, outcome=Outcome.NOT_APPLIED))

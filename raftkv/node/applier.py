"""The owner of the state machine: applies, answers reads, commits, compacts.

Work comes through one queue and is done in its order, so a read queued behind the entries it must see needs no further
waiting. LMDB's write transaction stays open between commits; it belongs to the thread that does the work.

A commit to disk takes the thread some ten milliseconds and more. Meanwhile the loop is told what plain puts will be answered,
which follows from their place in the log (`raftkv.statemachine.outlook`); the rest waits in the queue.

What is done, step by step, is `ApplyQueue`'s; `Applier` is the thread that does it, and a simulator does it in its own time.

What may not live here: Raft, and anything that touches the loop except through `post`.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from raftkv.errors import RequestError
from raftkv.node.events import Applied, Called, Committing, Durable, Event, Failed, Foreseen, Installed
from raftkv.pb import rpc_pb2
from raftkv.raft.types import Entry, NodeId, SnapshotMeta
from raftkv.statemachine import AppliedBatch, StateMachine
from raftkv.statemachine.outlook import Outlook
from raftkv.statemachine.pacing import PAUSE_S, QUIET_S

IDLE_WAIT_S = 0.1
"""How long the thread sleeps without work before it looks whether a commit is due, or something may be removed by now."""

Task = Callable[[], None]
Observer = Callable[[StateMachine], Called | None]
"""Looks at the state machine after it has changed; what it returns goes to the loop."""


class ApplyQueue:
    """Jobs for a `StateMachine`, and the doing of them. One thread calls `work`; the others may be called from any.

    `post` is called from within `work`, and from `apply`. The queue is unbounded: entries in it are those of the in-memory
    log, whose bound is the core's; reads are one job for each caller that waits, or for many who were confirmed together, and
    as many callers wait as clients have requests under way: nothing limits those.
    """

    def __init__(self, machine: StateMachine, post: Callable[[Event], None], *, wanted: tuple[NodeId, int]) -> None:
        self._machine = machine
        self._post = post
        self._wanted = wanted
        self._tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._durable_index = machine.durable_index
        self._observer: Observer | None = None
        self._is_idle = False
        """No job came in time, the last time one was waited for."""
        self._unapplied: deque[Entry] = deque()
        """The loop's: what it was given to apply, less what it has noticed to be applied."""
        self._outlook: Outlook | None = None
        self._foreseen: dict[int, list[int | None]] = {}
        """What is answered and not applied: the revisions, by the batch's sequence."""
        self._foreseen_index = machine.applied_index
        """`_foreseen` is empty when everything up to here is applied."""
        self._standstill = threading.Lock()
        """Free while a commit lets the loop look at `_outlook`, and write `_foreseen`; else held, by this side."""
        self._standstill.acquire()
        machine.while_committing = self.while_committing

    def apply(self, entries: Sequence[Entry]) -> None:
        """Apply committed entries. From the loop. Reported as `Applied`, and perhaps, before that, as `Foreseen`."""
        self._tasks.put(lambda: self._apply(entries))
        while self._unapplied and self._unapplied[0].index <= self._machine.applied_index:
            self._unapplied.popleft()
        self._unapplied.extend(entries)
        self._foresee()

    def install(self, path: Path, snapshot: SnapshotMeta) -> None:
        """Swap in a received snapshot. Reported as `Installed`."""
        self._tasks.put(lambda: self._install(path, snapshot))

    def call(self, job: Callable[[StateMachine], Any], done: Callable[[Any], None]) -> None:
        """Run `job` in its turn; `done(result)` runs on the loop. A RequestError it raises is its result."""
        self._tasks.put(lambda: self._call(job, done))

    def observe(self, observer: Observer | None) -> None:
        """From its turn on, run `observer` after each apply and each installed snapshot; None: nobody looks any more."""
        self._tasks.put(lambda: setattr(self, "_observer", observer))

    def finish(self) -> None:
        """Nothing is queued after this: when everything is done, commit and close the state machine."""
        self._tasks.put(None)

    def work(self, *, wait_s: float = IDLE_WAIT_S) -> bool:
        """Do the next job, or a slice of compaction when none comes within `wait_s`; then commit, if that is due.

        While there is something to remove, the wait is shorter, and a slice may come before the job: see `pacing`.

        False: this was the end, by `finish` or by a failure, which was reported as `Failed`.
        """
        try:
            is_open = self._next(wait_s)
            if self._machine.commit_due():
                self._machine.commit()
            self._report_durable()
            if not is_open:
                self._machine.close()
        except BaseException as error:
            self._post(Failed(error))
            return False
        return is_open

    @property
    def backlog(self) -> int:
        """Jobs waiting for their turn, roughly."""
        return self._tasks.qsize()

    @contextmanager
    def while_committing(self) -> Iterator[None]:
        """Between two jobs, or within one: as long as this is entered the state stands still, and the loop answers what it can."""
        self._outlook = self._machine.outlook(self._wanted)
        self._standstill.release()
        if self.backlog:  # What comes from now on finds out by itself.
            self._post(Committing(self._foresee))
        try:
            yield
        finally:
            self._standstill.acquire()
            self._outlook = None

    def _foresee(self) -> None:
        """On the loop: if there is a commit, tell what will be answered when it is over."""
        if not self._standstill.acquire(blocking=False):
            return
        try:
            assert self._outlook is not None, "a standstill without an outlook"
            batches = self._outlook.foresee(self._unapplied)
            self._foreseen.update((batch.sequence, _revisions(batch)) for batch in batches)
            self._foreseen_index = self._outlook.index
        finally:
            self._standstill.release()
        if batches:
            self._post(Foreseen(batches))

    def _next(self, wait_s: float) -> bool:
        if self._machine.compact_before_job():
            wait_s = min(wait_s, PAUSE_S if self._is_idle else QUIET_S)
        try:
            task = self._tasks.get(timeout=wait_s)
        except queue.Empty:
            self._is_idle = True
            self._machine.compact_some()
            return True
        self._is_idle = False
        if task is None:
            return False
        task()
        return True

    def _apply(self, entries: Sequence[Entry]) -> None:
        version = self._machine.members_version
        batches = self._machine.apply(entries, wanted=self._wanted)
        has_changed = self._machine.members_version != version
        self._check_foresight(batches)
        self._post(Applied(entries[-1].index, batches, has_changed, self._machine.clock))
        self._observe()

    def _install(self, path: Path, snapshot: SnapshotMeta) -> None:
        self._machine.install(path, snapshot)
        self._post(Installed(snapshot))
        self._observe()

    def _check_foresight(self, applied: Sequence[AppliedBatch]) -> None:
        """Clients have been told: if anything comes otherwise, this node must not go on."""
        for batch in applied:
            foreseen = self._foreseen.pop(batch.sequence, None)
            if foreseen is not None and foreseen != _revisions(batch):
                raise AssertionError(f"batch {batch.sequence} was answered otherwise than it is applied")
        if self._foreseen and self._machine.applied_index >= self._foreseen_index:
            raise AssertionError(f"batches {sorted(self._foreseen)} were answered and are not applied")

    def _observe(self) -> None:
        if self._observer is not None and (seen := self._observer(self._machine)) is not None:
            self._post(seen)

    def _call(self, job: Callable[[StateMachine], Any], done: Callable[[Any], None]) -> None:
        try:
            result = job(self._machine)
        except RequestError as error:
            result = error
        self._post(Called(done, result))

    def _report_durable(self) -> None:
        if self._machine.durable_index != self._durable_index:
            self._durable_index = self._machine.durable_index
            self._post(Durable(self._durable_index, self._machine.bytes_on_disk, self._machine.bytes_in_use))


def _revisions(batch: AppliedBatch) -> list[int | None]:
    """What was put by each command of a batch; None: it was no put. The rest of an answer is completed where it goes out."""
    return [answer.header.revision if isinstance(answer, rpc_pb2.PutResponse) else None for answer in batch.answers]


class Applier(ApplyQueue):
    """Does the work on a thread of its own."""

    def __init__(self, machine: StateMachine, post: Callable[[Event], None], *, wanted: tuple[NodeId, int]) -> None:
        super().__init__(machine, post, wanted=wanted)
        self._thread = threading.Thread(target=self._run, name="raftkv-apply", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self, timeout_s: float | None = None) -> bool:
        """Finish what is queued, commit, and close the state machine. Blocks; from a thread that is not the loop's.

        Returns:
            False when that has not come about within `timeout_s`: the disk hangs. The thread is a daemon.
        """
        self.finish()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while self.work():
            pass

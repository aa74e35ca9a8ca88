"""Clock, scheduler and network: everything that happens, happens as an event here, in an order that the seed decides.

What may not live here: nodes, Raft.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterator
from typing import Any

from raftkv.raft import Message
from tests.sim.swarm import Swarm


class TooManyEvents(Exception):
    """Far more has happened than any run needs."""


class World:
    """Virtual time in microseconds. Ties go in the order of scheduling."""

    def __init__(
        self, rng: random.Random, swarm: Swarm, deliver: Callable[[Message], None], *, events_max: int
    ) -> None:
        self.now = 0
        self.rng = rng
        self.swarm = swarm
        self.is_hostile = True
        """Loss, doubles, late messages and slow disks; off while the cluster has to make progress."""
        self.cut: set[tuple[int, int]] = set()
        self.events = 0
        self.events_max = events_max
        self.fingerprint = 0
        self.trace: list[str] | None = None
        self._deliver = deliver
        self._heap: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._scheduled = 0
        self._first_message = 0

    def after(self, delay: int, handler: Callable[..., None], *arguments: Any) -> None:
        self._scheduled += 1
        heapq.heappush(self._heap, (self.now + delay, self._scheduled, handler, arguments))

    def run_until(self, end: int, done: Callable[[], bool] | None = None) -> bool:
        """Run events up to `end`; True as soon as `done()` holds, which is asked after every event."""
        heap, pop, events_max = self._heap, heapq.heappop, self.events_max
        while heap and heap[0][0] <= end:
            self.now, _, handler, arguments = pop(heap)
            self.events += 1
            if self.events > events_max:
                raise TooManyEvents(f"{self.events} events until {self.now} us")
            handler(*arguments)
            if done is not None and done():
                return True
        self.now = end
        return False

    def about(self, duration: int) -> int:
        """A duration somewhere around this one: between a tenth and nearly twice of it."""
        return int(duration * (0.1 + 1.8 * self.rng.random()))

    def seldom(self, mean: int) -> int:
        """Waiting time of something that happens every `mean` on average, without memory."""
        return int(self.rng.expovariate(1.0 / mean)) + 1

    def send(self, message: Message) -> None:
        """One message into the network, which loses, doubles, delays and reorders."""
        if (message.sender, message.receiver) in self.cut:
            return
        swarm = self.swarm
        if not self.is_hostile:
            self.after(self.about(min(swarm.delay, 1000)), self._arrive, message, self._scheduled)
            return
        draw = self.rng.random
        if draw() < swarm.loss:
            return
        delay = self.about(swarm.delay)
        if swarm.late and draw() < swarm.late:
            delay += self.about(swarm.late_delay)
        self.after(delay, self._arrive, message, self._scheduled)
        if swarm.double and draw() < swarm.double:
            self.after(delay + self.about(swarm.delay + swarm.late_delay), self._arrive, message, self._scheduled)

    def pending(self) -> Iterator[tuple[Any, ...]]:
        """The arguments of everything that is still to happen, in no order."""
        return (arguments for _, _, _, arguments in self._heap)

    def forget_messages(self) -> None:
        """Nothing that is under way now ever arrives."""
        self._first_message = self._scheduled

    def _arrive(self, message: Message, number: int) -> None:
        if number >= self._first_message:
            self._deliver(message)

    def say(self, who: object, text: str) -> None:
        """A line of the trace; callers look first whether there is one, for speed."""
        assert self.trace is not None
        self.trace.append(f"{self.now / 1e6:9.6f}  {who}  {text}")

    def digest(self, member: Any) -> None:
        """Fold what a step came to into one number: equal runs, equal numbers, in any process."""
        raft = member.raft
        self.fingerprint = hash(
            (self.fingerprint, self.now, member.id, raft.term, raft.commit_index, raft.last_index, raft.leader)
        )

"""What watches read, in any order in which a busy loop may get to see it."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from raftkv.mvcc import commands
from raftkv.mvcc.history import ChangeReader, ChangeSlice
from raftkv.mvcc.store import Store
from raftkv.pb import rpc_pb2
from raftkv.server.watch_feed import WatchFeed
from raftkv.watch import Hub, WatchLimits
from tests.watch.support import Client, Driver, header

LIMITS = WatchLimits(slice_records=3, deliveries_per_step=2)


class Machine:
    """A state machine, as far as watches look at it."""

    def __init__(self, store: Store) -> None:
        self.store = store

    @property
    def revision(self) -> int:
        return self.store.revision

    @property
    def compact_revision(self) -> int:
        return self.store.compact_revision

    def changes(self, reader: ChangeReader, **limits: Any) -> ChangeSlice:
        return reader.read(self.store, **limits)

    def follow(self, reader: ChangeReader | None) -> None:
        self.store.follower = reader


class Node:
    """A node whose thread and loop are run by the test: jobs first wait for the one, then their results for the other."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.jobs: deque[Callable[[], None]] = deque()
        self.inbox: deque[Callable[[], None]] = deque()
        self.observer: Callable[[Machine], Any] | None = None

    def run(self, job: Callable[[Machine], Any], done: Callable[[Any], None] = lambda _: None) -> None:
        self.jobs.append(lambda: self.inbox.append(partial(done, job(self.machine))))

    def observe(self, observer: Callable[[Machine], Any] | None) -> None:
        self.jobs.append(lambda: setattr(self, "observer", observer))

    def put(self, key: bytes) -> None:
        """The thread applies a put, in its turn."""
        self.jobs.append(partial(self._put, key))

    def _put(self, key: bytes) -> None:
        commands.put(self.machine.store, rpc_pb2.PutRequest(key=key), wanted=False)
        if self.observer is not None and (called := self.observer(self.machine)) is not None:
            self.inbox.append(partial(called.done, called.result))


@pytest.mark.parametrize("seed", range(40))
def test_everything_is_read_once_whenever_the_loop_gets_to_it(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    store = Store(tmp_path, map_bytes=1 << 20)
    hub, node = Hub(LIMITS, header), Node(Machine(store))
    feed = WatchFeed(node, hub, LIMITS, on_work=lambda: None)  # type: ignore[arg-type]
    client: Client = Driver(store, LIMITS).open()
    feed.start()
    starts: list[int] = []

    def create(start: int, revision: int, compact_revision: int) -> None:
        request = rpc_pb2.WatchCreateRequest(key=b"a", start_revision=start)
        hub.create(client.outbox, request, revision=revision, compact_revision=compact_revision)
        starts.append(start or revision + 1)

    def work() -> None:
        hub.step()
        feed.work()

    def next_of(queue: deque[Callable[[], None]]) -> None:
        if queue:
            queue.popleft()()

    actions: list[Callable[[], object]] = [
        lambda: node.put(b"a"),
        lambda: next_of(node.jobs),
        lambda: next_of(node.jobs),
        lambda: next_of(node.inbox),
        work,
        lambda: feed.ask(partial(create, rng.choice([0, 1, store.revision]))),
    ]
    for _ in range(300):
        rng.choice(actions)()
    for _ in range(2_000):
        next_of(node.jobs)
        next_of(node.inbox)
        work()
    client.take()

    for watch_id, start in enumerate(starts):
        assert client.events(watch_id) == [(r, b"a", True) for r in range(max(start, 2), store.revision + 1)]
    store.close()

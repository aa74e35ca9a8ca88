"""What a node's watches read: changes as they are applied, slices of history, and where the store is right now.

    state machine's thread                           the loop
    after each apply ──► a slice of new changes ───► Hub.live      the next one when this one has been given out
    in its turn ───────► a slice of history ───────► Hub.caught_up
    in its turn ───────► revision, compact revision ► requests that need them

Everything comes back in the order in which it was read. At most one slice of either kind is on its way or being given out, so
whoever watches can neither hold up applying nor fill the memory: the next slice is then a larger one.

What may not live here: gRPC, and who gets what (`raftkv.watch`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from raftkv.mvcc.history import ChangeReader, ChangeSlice
from raftkv.node import Node
from raftkv.node.events import Called
from raftkv.statemachine import StateMachine
from raftkv.watch import Hub, WatchLimits

REQUESTS_PER_LOOK = 250
"""Requests that share one look at the store; each costs some 50 µs of the loop."""

Request = Callable[[int, int], None]
"""Called with the store's revision and compact revision."""


class WatchFeed:
    """Reads for a hub while somebody watches.

    Args:
        on_work: called when the hub has something to do.
    """

    def __init__(self, node: Node, hub: Hub, limits: WatchLimits, *, on_work: Callable[[], None]) -> None:
        self._node = node
        self._hub = hub
        self._limits = limits
        self._on_work = on_work
        self._requests: deque[Request] = deque()
        self._is_looking = False
        self._live: _LiveChanges | None = None

    def start(self) -> None:
        """Somebody begins to watch: changes are read from now on."""
        assert self._live is None, "started twice"
        self._live = live = _LiveChanges(self._node, self._hub, self._limits)
        self._node.run(live.begin, lambda revision: self._begun(live, revision))
        self._node.observe(lambda machine: self._look(live, machine))

    def stop(self) -> None:
        """Nobody watches: nothing is read any more."""
        self._live = None
        self._node.observe(None)
        self._node.run(lambda machine: machine.follow(None))

    def ask(self, request: Request) -> None:
        """Call `request` with where the store is, at some time after this call; requests are called in their order."""
        self._requests.append(request)
        self._look_for_requests()

    def work(self) -> None:
        """The hub may have given out what it had: read on, if there is more to be read."""
        live = self._live
        if live is not None and live.is_given_out():
            self._node.run(live.read_more, lambda found: self._arrived(live, found))
        wanted = self._hub.next_read()
        if wanted is not None:
            reader, previous = wanted
            self._node.run(lambda machine: self._read(machine, reader, previous), self._caught_up)

    def _begun(self, live: _LiveChanges, revision: int) -> None:
        if live is self._live:
            self._hub.begin(revision)

    def _look(self, live: _LiveChanges, machine: StateMachine) -> Called | None:
        """On the state machine's thread."""
        found = live.look(machine)
        return None if found is None else Called(lambda found: self._arrived(live, found), found)

    def _arrived(self, live: _LiveChanges, found: ChangeSlice | None) -> None:
        if live is self._live and found is not None:
            live.has_arrived = True
            self._hub.live(found)
            self._on_work()

    def _read(self, machine: StateMachine, reader: ChangeReader, previous: bool) -> ChangeSlice:
        """On the state machine's thread."""
        limits = self._limits
        return machine.changes(reader, records=limits.slice_records, size=limits.slice_bytes, previous=previous)

    def _caught_up(self, found: ChangeSlice) -> None:
        self._hub.caught_up(found)
        self._on_work()

    def _look_for_requests(self) -> None:
        if self._is_looking or not self._requests:
            return
        self._is_looking = True
        count = min(len(self._requests), REQUESTS_PER_LOOK)  # Those that came before the look, and no later ones.
        self._node.run(
            lambda machine: (machine.revision, machine.compact_revision), lambda seen: self._answer(count, *seen)
        )

    def _answer(self, count: int, revision: int, compact_revision: int) -> None:
        self._is_looking = False
        for _ in range(count):
            self._requests.popleft()(revision, compact_revision)
        self._look_for_requests()
        self._on_work()


class _LiveChanges:
    """New changes, from one start of the feed to its stop.

    `_reader` belongs to the state machine's thread, which uses it while `_is_under_way` is False and sets that when it sends
    a slice; the loop takes it back. Each side writes its own variable before it reads the other's (`_present`,
    `_is_under_way`), so that one of them sees that there is more to read.
    """

    def __init__(self, node: Node, hub: Hub, limits: WatchLimits) -> None:
        self._node = node
        self._hub = hub
        self._limits = limits
        self._reader = ChangeReader(1, is_live=True)
        self._present = 0
        self._is_under_way = False
        self.has_arrived = False
        """The slice under way has reached the hub: before that, that the hub has nothing to give out means nothing."""

    # On the state machine's thread.

    def begin(self, machine: StateMachine) -> int:
        self._present = machine.revision
        self._read_on(machine)
        return machine.revision

    def _read_on(self, machine: StateMachine) -> None:
        """From the store's present revision on."""
        self._reader = ChangeReader(machine.revision + 1, is_live=True)
        machine.follow(self._reader)

    def look(self, machine: StateMachine) -> ChangeSlice | None:
        """Something was applied: the changes, if there are any and the last slice has been given out."""
        self._present = machine.revision
        return self.read_more(machine)

    def read_more(self, machine: StateMachine) -> ChangeSlice | None:
        if self._is_under_way or self._reader.revision > machine.revision:
            return None
        self._is_under_way = True
        limits, reader = self._limits, self._reader
        found = machine.changes(
            reader, records=limits.slice_records, size=limits.slice_bytes, previous=self._hub.wants_previous
        )
        if reader.revision <= found.removed_revision:  # A snapshot was installed.
            self._read_on(machine)
        return found

    # On the loop.

    def is_given_out(self) -> bool:
        """Take back what was under way, if the hub is done with it; True if there is more to read."""
        if not (self.has_arrived and self._hub.wants_live):
            return False
        self.has_arrived = False
        self._is_under_way = False
        return self._reader.revision <= self._present

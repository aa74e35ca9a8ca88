"""What the tests of the node share: cores, commands, and ports that a test can hold up.

A `Member` is a whole node: real core, real state machine, and ports that run on the loop, where a test decides when a save
completes, when something is applied, and which messages arrive.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from raftkv.errors import Outcome, PeerError, RequestError
from raftkv.node import Applier, Node, NodeConfig
from raftkv.node.events import Applied, Called, Durable, Installed, Received, SnapshotReceived
from raftkv.pb import rpc_pb2, store_pb2
from raftkv.raft import (
    Entry,
    EntryKind,
    HardState,
    InstallSnapshot,
    Membership,
    Message,
    Raft,
    RaftConfig,
    RoleName,
    Save,
    SavedMark,
    SnapshotMeta,
)
from raftkv.statemachine import StateMachine
from tests.statemachine.support import BOOTSTRAP, CLUSTER, get, open_machine, put
from tests.support import eventually

INCARNATION = 5
TIMEOUT_S = 20.0
STILL = NodeConfig(tick_s=3600.0)
"""Time stands still: what happens is what a test makes happen."""
TICKING = NodeConfig(tick_s=0.005, repropose_ticks=40)


def commands(*several: store_pb2.Command) -> bytes:
    return store_pb2.BatchRequest(commands=several).SerializeToString()


def new_raft(
    node: int = 1,
    *,
    voters: Iterable[int] = (1,),
    hard_state: HardState | None = None,
    entries: Sequence[Entry] = (),
    base: SnapshotMeta | None = None,
) -> Raft:
    base = base or SnapshotMeta(membership=Membership(voters=frozenset(voters)))
    return Raft(
        RaftConfig(node_id=node, election_timeout_ticks=20, heartbeat_interval_ticks=4),
        hard_state=hard_state or HardState(),
        snapshot=base,
        entries=entries,
        applied_index=base.index,
        rng=random.Random(node),
    )


def noop(index: int, term: int = 1) -> Entry:
    return Entry(index, term, EntryKind.NOOP)


class HeldLog:
    """A log on the loop. While `is_held`, saves wait for `complete`."""

    def __init__(self) -> None:
        self.is_held = False
        self.saves: list[Save] = []
        """All that was ever handed over."""
        self.compactions: list[SnapshotMeta] = []
        self._waiting: deque[tuple[Save, Callable[[SavedMark], None]]] = deque()

    @property
    def waiting(self) -> list[Save]:
        return [save for save, _ in self._waiting]

    def save(self, save: Save, done: Callable[[SavedMark], None]) -> None:
        self.saves.append(save)
        self._waiting.append((save, done))
        if not self.is_held:
            self.complete()

    def complete(self) -> None:
        """The disk has come back."""
        while self._waiting:
            save, done = self._waiting.popleft()
            done(save.mark)

    def compact(self, base: SnapshotMeta) -> None:
        self.compactions.append(base)


class HeldApplier:
    """A state machine on the loop. While `is_held`, what it is asked for waits for `release`."""

    def __init__(self, machine: StateMachine, post: Callable[[Any], None], wanted: tuple[int, int]) -> None:
        self.machine = machine
        self.is_held = False
        self.installs: list[SnapshotMeta] = []
        self._post = post
        self._wanted = wanted
        self._waiting: deque[Callable[[], None]] = deque()

    def apply(self, entries: Sequence[Entry]) -> None:
        self._do(lambda: self._apply(entries))

    def install(self, path: Path, snapshot: SnapshotMeta) -> None:
        self.installs.append(snapshot)
        self._do(lambda: self._install(path, snapshot))

    def call(self, job: Callable[[StateMachine], Any], done: Callable[[Any], None]) -> None:
        self._do(lambda: self._post(Called(done, job(self.machine))))

    def commit(self) -> None:
        """As the real one does about once a second."""
        self.machine.commit()
        self._post(Durable(self.machine.durable_index, self.machine.bytes_on_disk, self.machine.bytes_in_use))

    def release(self) -> None:
        self.is_held = False
        while self._waiting:
            self._waiting.popleft()()

    def _do(self, task: Callable[[], None]) -> None:
        if self.is_held:
            self._waiting.append(task)
        else:
            task()

    def _apply(self, entries: Sequence[Entry]) -> None:
        version = self.machine.members_version
        batches = self.machine.apply(entries, wanted=self._wanted)
        self._post(Applied(entries[-1].index, batches, self.machine.members_version != version, self.machine.clock))

    def _install(self, path: Path, snapshot: SnapshotMeta) -> None:
        self.machine.install(path, snapshot)
        self._post(Installed(snapshot))


class Network:
    """Delivers at once, unless `lost` says that a message gets lost."""

    def __init__(self) -> None:
        self.members: dict[int, Member] = {}
        self.sent: list[Message] = []
        self.lost: Callable[[Message], bool] = lambda message: False

    def isolate(self, *nodes: int) -> None:
        """Cut these off from the others, both ways."""
        self.lost = lambda message: (message.sender in nodes) != (message.receiver in nodes)

    def heal(self) -> None:
        self.lost = lambda message: False

    def sent_of(self, kind: type, *, sender: int | None = None) -> list[Any]:
        return [message for message in self.sent if isinstance(message, kind) and sender in (None, message.sender)]

    def deliver(self, message: Message, event: Any) -> bool:
        receiver = self.members.get(message.receiver)
        if receiver is None or self.lost(message):
            return False
        receiver.node.inbox.post(event)
        return True


class Link:
    """One node's way into the network."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self.peers: list[rpc_pb2.Member] = []

    def send(self, messages: Sequence[Message]) -> None:
        for message in messages:
            self._network.sent.append(message)
            self._network.deliver(message, Received([message]))

    async def send_snapshot(self, message: InstallSnapshot, path: Path) -> int:
        self._network.sent.append(message)
        receiver = self._network.members.get(message.receiver)
        if receiver is None:
            raise PeerError(f"{message.receiver} is not there")
        copy = receiver.path / "received.snapshot"
        shutil.copyfile(path, copy)
        if not self._network.deliver(message, SnapshotReceived(message, copy)):
            raise PeerError(f"{message.receiver} cannot be reached")
        return copy.stat().st_size

    def set_peers(self, members: Sequence[rpc_pb2.Member]) -> None:
        self.peers = list(members)


class Member:
    """A node with its ports, all held ones unless a test asks for the real thread of the state machine."""

    def __init__(
        self,
        node: int,
        path: Path,
        *,
        network: Network | None = None,
        voters: Iterable[int] = (1,),
        config: NodeConfig = STILL,
        is_threaded: bool = False,
    ) -> None:
        self.path = path / f"n{node}"
        self.path.mkdir()
        self.network = network or Network()
        self.network.members[node] = self
        self.machine = open_machine(self.path / "state")
        self.raft = new_raft(node, voters=voters)
        self.log = HeldLog()
        self.link = Link(self.network)
        self.node = Node(
            self.raft, config=config, cluster_id=CLUSTER, incarnation=INCARNATION, members=BOOTSTRAP.members
        )
        wanted = (node, INCARNATION)
        self.applier: Any = HeldApplier(self.machine, self.node.inbox.post, wanted)
        if is_threaded:
            self.applier = Applier(self.machine, self.node.inbox.post, wanted=wanted)
            self.applier.start()

    def start(self, *, log_writer: Any = None) -> Member:
        snapshot_dir = self.path / "snapshots"
        snapshot_dir.mkdir()
        self.node.start(
            log_writer=log_writer or self.log,
            transport=self.link,
            applier=self.applier,
            snapshot_dir=snapshot_dir,
        )
        return self

    def receive(self, *messages: Message) -> None:
        self.node.inbox.post(Received(messages))

    def campaign(self) -> None:
        self.raft.campaign()
        self.node.inbox.wake()

    async def leads(self) -> Member:
        await eventually(lambda: self.raft.role is RoleName.LEADER and self.raft.commit_index == self.raft.last_index)
        return self

    async def put(self, key: bytes, value: bytes = b"v") -> Any:
        return (await self.node.submit(commands(put(key, value)), 1, timeout_s=TIMEOUT_S))[0]

    async def read(self, key: bytes) -> bytes | None:
        return await self.node.read(lambda machine: get(machine, key), timeout_s=TIMEOUT_S)

    def batches(self) -> list[store_pb2.CommandBatch]:
        """The batches in this node's log, oldest first."""
        log = [self.raft.entry(index) for index in range(self.raft.first_index, self.raft.last_index + 1)]
        return [store_pb2.CommandBatch.FromString(e.data) for e in log if e.kind is EntryKind.COMMANDS]

    async def close(self) -> None:
        self.node.stop()
        await settled()
        if isinstance(self.applier, Applier):
            await closed(self.applier)
        else:
            self.machine.close()


@contextmanager
def held_commit(machine: StateMachine, begin: Callable[[], None]) -> Iterator[None]:
    """The machine is in a commit, which `begin` brings about on its thread, for as long as this is entered."""
    store, began, may_end = machine._store, threading.Event(), threading.Event()
    original = store.commit

    def slow() -> None:
        began.set()
        assert may_end.wait(TIMEOUT_S)
        original()

    store.commit = slow  # type: ignore[method-assign]
    begin()
    try:
        assert began.wait(TIMEOUT_S)
        yield
    finally:
        store.commit = original  # type: ignore[method-assign]
        may_end.set()


async def closed(applier: Applier) -> None:
    """Close it. If that hangs, a failed test must not hang with it."""
    thread = threading.Thread(target=applier.close, daemon=True)
    thread.start()
    await eventually(lambda: not thread.is_alive())


async def settled() -> None:
    """Everything posted so far, and what it led to, has been handled: nothing that needs no clock and no thread is left."""
    for _ in range(20):
        await asyncio.sleep(0)


@asynccontextmanager
async def member(path: Path, node: int = 1, **options: Any) -> AsyncIterator[Member]:
    """One member, started, alone with its network."""
    this = Member(node, path, **options).start()
    try:
        yield this
    finally:
        await this.close()


@asynccontextmanager
async def cluster(path: Path, *, config: NodeConfig = TICKING) -> AsyncIterator[dict[int, Member]]:
    """Three members; 1 leads."""
    network = Network()
    members = {node: Member(node, path, network=network, voters=(1, 2, 3), config=config) for node in (1, 2, 3)}
    for this in members.values():
        this.start()
    try:
        members[1].campaign()
        await members[1].leads()
        await eventually(lambda: all(this.raft.leader == 1 for this in members.values()))
        yield members
    finally:
        for this in members.values():
            await this.close()


def submitted(this: Member, *keys: bytes, timeout_s: float = TIMEOUT_S) -> asyncio.Task[list[Any]]:
    payload = commands(*(put(key) for key in keys))
    return asyncio.create_task(this.node.submit(payload, len(keys), timeout_s=timeout_s))


def reading(this: Member, key: bytes) -> asyncio.Task[bytes | None]:
    return asyncio.create_task(this.read(key))


async def outcome_of(waiting: asyncio.Task[Any]) -> Outcome:
    with pytest.raises(RequestError) as raised:
        await waiting
    return raised.value.outcome


class Complaints:
    """What asyncio would report of futures whose failure nobody looked at."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: self.seen.append(context))

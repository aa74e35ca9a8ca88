"""snapshots: one copy for all who are behind, truth to Raft about what arrived, and no files left lying about."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from raftkv.errors import LEADER_CHANGED, DiskFullError, Outcome, PeerError, Unavailable
from raftkv.node.flight_record import FlightRecord
from raftkv.node.inbox import Inbox
from raftkv.node.members import Members
from raftkv.node.snapshots import SnapshotDuty, empty_directory
from raftkv.pb import store_pb2
from raftkv.raft import (
    AppendResponse,
    HardState,
    HeartbeatRequest,
    InstallSnapshot,
    Membership,
    Message,
    PreVoteResponse,
    ProgressState,
    Raft,
    RoleName,
    SnapshotMeta,
    VoteResponse,
)
from raftkv.statemachine import MemberTable
from tests.node.support import TICKING, TIMEOUT_S, cluster, new_raft, settled
from tests.support import eventually

VOTERS = frozenset({1, 2, 3})
META = SnapshotMeta(5, 1, Membership(voters=VOTERS))
"""What the state machine of these tests has applied; also where its node's log begins."""


class Prepared:
    """As `statemachine.PreparedSnapshot`: written when called."""

    def __init__(self, meta: SnapshotMeta, error: Exception | None) -> None:
        self.meta = meta
        self._error = error

    def __call__(self, path: Path) -> SnapshotMeta:
        if self._error:
            raise self._error
        path.write_bytes(b"image")
        return self.meta


class Machine:
    def __init__(self) -> None:
        self.prepared_count = 0
        self.error: Exception | None = None

    def prepare_snapshot(self) -> Prepared:
        self.prepared_count += 1
        return Prepared(META, self.error)


class DirectApplier:
    """Runs every job at once."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.installed: list[tuple[Path, SnapshotMeta]] = []

    def apply(self, entries: Sequence[Any]) -> None:
        raise AssertionError("nothing is applied here")

    def install(self, path: Path, snapshot: SnapshotMeta) -> None:
        self.installed.append((path, snapshot))

    def call(self, job: Callable[[Any], Any], done: Callable[[Any], None]) -> None:
        done(job(self._machine))


class Courier:
    """A transport whose streams end when a test says so."""

    def __init__(self) -> None:
        self.streams: list[tuple[InstallSnapshot, asyncio.Future[int]]] = []
        self.contents: list[bytes] = []

    def send(self, messages: Sequence[Message]) -> None: ...

    def set_peers(self, members: Sequence[Any]) -> None: ...

    async def send_snapshot(self, message: InstallSnapshot, path: Path) -> int:
        self.contents.append(path.read_bytes())
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.streams.append((message, done))
        return await done

    async def stream(self, number: int) -> asyncio.Future[int]:
        """The end of the stream with this number, once it has begun."""
        await eventually(lambda: len(self.streams) > number)
        return self.streams[number][1]

    @property
    def receivers(self) -> list[int]:
        return [message.receiver for message, _ in self.streams]


def leading(raft: Raft) -> Raft:
    """Have node 2 elect this node."""
    raft.campaign()
    while raft.role is not RoleName.LEADER:
        asked = raft.role
        answer = PreVoteResponse if asked is RoleName.PRE_CANDIDATE else VoteResponse
        carried_out(raft)
        raft.step(answer(sender=2, receiver=1, term=raft.term + (answer is PreVoteResponse), granted=True))
    carried_out(raft)
    return raft


def carried_out(raft: Raft) -> list[int]:
    """Do at once all that the core wants; who needs a snapshot."""
    wanted: list[int] = []
    while raft.has_ready():
        ready = raft.ready()
        wanted.extend(ready.snapshots_wanted)
        if ready.save is not None:
            raft.saved(ready.save.mark)
        if ready.committed:
            raft.applied(ready.committed[-1].index)
    return wanted


def fallen_behind(raft: Raft, node: int) -> None:
    """A follower says that it has nothing of what the leader's log still holds."""
    raft.step(AppendResponse(sender=node, receiver=1, term=raft.term, prev_index=raft.last_index - 1, accepted=False))


class Bench:
    def __init__(self, path: Path) -> None:
        self.directory = empty_directory(path / "snapshots")
        self.raft = new_raft(1, base=META, hard_state=HardState(term=1))
        self.machine = Machine()
        self.applier = DirectApplier(self.machine)
        self.courier = Courier()
        self.on_events: Callable[[], None] = lambda: None
        self.inbox = Inbox(asyncio.get_running_loop(), lambda: self.on_events())
        self.flight = FlightRecord()
        self.flight.observe(self.raft, tick_s=0.01, name_of=lambda node: f"n{node}")
        self.duty = SnapshotDuty(
            self.raft, self.applier, self.courier, self.inbox, directory=self.directory, flight=self.flight
        )

    def state_of(self, node: int) -> ProgressState:
        return self.raft.status().followers[node].state

    def files(self) -> list[Path]:
        return list(self.directory.iterdir())


@pytest.fixture
async def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


# Sent


async def test_one_copy_serves_all_who_ask_while_it_is_fresh_one_after_another(bench: Bench) -> None:
    leading(bench.raft)
    bench.duty.send_to(2)
    bench.duty.send_to(3)
    first = await bench.courier.stream(0)
    await settled()
    assert bench.courier.receivers == [2]

    first.set_result(5)
    (await bench.courier.stream(1)).set_result(5)
    await eventually(lambda: bench.duty.oldest_index_in_use is None)

    assert bench.courier.receivers == [2, 3]
    assert bench.courier.contents == [b"image", b"image"]
    assert bench.machine.prepared_count == 1
    assert bench.files() == []


async def test_a_snapshot_is_announced_as_what_it_holds(bench: Bench) -> None:
    leading(bench.raft)
    bench.duty.send_to(2)
    await bench.courier.stream(0)

    message = bench.courier.streams[0][0]

    assert message == InstallSnapshot(sender=1, receiver=2, term=bench.raft.term, snapshot=META)
    bench.duty.cancel()


async def test_the_log_behind_a_snapshot_under_way_is_in_use_until_it_has_arrived(bench: Bench) -> None:
    leading(bench.raft)
    assert bench.duty.oldest_index_in_use is None
    bench.duty.send_to(2)
    stream = await bench.courier.stream(0)

    assert bench.duty.oldest_index_in_use == META.index
    stream.set_result(5)
    await eventually(lambda: bench.duty.oldest_index_in_use is None)


async def test_raft_goes_on_behind_a_snapshot_that_arrived(bench: Bench) -> None:
    raft = leading(bench.raft)
    fallen_behind(raft, 2)
    assert carried_out(raft) == [2]
    bench.duty.send_to(2)

    (await bench.courier.stream(0)).set_result(5)
    await eventually(lambda: bench.duty.oldest_index_in_use is None)

    assert bench.state_of(2) is ProgressState.PROBE
    assert raft.status().followers[2].next_index == META.index + 1


@pytest.mark.parametrize("error", [PeerError("unreachable"), OSError("broken pipe")])
async def test_raft_hears_of_a_snapshot_that_did_not_arrive(bench: Bench, error: Exception) -> None:
    raft = leading(bench.raft)
    fallen_behind(raft, 2)
    assert carried_out(raft) == [2]
    woken: list[bool] = []
    bench.on_events = lambda: woken.append(True)
    bench.duty.send_to(2)
    bench.duty.send_to(3)

    (await bench.courier.stream(0)).set_exception(error)
    (await bench.courier.stream(1)).set_result(5)  # The next one gets it nevertheless.
    await eventually(lambda: bench.duty.oldest_index_in_use is None)

    assert bench.state_of(2) is not ProgressState.SNAPSHOT
    assert woken
    assert bench.files() == []


async def test_who_asks_at_the_very_end_of_a_stream_is_served_too(bench: Bench) -> None:
    """What the end of a stream makes Raft want is handled before the task that sends has quite ended."""
    leading(bench.raft)
    bench.duty.send_to(2)
    stream = await bench.courier.stream(0)

    def ask_once() -> None:
        bench.on_events = lambda: None
        bench.duty.send_to(3)

    bench.on_events = ask_once
    stream.set_result(5)

    (await bench.courier.stream(1)).set_result(5)
    await eventually(lambda: bench.duty.oldest_index_in_use is None)
    assert bench.courier.receivers == [2, 3]


async def test_who_asks_later_gets_a_new_copy(bench: Bench) -> None:
    leading(bench.raft)
    for number in range(2):
        bench.duty.send_to(2)
        (await bench.courier.stream(number)).set_result(5)
        await eventually(lambda: bench.duty.oldest_index_in_use is None)

    assert bench.machine.prepared_count == 2


async def test_a_node_that_leads_no_longer_sends_none(bench: Bench) -> None:
    leading(bench.raft)
    bench.duty.send_to(2)
    bench.duty.send_to(3)
    stream = await bench.courier.stream(0)

    bench.raft.step(HeartbeatRequest(sender=3, receiver=1, term=9, commit_index=0))
    stream.set_result(5)
    await eventually(lambda: bench.duty.oldest_index_in_use is None)

    assert bench.courier.receivers == [2]
    assert bench.files() == []


async def test_a_stream_is_broken_off_when_this_node_leads_no_longer(bench: Bench) -> None:
    leading(bench.raft)
    bench.duty.send_to(2)
    bench.duty.send_to(3)
    stream = await bench.courier.stream(0)
    bench.duty.reconsider(removed=())
    await settled()
    assert not stream.done()

    bench.raft.step(HeartbeatRequest(sender=3, receiver=1, term=9, commit_index=0))
    bench.duty.reconsider(removed=())
    await eventually(lambda: bench.duty.oldest_index_in_use is None)

    assert stream.cancelled()
    assert bench.courier.receivers == [2]
    assert bench.files() == []


async def test_a_receiver_that_is_removed_holds_up_nobody(bench: Bench) -> None:
    leading(bench.raft)
    for node in (2, 4, 3):
        bench.duty.send_to(node)
    stream = await bench.courier.stream(0)

    bench.duty.reconsider(removed={2, 4})
    (await bench.courier.stream(1)).set_result(5)
    await eventually(lambda: bench.duty.oldest_index_in_use is None)

    assert stream.cancelled()
    assert bench.courier.receivers == [2, 3]


class Hanging:
    """A stream whose receiver has a disk that hangs."""

    def __init__(self) -> None:
        self.receivers: list[int] = []
        self.cancelled: list[int] = []

    async def send_snapshot(self, message: InstallSnapshot, path: Path) -> int:
        self.receivers.append(message.receiver)
        try:
            return await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            self.cancelled.append(message.receiver)
            raise


@pytest.mark.parametrize("what", ["the leader is cut off", "the receiver is removed"])
async def test_a_node_breaks_off_a_snapshot_that_is_not_wanted_any_more(tmp_path: Path, what: str) -> None:
    config = dataclasses.replace(TICKING, entries_retained=1, log_bytes_retained=8)
    async with cluster(tmp_path, config=config) as members:
        leader, hanging = members[1], Hanging()
        leader.link.send_snapshot = hanging.send_snapshot  # type: ignore[method-assign]
        leader.network.isolate(3)
        for number in range(5):
            await leader.put(b"key %d" % number)
        leader.applier.commit()
        await eventually(lambda: leader.raft.first_index > members[3].raft.last_index + 1)
        leader.network.heal()
        await eventually(lambda: hanging.receivers)

        if what == "the leader is cut off":
            leader.network.isolate(1)
        else:
            changes = Members(leader.node, forward=forward_nothing, connected=lambda: set(members))
            await changes.change(store_pb2.MemberChange(remove=3), timeout_s=TIMEOUT_S)

        await eventually(lambda: hanging.cancelled == [3])


async def forward_nothing(leader: int, change: store_pb2.MemberChange, timeout_s: float) -> MemberTable:
    raise Unavailable(LEADER_CHANGED, outcome=Outcome.NOT_APPLIED)


async def test_a_copy_that_cannot_be_made_is_reported_to_raft_and_does_not_stop_the_leader(bench: Bench) -> None:
    leading(bench.raft)
    bench.machine.error = DiskFullError("no space")
    woken: list[Any] = []
    bench.on_events = lambda: woken.append(bench.inbox.take())

    bench.duty.send_to(2)
    await eventually(lambda: woken)

    assert woken == [None], "woken to go on, not told of a failure"
    assert bench.courier.receivers == []
    assert bench.files() == []


async def test_cancelled_while_sending_leaves_no_file(bench: Bench) -> None:
    leading(bench.raft)
    bench.duty.send_to(2)
    stream = await bench.courier.stream(0)

    bench.duty.cancel()
    await eventually(lambda: bench.files() == [])

    assert stream.cancelled()
    assert bench.duty.oldest_index_in_use is None


# Received


def received(bench: Bench, index: int) -> tuple[InstallSnapshot, Path]:
    path = bench.directory / f"incoming.{index}"
    path.write_bytes(b"image")
    meta = SnapshotMeta(index, 1, META.membership)
    return InstallSnapshot(sender=2, receiver=1, term=1, snapshot=meta), path


async def test_a_snapshot_that_raft_wants_goes_to_the_state_machine(bench: Bench) -> None:
    message, path = received(bench, 9)

    bench.duty.offer(message, path)
    assert bench.raft.ready().install == message.snapshot
    bench.duty.install(message.snapshot)
    bench.duty.discard_received()

    assert bench.applier.installed == [(path, message.snapshot)]
    assert path.exists()  # It is the state machine's now.


async def test_a_snapshot_that_nobody_wants_is_removed(bench: Bench) -> None:
    message, path = received(bench, 4)

    bench.duty.offer(message, path)
    assert bench.raft.ready().install is None
    bench.duty.discard_received()

    await eventually(lambda: bench.files() == [])
    assert bench.applier.installed == []


async def test_installing_what_did_not_arrive_is_a_bug(bench: Bench) -> None:
    with pytest.raises(AssertionError, match="no snapshot at hand"):
        bench.duty.install(META)


async def test_stopping_removes_what_was_received(bench: Bench) -> None:
    bench.duty.offer(*received(bench, 9))

    bench.duty.cancel()

    await eventually(lambda: bench.files() == [])


async def test_no_file_is_removed_on_the_loop(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """One as large as the database takes its time."""
    threads: list[threading.Thread] = []
    unlink = Path.unlink

    def watched(path: Path, **options: bool) -> None:
        unlink(path, **options)
        threads.append(threading.current_thread())

    monkeypatch.setattr(Path, "unlink", watched)
    leading(bench.raft)
    bench.duty.send_to(2)
    (await bench.courier.stream(0)).set_result(5)
    bench.duty.remove(received(bench, 9)[1])
    await eventually(lambda: len(threads) == 2)

    assert bench.files() == []
    assert threading.main_thread() not in threads


# The directory


def test_the_directory_begins_without_what_a_crash_left(tmp_path: Path) -> None:
    directory = empty_directory(tmp_path / "snapshots")
    (directory / "outgoing.snapshot").write_bytes(b"half")
    (directory / "incoming.1").write_bytes(b"half")

    assert empty_directory(directory) == directory
    assert list(directory.iterdir()) == []

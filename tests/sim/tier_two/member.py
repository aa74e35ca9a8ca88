"""One node of tier two: the product's node, log, state machine and recovery, on a fake disk and in a process that can die.

Put together as `raftkv.server.assembly` does. What may not live here: faults (`nemesis`), judgements (`checkers`, `watch`).
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from raftkv.errors import LEADER_CHANGED, MemberRemovedError, Outcome, StorageError, Unavailable
from raftkv.node import ApplyQueue, Node, NodeConfig, recover_raft
from raftkv.node.events import Failed, PeerDead, PeerLost, Received, SnapshotReceived
from raftkv.node.health import Watchdogs
from raftkv.node.members import Members
from raftkv.node.snapshots import empty_directory
from raftkv.node.watchdogs import Monitor
from raftkv.pb import rpc_pb2, store_pb2
from raftkv.raft import InstallSnapshot, Membership, MembershipChange, MembershipChangeRefused, Message, RaftConfig
from raftkv.statemachine import Bootstrap, MemberTable, StateMachine, StoreLimits
from raftkv.storage import DataDir, Identity, WalOptions, WalQueue
from tests.sim.calls import describe
from tests.sim.checkers import Checkers, View, Violation
from tests.sim.swarm import ELECTION_TIMEOUT_TICKS, MS
from tests.sim.tier_two.disk import Files, Mirror, MirroredWal
from tests.sim.tier_two.link import Link
from tests.sim.tier_two.loop import Process, VirtualLoop
from tests.sim.tier_two.ports import VirtualApplier, VirtualLog
from tests.sim.tier_two.rpc import call
from tests.sim.tier_two.swarm import Afflictions
from tests.sim.tier_two.watch import StateWatch, watch_core
from tests.sim.world import World

CLUSTER = 0xC1
DATA = Path("/data")
"""On the fake disk; each node has one of its own."""
MAP_BYTES = 32 << 20
"""Never full: growing the map waits for readers on other threads, and here is only one."""
LAST_WORDS = 5 * MS
"""Between a node's stopping by itself and the end of its process."""
TORN_OPERATIONS_MAX = 5


class Member:
    """Owns one node through all its lives."""

    def __init__(
        self,
        node: int,
        *,
        world: World,
        loop: VirtualLoop,
        checkers: Checkers,
        states: StateWatch,
        afflictions: Afflictions,
        initial: Membership,
        table: list[rpc_pb2.Member],
        members: dict[int, Member],
        tick: int,
        directory: Path,
    ) -> None:
        self.id = node
        self.world = world
        self.loop = loop
        self.checkers = checkers
        self.states = states
        self.afflictions = afflictions
        self.members = members
        self.tick_length = tick
        self.incarnation = 0
        self.is_up = False
        self.slow_disk = 1
        self.mirror = Mirror(f"n{node}")
        self.counted_by: tuple[Membership, int] = (initial, 0)
        self.proposed_membership = False
        self.view: View | None = None
        self.death_expected = False
        self.dies_installing = False
        """It will not survive the next snapshot that it receives, if it has not been restarted by then."""
        self.is_removed = False
        self._initial = initial
        self._table = table
        self._directory = directory / f"n{node}"
        self._directory.mkdir()
        self._files = Files()
        self._lost_power = False
        self.start()

    @property
    def disk(self) -> Any:
        """What is durable of its log."""
        return self.mirror.disk

    @property
    def is_paused(self) -> bool:
        return self.is_up and self.process.is_paused

    @property
    def snapshot_dir(self) -> Path:
        return self._directory / "snapshots"

    # Life

    def start(self) -> None:
        """Unless it was removed: then its data is of no further use."""
        if self.is_removed:
            return
        self.process = Process(self._after_step)
        self.process.run(self._start)

    def _start(self) -> None:
        world, sick = self.world, self.afflictions
        random_bytes = random.Random(world.rng.getrandbits(64)).randbytes
        options = WalOptions(segment_bytes=sick.segment_bytes)
        self._data_dir = DataDir.open(
            DATA,
            create=Identity(CLUSTER, self.id, f"n{self.id}"),
            wal_options=options,
            files=self._files,
            random_bytes=random_bytes,
        )
        self.machine = StateMachine.open(
            self._directory / "state",
            create=Bootstrap(cluster_id=CLUSTER, members=self._table, membership=self._initial),
            limits=StoreLimits(
                map_bytes=MAP_BYTES,
                commit_interval_s=sick.commit_interval_s,
                commit_operations=sick.commit_operations,
                compact_records=sick.compact_records,
            ),
            clock=self.loop.time,
        )
        wal, recovered = MirroredWal.open(
            self._data_dir.wal_path, options=options, files=self._files, new_salt=lambda: random_bytes(8)
        )
        assert isinstance(wal, MirroredWal)
        wal.mirror = self.mirror
        self.mirror.restarted(recovered, lost_power=self._lost_power)
        self._lost_power = False
        self._files.on_log_synced = self.mirror.synced
        self.raft = recover_raft(
            self._raft_config(), wal, recovered, self.machine, random.Random(world.rng.getrandbits(64))
        )
        self.incarnation = self._data_dir.incarnation
        self.view = self.checkers.started(self, self.view)
        self.raft.check()
        self._note_configuration()
        watch_core(self)
        self._start_node(wal)
        self.is_up, self.death_expected, self.dies_installing = True, False, False
        if world.trace is not None:
            applied = self.machine.applied_index
            world.say(
                self,
                f"starts, run {self.incarnation}: term {self.raft.term}, "
                f"log {self.raft.first_index}..{self.raft.last_index}, applied {applied}",
            )

    def _start_node(self, wal: MirroredWal) -> None:
        swarm, sick = self.world.swarm, self.afflictions.watchdog_s
        self.node = Node(
            self.raft,
            config=NodeConfig(
                tick_s=self.tick_length / 1e6,
                repropose_ticks=swarm.repropose_ticks,
                entries_retained=swarm.retained,
                log_bytes_retained=self.afflictions.log_bytes_retained,
            ),
            cluster_id=CLUSTER,
            incarnation=self.incarnation,
            members=self.machine.members,
            removed=self.machine.table.removed,
            monitor=Monitor(
                Watchdogs(fsync_s=sick, apply_s=sick, loop_s=sick, recovery_s=self.afflictions.recovery_s),
                clock=self.loop.time,
                log_write_since=lambda: self.log.in_flight_since(),
            ),
        )
        post = self.node.inbox.post
        self._log_queue = WalQueue(wal, failed=lambda error: post(Failed(error)), clock=self.loop.time)
        self.log = VirtualLog(self._log_queue, self._save_delay)
        apply_queue = ApplyQueue(self.machine, post, wanted=(self.id, self.incarnation))
        applier = VirtualApplier(apply_queue, self._apply_delay, lambda: self.states.look(self))
        self.link = Link(self)
        self.roster = Members(self.node, self._forward, lambda: self.link.connected)
        self.node.start(
            log_writer=self.log,
            transport=self.link,
            applier=applier,
            snapshot_dir=empty_directory(self.snapshot_dir),
        )

    def _raft_config(self) -> RaftConfig:
        swarm = self.world.swarm
        return RaftConfig(
            node_id=self.id,
            election_timeout_ticks=ELECTION_TIMEOUT_TICKS,
            heartbeat_interval_ticks=2,
            append_bytes_max=swarm.append_bytes_max,
            inflight_appends_max=swarm.inflight_appends_max,
            uncommitted_bytes_max=swarm.uncommitted_bytes_max,
            committed_bytes_max=swarm.committed_bytes_max,
        )

    async def _forward(self, leader: int, change: store_pb2.MemberChange, timeout_s: float) -> MemberTable:
        """Pass a change of the members on to the leader."""
        if leader not in self.link.connected:
            raise Unavailable(LEADER_CHANGED, outcome=Outcome.NOT_APPLIED)
        table: MemberTable = await call(
            self.world,
            self.members[leader],
            lambda other: other.roster.lead(change, timeout_s=timeout_s),
            timeout_s,
        )
        return table

    def crash(self) -> None:
        """The process is killed, or its machine loses power; perhaps in the middle of a write."""
        rng, sick = self.world.rng, self.afflictions
        has_power, is_torn, is_noticed = rng.random() >= sick.power, rng.random() < sick.torn, rng.random()
        if is_torn and self._log_queue.backlog:
            self._files.crash_at = self._files.operations + rng.randrange(1, TORN_OPERATIONS_MAX + 1)
            self.process.run(self._log_queue.work)
        if self.world.trace is not None:
            how = "KILLED" if has_power else "LOSES POWER"
            torn = " in the middle of a write" if self._files.operations == self._files.crash_at else ""
            self.world.say(self, f"{how}{torn}, {self.mirror.unsynced} groups not synced")
        self._end(lost_power=not has_power)
        if has_power and is_noticed < sick.evidence:
            self._is_noticed()

    def _end(self, *, lost_power: bool) -> None:
        self.loop.kill(self.process)
        self.is_up = False
        while self.node.inbox.take() is not None:
            pass
        self.machine.close(commit=False)
        self._lost_power |= lost_power
        if lost_power:
            self._files = self._files.after_crash(self.world.rng)
        else:
            self._files.after_kill()

    def end(self) -> None:
        """The run is over."""
        if self.is_up:
            self._end(lost_power=False)

    def _is_noticed(self) -> None:
        """A dead process's connections break, and it refuses new ones."""
        for other in self.members.values():
            if other is not self and other.is_up and (self.id, other.id) not in self.world.cut:
                self.world.after(self.world.about(3 * MS), other.peer_lost, self.id)
                self.world.after(self.world.about(6 * MS), other.peer_dead, self.id)

    def _after_step(self) -> None:
        """Something has happened in this node."""
        if self.node.stopped.done():
            self._stopped()
        elif not self.raft.has_ready():
            self.checkers.after(self)
            self.proposed_membership = False
            self._note_configuration()
            self.world.digest(self)

    def _stopped(self) -> None:
        error = self.node.stopped.exception()
        if isinstance(error, MemberRemovedError):
            self.is_removed = self.death_expected = True
        if not (self.death_expected and isinstance(error, (StorageError, MemberRemovedError))):
            if isinstance(error, Violation):
                raise error
            raise Violation("nodes go on", f"{self} stopped: {type(error).__name__}: {error}") from error
        self.process.after_step = lambda: None
        if self.world.trace is not None:
            self.world.say(self, f"stops: {error}")
        self.world.after(LAST_WORDS, self._exit, self.incarnation)

    def _exit(self, incarnation: int) -> None:
        """What a disk that failed to sync holds is anybody's guess, as after a power cut."""
        if self.is_up and self.incarnation == incarnation:
            self._end(lost_power=True)
            self._is_noticed()

    def _note_configuration(self) -> None:
        """By which configuration the leader will count in its next step, and where that one is in the log."""
        assert self.view is not None
        since, membership = self.view.configs[-1]
        self.counted_by = (membership, since)

    # What befalls it

    def pause(self, duration: int) -> None:
        """The process stands still. What happens to it meanwhile, happens when it goes on."""
        self.process.is_paused = True
        self.world.after(duration, self._resume, self.process)

    def _resume(self, process: Process) -> None:
        if process is self.process:
            self.resume()

    def resume(self) -> None:
        if self.process.is_paused:
            self.loop.resume(self.process)

    def recover(self) -> None:
        """Whatever ailed it is over: it runs, and its disk is quick and sound from now on."""
        self.slow_disk, self.dies_installing = 1, False
        if self.is_up and self.death_expected:
            self._end(lost_power=True)
        if not self.is_up:
            self.start()
            return
        self.resume()
        self.process.run(self.log.recover)

    def disk_fails(self) -> None:
        """The log's next write fails, or its next sync."""
        failing = self.world.rng.choice(("write", "sync"))

        def fail(operation: str, path: Path) -> None:
            if operation == failing and path.parent.name == "wal":
                raise OSError(5, "Input/output error")

        self.death_expected = True
        self._files.fail = fail

    def disk_hangs(self, duration: int) -> None:
        self.process.run(self.log.hang, duration / 1e6)

    # What it is told

    def receive(self, message: Message) -> None:
        if not self.is_up or not self.link.hears(message.sender):
            return
        if self.world.trace is not None:
            self.say_received(message)
        self._post(Received([message]))

    def say_received(self, message: Any) -> None:
        if self.world.trace is not None:
            self.world.say(self, f"<- {describe(message)}")

    def peer_lost(self, node: int) -> None:
        self._post(PeerLost(node))

    def peer_dead(self, node: int) -> None:
        self._post(PeerDead(node))

    def leader_gone(self) -> None:
        """So says the evidence."""
        if self.raft.leader not in (0, self.id):
            self.peer_lost(self.raft.leader)
            self.peer_dead(self.raft.leader)

    def transfer_leadership(self, target: int) -> None:
        if not self.is_paused:
            self.process.run(self.node.transfer_leadership, target)

    def change_membership(self, change: MembershipChange) -> None:
        if self.is_paused:
            raise MembershipChangeRefused("it stands still")
        self.process.run(self.raft.propose_membership, change, b"")
        self.process.run(self.node.inbox.wake)

    def compact_now(self) -> None:
        """The next commit comes now, and with it a look at the log."""
        self.process.run(self.node.run, _commit)

    def snapshot_received(self, message: InstallSnapshot, path: Path) -> None:
        self.say_received(message)
        self._post(SnapshotReceived(message, path))
        if self.dies_installing:
            self.dies_installing = False
            moment = self.world.rng.randrange(1, 2 * (self.world.swarm.apply_delay + self.world.swarm.save_delay))
            self.world.after(moment, self._die, self.process)

    def _die(self, process: Process) -> None:
        if self.is_up and process is self.process and self.world.is_hostile:
            self.crash()

    def _post(self, event: Any) -> None:
        if self.is_up:
            self.process.run(self.node.inbox.post, event)

    # What it is

    @property
    def state(self) -> int:
        """Equal at equal applied indexes."""
        return self.states.digest(self.machine)

    @property
    def is_idle(self) -> bool:
        return self.node.is_idle

    def _save_delay(self) -> int:
        swarm = self.world.swarm
        if not self.world.is_hostile:
            return self.world.about(min(swarm.save_delay, 2 * MS))
        return self.world.about(swarm.save_delay) * self.slow_disk

    def _apply_delay(self) -> int:
        delay = self.world.swarm.apply_delay
        return self.world.about(delay if self.world.is_hostile else min(delay, MS))

    def __str__(self) -> str:
        return f"n{self.id}"


def _commit(machine: StateMachine) -> None:
    machine.commit()

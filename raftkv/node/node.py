"""The one owner of a node's Raft core: feeds it, and carries out what it asks for.

    ticks, peers' messages, saves done, entries applied, clients' commands
                          │  inbox, on the loop
                          ▼
                 Raft.step / tick / propose / saved / applied
                          │  Ready
        ┌─────────────────┼──────────────────┬─────────────────────┐
    transport          log thread       apply thread          held callers

Everything here runs on the event loop, in one callback at a time, and never waits: no await stands between looking at the
core's state and acting on it, so no role or term can change in between.

What may not live here: bytes (wire, storage), gRPC, LMDB, and the rules of Raft.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from raftkv.errors import REMOVED, STOPPED, MemberRemovedError, Outcome, RaftkvError, Unavailable
from raftkv.node.compaction import LogRetention
from raftkv.node.config import NodeConfig
from raftkv.node.events import (
    Applied,
    Called,
    Committing,
    Durable,
    Failed,
    Foreseen,
    Installed,
    PeerConnected,
    PeerDead,
    PeerLost,
    Received,
    Saved,
    SnapshotReceived,
)
from raftkv.node.flight_record import FlightRecord
from raftkv.node.health import Health
from raftkv.node.inbox import Inbox
from raftkv.node.leader_watch import LeaderWatch
from raftkv.node.lease_duty import LeaseDuty
from raftkv.node.newcomers import Newcomers
from raftkv.node.ports import ApplierPort, LogPort, TransportPort
from raftkv.node.requests import Requests
from raftkv.node.saves import SaveQueue
from raftkv.node.snapshots import SnapshotDuty
from raftkv.node.succession import Succession
from raftkv.node.ticker import Ticker
from raftkv.node.watchdogs import Monitor
from raftkv.pb import rpc_pb2
from raftkv.raft import MembershipChange, Raft, Ready, RoleName
from raftkv.raft.messages import InstallSnapshot
from raftkv.raft.ready import SoftState
from raftkv.raft.types import NO_NODE, NodeId, SnapshotMeta
from raftkv.statemachine import MemberTable, StateMachine

log = logging.getLogger("raftkv.node")

T = TypeVar("T")

ADD_ANEW = "to use the machine again, add a new member and start it with an empty data directory"


class Node:
    """One member of the cluster.

    Construct it on the running loop with the real log, transport and applier, whose reports go to `inbox.post`; then
    `start()`. `stopped` resolves when the node has stopped by itself: with the exception that stopped it.
    """

    def __init__(
        self,
        raft: Raft,
        *,
        config: NodeConfig,
        cluster_id: int,
        incarnation: int,
        members: list[rpc_pb2.Member],
        removed: frozenset[NodeId] = frozenset(),
        flight: FlightRecord | None = None,
        monitor: Monitor | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._raft = raft
        self._config = config
        self.cluster_id = cluster_id
        self.inbox = Inbox(self._loop, self._advance)
        self._requests = Requests(
            raft, incarnation=incarnation, repropose_ticks=config.repropose_ticks, wake=self.inbox.wake
        )
        self.stopped: asyncio.Future[None] = self._loop.create_future()
        self.members = members
        self.removed = removed
        self.members_index = raft.applied_index
        """`members` and `removed` are as of this entry."""
        self.bytes_on_disk = 0
        """Size of the database file, as of the last commit; `bytes_in_use` without its free pages."""
        self.bytes_in_use = 0
        self.leader_changes = 0
        """How often a leader has come, since the start."""
        self.flight = flight if flight is not None else FlightRecord(run=incarnation)
        self.flight.observe(raft, tick_s=config.tick_s, name_of=self.name_of)
        self._monitor = monitor
        self.health = Health()
        """How fit to lead this node finds itself; without a monitor always well."""
        self._soft_state = SoftState(NO_NODE, RoleName.FOLLOWER, raft.term)
        self._succession = Succession(raft, self.inbox)
        self._retention = LogRetention(config.entries_retained, config.log_bytes_retained)
        self._ticker = Ticker(config.tick_s, self._tick)
        self._leader_watch = LeaderWatch()
        self._newcomers = Newcomers()
        self._leases = LeaseDuty(raft, tick_ms=1000 * config.tick_s)
        self._apply_queued_index = raft.applied_index
        self._has_stopped = False

    def start(self, *, log_writer: LogPort, transport: TransportPort, applier: ApplierPort, snapshot_dir: Path) -> None:
        """Begin to tick. The ports must be ready to work; snapshots on their way to peers are kept in `snapshot_dir`."""
        self._log_writer = log_writer
        self._transport = transport
        self._applier = applier
        self._requests.start(applier)
        self._saves = SaveQueue(log_writer, transport, self.inbox)
        self._snapshots = SnapshotDuty(
            self._raft, applier, transport, self.inbox, directory=snapshot_dir, flight=self.flight
        )
        self._newcomers.appended(self._raft.entries(self._raft.applied_index + 1))
        self._publish_peers()
        self.flight.started()
        self._ticker.start()
        if self._raft.membership.voters == {self._raft.node_id}:
            self._raft.campaign()  # Nobody else could lead: there is nothing to wait for.
        self.inbox.wake()

    # What the server asks -------------------------------------------------------------------------------------------

    @property
    def raft(self) -> Raft:
        """To look at, never to step: status, leader, term, indexes."""
        return self._raft

    async def submit(self, commands: bytes, count: int, *, timeout_s: float) -> list[Any]:
        """Have commands applied, through an election if need be, and return their answers in order.

        An answer is an etcd response message, or a `RequestError` (as a value) for a command that was refused.

        Args:
            commands: serialized `CommandBatch.commands`, all valid.
            count: how many commands these are.
            timeout_s: how long to hold them.

        Raises:
            Unavailable, DeadlineExceeded: with `outcome` NOT_APPLIED when the commands were never proposed and never will
                be, else UNKNOWN.
            ResourceExhausted: the queue is full.
        """
        self._check_running()
        return await self._requests.submit(commands, count, timeout_s=timeout_s)

    async def read(self, job: Callable[[StateMachine], T], *, timeout_s: float) -> T:
        """Run `job` on a state that holds every write acknowledged, by any node, before this call.

        Raises:
            RequestError: what the job raised.
            Unavailable, DeadlineExceeded: no leader confirmed it in time.

        Source: Raft dissertation §6.4 (ReadIndex).
        """
        self._check_running()
        return await self._requests.read(job, timeout_s=timeout_s)

    async def read_local(self, job: Callable[[StateMachine], T], *, timeout_s: float) -> T:
        """Run `job` on this node's state as it is: perhaps behind the cluster's (etcd: serializable)."""
        self._check_running()
        return await self._requests.read_local(job, timeout_s=timeout_s)

    def run(self, job: Callable[[StateMachine], T], done: Callable[[T], None] = lambda _: None) -> None:
        """Have `job` run on the state machine's thread, and `done(result)` on the loop, in the order of what it reports.

        `done` is not called if the node stops first.
        """
        self._applier.call(job, done)

    def observe(self, observer: Callable[[StateMachine], Called | None] | None) -> None:
        """Have `observer` look at the state machine, on its thread, whenever that has changed; None: no longer."""
        self._applier.observe(observer)

    async def hash_kv(self, revision: int, *, timeout_s: float) -> tuple[int, int, int]:
        """Hash of everything visible at `revision` (0: now), the compact revision, and the revision hashed.

        Raises:
            Compacted, FutureRevision: that revision cannot be hashed.
        """
        compute = await self.read_local(lambda machine: machine.prepare_hash(revision), timeout_s=timeout_s)
        result = await asyncio.to_thread(compute)
        return result.hash, result.compact_revision, result.revision

    async def compacted(self, *, timeout_s: float) -> None:
        """Return when this node has physically removed what was compacted before the call."""
        while await self.read_local(lambda machine: machine.compact_some(), timeout_s=timeout_s):
            pass

    @property
    def proposals_pending(self) -> int:
        """Writes of this node's clients that wait for their answer."""
        return self._requests.proposals_pending

    @property
    def proposals_failed(self) -> int:
        """Such writes that ended without one, since the start."""
        return self._requests.proposals_failed

    @property
    def is_idle(self) -> bool:
        """Nobody waits for an answer."""
        return self._requests.is_idle

    async def wait_for_leader(self) -> None:
        """Return once some node leads, in this node's eyes.

        Raises:
            Unavailable: the node stops.
        """
        while self._raft.leader == NO_NODE:
            await self.leader_changed()

    async def leader_changed(self) -> None:
        """Return when another node leads, or none any more, in this node's eyes.

        Raises:
            Unavailable: the node stops.
        """
        self._check_running()
        await self._leader_watch.next_change()

    def hold_requests(self, is_holding: bool) -> None:
        """Let what clients ask wait here from now on, what is under way apart; False: no longer."""
        self._requests.hold(is_holding)

    @property
    def requests_progress(self) -> tuple[int, int]:
        """What changes when a client asks or is answered: requests since the start, and batches of writes under way."""
        return self._requests.progress

    def propose_membership(self, change: MembershipChange, data: bytes) -> int:
        """Append a change of the membership; the index of its entry.

        Raises:
            NotLeader, MembershipChangeRefused: see `Raft.propose_membership`.
        """
        self._check_running()
        index = self._raft.last_index + 1
        self._raft.propose_membership(change, data)
        self.inbox.wake()
        return index

    def transfer_leadership(self, target: NodeId = NO_NODE) -> None:
        """Ask for another leader: `target`, or the most up-to-date follower."""
        self._raft.transfer_leadership(target)
        self.inbox.wake()

    def stop(self, message: str = STOPPED) -> None:
        """Stop ticking and answering. What callers still wait for fails with its truthful outcome."""
        if self._has_stopped:
            return
        self._has_stopped = True
        self._ticker.stop()
        self._requests.fail_all(message)
        self._leader_watch.fail_all(message)
        self._succession.cancel()
        self._snapshots.cancel()
        self.inbox.wake()
        if not self.stopped.done():
            self.stopped.set_result(None)

    # The loop's side ------------------------------------------------------------------------------------------------

    def _tick(self, ticks: int, missed_ticks: int, lag_s: float) -> None:
        self.flight.ticked(lag_s)
        try:
            self._look_after_health(lag_s)
            self._raft.ticks_missed(missed_ticks)
            for _ in range(ticks):
                self._raft.tick()
            self._leases.tick(ticks + missed_ticks)
            self._requests.tick()
        except Exception as error:
            self._fail(error)
            return
        self.inbox.wake()

    def _look_after_health(self, loop_lag_s: float) -> None:
        """Judge this node anew; the core acts on it, and the peers are told with the next heartbeat's answer."""
        if self._monitor is None:
            return
        before = self.health
        self.health = self._monitor.look(self._raft, apply_queued_index=self._apply_queued_index, loop_lag_s=loop_lag_s)
        if self.health.severity is before.severity:
            return
        self._raft.set_severity(self.health.severity)
        reasons = "; ".join(self.health.reasons)
        self.flight.note("health", severity=self.health.severity.name.lower(), reasons=reasons)
        log.warning("this node is %s%s", self.health.severity.name.lower(), f": {reasons}" if reasons else " again")

    def _advance(self) -> None:
        if self._has_stopped:
            while self.inbox.take() is not None:
                pass  # A result may hold a view of the state, and closing that waits for the view: let go of it.
            return
        try:
            while (event := self.inbox.take()) is not None:
                self._handle(event)
            self._requests.pump()
            while self._raft.has_ready():
                self._carry_out(self._raft.ready())
                self._requests.pump()
        except BaseException as error:
            self._fail(error)

    def _handle(self, event: Any) -> None:
        match event:
            case Received(messages):
                self.flight.heard(messages)
                for message in messages:
                    self._raft.step(message)
            case Saved(mark):
                self._saves.saved(mark)
                self._raft.saved(mark)
            case Applied(index, batches, members_changed, clock):
                self._raft.applied(index)
                self._leases.applied(clock)
                self._requests.applied(batches)
                if members_changed:
                    self._look_at_members()
            case Committing(foresee):
                foresee()
            case Foreseen(batches):
                self._requests.applied(batches)
            case Called(done, result):
                done(result)
            case Durable(index, bytes_on_disk, bytes_in_use):
                self.bytes_on_disk, self.bytes_in_use = bytes_on_disk, bytes_in_use
                self._compact_log(index)
            case PeerConnected(node):
                self.flight.peer_connected(node)
                if node == self._raft.leader:
                    self._requests.ask_again()  # What was sent while there was no stream went nowhere.
            case PeerLost(node, reason):
                self.flight.peer_lost(node, reason)
                self._raft.peer_unreachable(node)
                if node == self._raft.leader:
                    self._requests.ask_again()
            case PeerDead(node, evidence):
                self.flight.peer_dead(node, evidence)
                self._succession.leader_died(node)
            case SnapshotReceived(message, path):
                self._take_snapshot(message, path)
            case Installed(snapshot):
                self.flight.snapshot("installed", index=snapshot.index)
                self._installed(snapshot.index)
            case Failed(error):
                raise error
            case _:
                raise AssertionError(f"unknown event {event!r}")

    def _carry_out(self, ready: Ready) -> None:
        """Do what a Ready asks for; see `raftkv.raft.ready` for the contract."""
        self.flight.noticed(ready.notices)
        if ready.messages:
            self._transport.send(ready.messages)
        if ready.install is not None:
            self._saves.hold()
            self._snapshots.install(ready.install)
            self._apply_queued_index = ready.install.index
        if ready.save is not None:
            if self._newcomers.appended(ready.save.entries):
                self._publish_peers()
            self._saves.save(ready.save, ready.messages_after_save)
        else:
            assert not ready.messages_after_save, "promises about our disk without a save"
        if ready.committed:
            self._retention.add(ready.committed)
            self._applier.apply(ready.committed)
            self._apply_queued_index = ready.committed[-1].index
        self._requests.confirmed(ready.read_states, applied_index=self._apply_queued_index)
        for node in ready.snapshots_wanted:
            self._snapshots.send_to(node)
        if ready.proposals_rejected:
            self._requests.rejected()
        if ready.soft_state is not None:
            self._soft_state_changed(ready.soft_state)
            self._snapshots.reconsider(self.removed)

    def _take_snapshot(self, message: InstallSnapshot, path: Path) -> None:
        """One at a time, to its end: a second one that comes in between is as good as lost, and sent again if it is needed."""
        if self._saves.is_holding:
            self._snapshots.remove(path)
            return
        self._snapshots.offer(message, path)
        if self._raft.has_ready():
            self._carry_out(self._raft.ready())
        self._snapshots.discard_received()

    def _installed(self, index: int) -> None:
        """The snapshot is the state: what was held back for it goes on."""
        self._saves.release()
        self._retention.reset()
        self._raft.applied(index)
        self._requests.installed()
        self._look_at_members()  # Last: it may say that we are removed, and then what was not in the snapshot never will be.

    def _soft_state_changed(self, state: SoftState) -> None:
        before, self._soft_state = self._soft_state, state
        if state.is_cut_off != before.is_cut_off:
            self._cut_off(state.is_cut_off)
            if dataclasses.replace(before, is_cut_off=state.is_cut_off) == state:
                return
        name = self.name_of(state.leader)
        self.flight.leader_changed(state)
        self._leader_watch.changed()
        if state.leader == NO_NODE:
            log.warning("no leader at term %d; this node is %s", state.term, state.role.value)
            return
        self.leader_changes += state.leader != before.leader
        log.info("%s leads at term %d; this node is %s", name, state.term, state.role.value)
        self._requests.leader_known()

    def _cut_off(self, is_cut_off: bool) -> None:
        """Whether this node can take part in what the cluster does: if not, its clients should not wait here."""
        self.flight.note("reach", cut_off=is_cut_off)
        if is_cut_off:
            log.warning("cut off from the cluster: requests are refused until that changes")
        else:
            log.info("back in touch with the cluster")
        self._requests.refuse(is_cut_off)

    def name_of(self, node: NodeId) -> str:
        """A member's name for people: its name, or its id in hexadecimal where it has none yet."""
        return next((member.name for member in self.members if member.ID == node and member.name), f"{node:x}")

    def _look_at_members(self) -> None:
        self._applier.call(lambda machine: (machine.table, machine.applied_index), self._members_changed)

    def _members_changed(self, found: tuple[MemberTable, int]) -> None:
        table, self.members_index = found
        self.members, self.removed = list(table.members), table.removed
        self._newcomers.applied(self.members_index)
        self._snapshots.reconsider(self.removed)
        if self._raft.node_id in table.removed:
            # What we proposed stands before our removal, and was answered, or nowhere: behind it leaders take nothing of ours.
            self._requests.fail_all(REMOVED, proposed=Outcome.NOT_APPLIED)
            raise MemberRemovedError(f"this member was removed from the cluster; {ADD_ANEW}")
        self._publish_peers()

    def _publish_peers(self) -> None:
        everybody = [*self.members, *self._newcomers.beside(self.members)]
        self._transport.set_peers([member for member in everybody if member.ID != self._raft.node_id])

    def _compact_log(self, durable_index: int) -> None:
        index = self._retention.compactable(durable_index, at_most=self._snapshots.oldest_index_in_use)
        if index >= self._raft.first_index and not self._saves.is_holding:
            term = self._raft.term_at(index)
            assert term is not None, f"applied entry {index} is not in the log"
            self._log_writer.compact(SnapshotMeta(index, term, self._raft.membership_at(index)))
            self._raft.compact(index)

    def _check_running(self) -> None:
        if self._has_stopped:
            raise Unavailable(STOPPED, outcome=Outcome.NOT_APPLIED)

    def _fail(self, error: BaseException) -> None:
        """Nothing after this can be trusted: stop, and let the owner know why."""
        self.flight.failed(error)
        is_of_the_world = isinstance(error, RaftkvError)
        log.critical("stopping: %s", error or type(error).__name__, exc_info=None if is_of_the_world else error)
        if not self.stopped.done():
            self.stopped.set_exception(error)
        self.stop()

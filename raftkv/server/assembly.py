"""A whole node, from its configuration to its open ports, and back down in order.

    data dir ─► log ─► state machine ─► Raft core ─► node ─► peers' port ─► clients' port

Stopping goes the other way, after leadership was handed over: whoever leads next does so before our ports close.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, ExitStack, suppress
from pathlib import Path
from typing import Any

from grpc_health.v1 import health, health_pb2_grpc

from raftkv.config import ServerConfig
from raftkv.errors import NO_LEADER, DataDirError, Outcome, StorageError, Unavailable
from raftkv.lease.validate import min_ttl_s
from raftkv.node import Applier, Node, NodeConfig, flight_record, recover_raft
from raftkv.node.events import Failed, PeerConnected, PeerDead, PeerLost, Received, SnapshotReceived
from raftkv.node.health import Watchdogs
from raftkv.node.snapshots import empty_directory
from raftkv.node.transfer import step_down
from raftkv.node.watchdogs import DiskSpace, Monitor
from raftkv.pb import peer_pb2, rpc_pb2, store_pb2
from raftkv.raft import Raft, RaftConfig
from raftkv.raft.types import NodeId
from raftkv.server.batch_stream import BATCHES_PATH, BatchStreams
from raftkv.server.call_counts import CountedCalls
from raftkv.server.cluster import ClusterService
from raftkv.server.contending import Contending
from raftkv.server.corruption import CorruptionCheck
from raftkv.server.doors import MakeDoors, Sources
from raftkv.server.drill import DrillService
from raftkv.server.drill_faults import DrillFaults, free_space, from_peers, log_files, to_peers
from raftkv.server.election import CAMPAIGN_PATH, ElectionService
from raftkv.server.flight import FlightService
from raftkv.server.front import Front
from raftkv.server.joining import find_origin
from raftkv.server.kv import KvService
from raftkv.server.lease import KEEP_ALIVE_PATH, LeaseService
from raftkv.server.limits import Limits
from raftkv.server.lock import LOCK_PATH, LockService
from raftkv.server.maintenance import MaintenanceService
from raftkv.server.membership import Acquaintances, dial_overrides, members_of, removed_error, roster_of
from raftkv.server.presence import announce, keep_health
from raftkv.server.services import Services
from raftkv.server.space import SpaceAlarm
from raftkv.server.store import StoreService
from raftkv.server.watch import WATCH_PATH, WatchService
from raftkv.statemachine import Bootstrap, StateMachine
from raftkv.statemachine.snapshot import verify_snapshot
from raftkv.storage import DataDir, DataMark, FlightFile, PeerRecords, Wal, WalWriter
from raftkv.transport import PeerTransport
from raftkv.transport.hashes import ask_for_hash, hash_handlers
from raftkv.watch import WatchLimits

log = logging.getLogger("raftkv.server")

GRPC_OVERHEAD_BYTES = 512 * 1024
BATCH_BYTES_MAX = 8 * 1024 * 1024
"""Largest batch; each command in it is held to --max-request-bytes by itself."""
DISK_WAIT_S = 3.0
"""A stopping node waits so long for its disk, for the log and again for the state machine."""
STOP_S = 1.5
"""Handing over and finishing the calls under way may take this long together; what then still waits is told so."""
DRAIN_MIN_S = 0.05
"""Calls that have just arrived get their turn before the node counts as idle."""
QUIET_S = 0.003
"""When for so long no request has come and none was answered, none is on its way, as far as a node can know."""
QUIET_WAIT_S = 0.015
"""A stopping node waits for that so long: what it holds meanwhile waits too."""
ANSWER_S = 0.5
"""For the last answers to reach their callers."""
START_ANEW = "remove the member and add it anew, with an empty data directory"
FLIGHT_RECORD_CLOSE_S = 0.5
"""For the flight record's last lines to reach a disk that may be the reason for the end."""
HOLD_BASE_S = 5.0
"""A request without a deadline is held this long plus two election timeouts (etcd: ReqTimeout)."""

CLIENT_SERVER_OPTIONS: list[tuple[str, int]] = [
    ("grpc.so_reuseport", 0),  # Two nodes on one port would each get half of the clients.
    ("grpc.max_send_message_length", -1),
    # etcd's clients ping as often as every few seconds, without a call under way: no reason to throw them out.
    ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.keepalive_permit_without_calls", 1),
]


class Server:
    """One node as an operator sees it: `await start()`, `await wait()`, `await stop()`."""

    def __init__(self, config: ServerConfig, *, doors: MakeDoors = lambda _: ()) -> None:
        """`doors` makes further ways in, of which the server knows nothing but when they open and close."""
        self._config = config
        self._make_doors = doors
        self._is_stopping = False
        self._is_disk_hung = False
        self._background: list[asyncio.Task[None]] = []
        self._drill = DrillFaults() if config.enable_drills else None
        self._opened = AsyncExitStack()
        """How to close what is open, the last opened first."""

    async def start(self) -> None:
        """Open everything. When it returns, both ports answer; a leader may still have to be found.

        If it raises, everything it had opened is closed again.

        Raises:
            ListenError: a port cannot be listened on.
            StorageError: the data directory cannot be used, or what is in it cannot be trusted.
        """
        try:
            await self._open()
        except OSError as error:
            await self._opened.aclose()
            raise StorageError(f"{error.filename or self._config.data_dir}: {error.strerror or error}") from error
        except BaseException:
            await self._opened.aclose()
            raise

    async def _open(self) -> None:
        config = self._config
        origin = await find_origin(config)
        data_dir = DataDir.open(config.data_dir, create=origin.identity)
        self._opened.callback(self._close_data_dir, data_dir)
        log.info("member %x of cluster %x", data_dir.identity.member_id, data_dir.identity.cluster_id)
        raft = self._open_state(data_dir, origin.bootstrap)
        if raft.node_id in self._machine.table.removed:
            raise removed_error(data_dir.path, "its log says")
        self.node = Node(
            raft,
            config=NodeConfig(
                entries_retained=config.snapshot_count,
                log_bytes_retained=config.log_bytes_retained,
            ),
            cluster_id=data_dir.identity.cluster_id,
            incarnation=data_dir.incarnation,
            members=self._machine.members,
            removed=self._machine.table.removed,
            flight=self._open_flight_record(data_dir),
            monitor=self._open_monitor(data_dir, lambda: log_writer.in_flight_since()),
        )
        post = self.node.inbox.post
        applier = Applier(self._machine, post, wanted=(raft.node_id, data_dir.incarnation))
        applier.start()
        self._opened.push_async_callback(self._close_thread, "the state machine", applier.close)
        log_writer = WalWriter(self._wal, failed=lambda error: post(Failed(error)))
        self._opened.push_async_callback(self._close_thread, "the log", log_writer.close)
        snapshot_dir = empty_directory(data_dir.path / "snapshots")
        self._members = members_of(self.node, lambda: self._transport)
        peers = Acquaintances(PeerRecords(data_dir.path), post)
        peers.forget(self.node.removed)
        self._transport = PeerTransport(
            node_id=raft.node_id,
            cluster_id=self.node.cluster_id,
            snapshot_dir=snapshot_dir,
            dial_overrides=dial_overrides(config),
            on_messages=from_peers(self._drill, lambda messages: post(Received(messages))),
            on_snapshot=lambda message, path: post(SnapshotReceived(message, path)),
            on_connected=lambda node: post(PeerConnected(node)),
            on_lost=lambda node, reason: post(PeerLost(node, reason)),
            on_dead=lambda node, evidence: post(PeerDead(node, evidence)),
            on_disowned=lambda why: post(Failed(DataDirError(f"{data_dir.path}: {why}; {START_ANEW}"))),
            on_removed=lambda who: post(Failed(removed_error(data_dir.path, f"{who} says"))),
            roster=lambda: roster_of(self.node),
            lead=self._lead,
            handlers=hash_handlers(lambda request, timeout_s: self._maintenance.hash_kv(request, timeout_s)),
            forget=peers.forget,
            on_failed=lambda error: post(Failed(error)),
            introduction=_introduction(data_dir.mark),
            meet=peers.meet,
            verify_snapshot=verify_snapshot,
        )
        self._opened.push_async_callback(self._transport.close)
        self._grpc = self._client_server(snapshot_dir)
        self._opened.push_async_callback(self._grpc.stop, None)
        self._grpc.listen(config.listen_client_urls, flag="--listen-client-urls")
        self._doors = self._make_doors(self._sources(log_writer))
        for door in self._doors:
            self._opened.push_async_callback(door.close, 0.0)
            door.bind()
        await self._transport.listen(config.listen_peer_urls)
        self.node.flight.attach(links=self._transport.links, sync_since=log_writer.in_flight_since)
        self.node.start(
            log_writer=log_writer,
            transport=to_peers(self._drill, self._transport),
            applier=applier,
            snapshot_dir=snapshot_dir,
        )
        await self._grpc.start()
        for door in self._doors:
            await door.open()
        announcement = announce(
            self.node,
            name=config.name,
            client_urls=config.client_urls,
            unreachable=self._transport.unreachable,
        )
        self._in_background(announcement, "raftkv-announce")
        health_kept = keep_health(self.node, self._health, every_s=config.heartbeat_interval_ms / 1000)
        self._in_background(health_kept, "raftkv-health")
        self._in_background(self._watches.run(), "raftkv-watches")
        self._in_background(self._leases.run(), "raftkv-leases")
        self._in_background(self._space_alarm().run(), "raftkv-space")
        check = CorruptionCheck(self.node, interval_s=config.corrupt_check_time_s, ask=self._hash_of)
        self._in_background(check.run(), "raftkv-corruption")
        gc.collect()
        gc.freeze()  # What exists now stays; a collection need not look at it again.

    def _open_monitor(self, data_dir: DataDir, log_write_since: Callable[[], float | None]) -> Monitor:
        """What watches over this node's fitness to lead."""
        config = self._config
        space = DiskSpace(data_dir.path, look=free_space(self._drill))
        space.start()
        self._opened.callback(space.close)
        watchdogs = Watchdogs(
            fsync_s=config.watchdog_fsync_ms / 1000,
            apply_s=config.watchdog_apply_ms / 1000,
            loop_s=config.watchdog_loop_ms / 1000,
            disk_free_bytes=config.watchdog_disk_free_bytes,
            recovery_s=config.watchdog_recovery_ms / 1000,
        )
        return Monitor(watchdogs, clock=time.monotonic, log_write_since=log_write_since, space=space)

    async def _close_thread(self, what: str, close: Callable[[float], bool]) -> None:
        """Let a thread finish its work on the disk; a disk that does not come back must not hold up the stop."""
        if not await asyncio.to_thread(close, DISK_WAIT_S):
            log.error("the disk of %s has not come back for %g s: stopping without it", what, DISK_WAIT_S)
            self._is_disk_hung = True

    def _close_data_dir(self, data_dir: DataDir) -> None:
        """The lock on it stays while a thread may still write there: until the process has ended."""
        if not self._is_disk_hung:
            data_dir.close()

    async def _lead(self, change: store_pb2.MemberChange, timeout_s: float) -> store_pb2.MemberTable:
        """A peer passes on a change of the members."""
        return (await self._members.lead(change, timeout_s=timeout_s)).message()

    def _open_state(self, data_dir: DataDir, bootstrap: Bootstrap | None) -> Raft:
        """The state machine, the log, and the core made from both. Whatever is open when this raises is closed."""
        with ExitStack() as opened:
            self._machine = StateMachine.open(data_dir.state_path, create=bootstrap)
            opened.callback(self._machine.close, commit=False)
            self._wal, recovered = Wal.open(data_dir.wal_path, files=log_files(self._drill))
            opened.callback(self._wal.close)
            raft = recover_raft(
                _raft_config(self._config, data_dir.identity.member_id),
                self._wal,
                recovered,
                self._machine,
                random.Random(),
            )
            opened.pop_all()  # From here on they belong to their threads.
        return raft

    def _open_flight_record(self, data_dir: DataDir) -> flight_record.FlightRecord:
        config = self._config
        head = flight_record.head_of(
            name=config.name, member_id=data_dir.identity.member_id, cluster_id=data_dir.identity.cluster_id
        )
        file = FlightFile(data_dir.path, head)
        earlier = file.open()
        self._opened.push_async_callback(asyncio.to_thread, file.close, FLIGHT_RECORD_CLOSE_S)
        return flight_record.FlightRecord(file, earlier=earlier, run=data_dir.incarnation)

    async def wait(self) -> None:
        """Return when the node has stopped; raise what stopped it."""
        await asyncio.shield(self.node.stopped)

    async def stop(self) -> None:
        """Hand leadership over, finish calls under way, close everything; within about STOP_S. Idempotent."""
        if self._is_stopping:
            return
        self._is_stopping = True
        self.node.flight.stopping()
        loop = asyncio.get_running_loop()
        stop_at = loop.time() + STOP_S
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        stepped_down = await step_down(self.node, timeout_s=STOP_S)
        await self._health.enter_graceful_shutdown()
        draining = await self._say_goodbye(max(DRAIN_MIN_S, stop_at - loop.time()) + ANSWER_S)
        if stepped_down:
            with suppress(TimeoutError, Unavailable):
                async with asyncio.timeout_at(stop_at):
                    await self.node.wait_for_leader()
        await self._store.send_away()
        self._watches.stop()  # They would go on for ever.
        self._leases.stop()
        self._batches.stop()
        await asyncio.wait([draining], timeout=DRAIN_MIN_S)
        while not draining.done() and not self.node.is_idle and loop.time() < stop_at:
            await asyncio.wait([draining], timeout=0.01)
        self.node.stop()  # Before the calls are cut off: whoever still waits is told the truth about its write.
        await draining
        self.node.flight.stopped()
        await self._opened.aclose()

    async def _say_goodbye(self, grace_s: float) -> asyncio.Task[None]:
        """Begin to close the ports, at a moment when few calls are on their way here; what ends when they are closed.

        gRPC breaks the calls that cross its goodbye, and those it has but could not give us yet: their callers cannot know what
        became of them. So nobody new is answered for that moment: who waits for an answer asks for nothing else.
        """
        self.node.hold_requests(True)
        loop = asyncio.get_running_loop()
        end = loop.time() + QUIET_WAIT_S
        before = None
        while before != self.node.requests_progress and loop.time() < end:
            before = self.node.requests_progress
            await asyncio.sleep(QUIET_S)
        closing = asyncio.create_task(self._close_ports(grace_s))
        await asyncio.sleep(0.001)  # The goodbyes are said, and answers come behind them.
        self.node.hold_requests(False)
        return closing

    async def _close_ports(self, grace_s: float) -> None:
        """Let no client in any more, and return when none is left; after the grace all are cut off."""
        await asyncio.gather(self._grpc.stop(grace_s), *(door.close(grace_s) for door in self._doors))

    def _sources(self, log_writer: WalWriter) -> Sources:
        return Sources(
            config=self._config,
            node=self.node,
            calls=self._calls,
            request_bytes_max=self._config.max_request_bytes + GRPC_OVERHEAD_BYTES,
            log_writer=log_writer,
            machine=self._machine,
            watches=self._watches,
            transport=self._transport,
        )

    def _in_background(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run a task of the server's own until the server stops. If it fails, so does the node."""
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._background_done)
        self._background.append(task)

    def _background_done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.node.inbox.post(Failed(error))

    def _client_server(self, snapshot_dir: Path) -> Front:
        config = self._config
        limits = Limits(
            request_bytes_max=config.max_request_bytes,
            txn_ops_max=config.max_txn_ops,
            quota_bytes=config.quota_backend_bytes,
            alarms=lambda: self._machine.alarms,
        )
        self._maintenance = MaintenanceService(self.node, snapshot_dir)
        self._store = StoreService(self.node, limits)
        hold_s = HOLD_BASE_S + 2 * config.election_timeout_ms / 1000
        self._batches = BatchStreams(self._store.batch, hold_s=hold_s)
        self._leases = LeaseService(
            self.node,
            limits,
            min_ttl_s=min_ttl_s(
                election_timeout_ms=config.election_timeout_ms, heartbeat_interval_ms=config.heartbeat_interval_ms
            ),
            hold_s=hold_s,
            election_timeout_s=config.election_timeout_ms / 1000,
        )
        self._watches = WatchService(
            self.node,
            WatchLimits(
                watches_per_connection=config.max_watches_per_connection,
                fragment_bytes=config.max_request_bytes + GRPC_OVERHEAD_BYTES,
            ),
            progress_interval_s=config.watch_progress_notify_interval_s,
            election_timeout_s=config.election_timeout_ms / 1000,
        )
        kv = KvService(self.node, limits)
        contending = Contending(kv, self._leases, self._watches, hold_s=hold_s)
        elections = ElectionService(contending, hold_s=hold_s)
        services = (
            kv,
            self._store,
            self._leases,
            LockService(contending, kv),
            elections,
            ClusterService(self.node, self._members),
            self._maintenance,
            FlightService(self.node, config.name),
            *(() if self._drill is None else (DrillService(self.node, self._drill),)),
        )
        request_bytes_max = max(BATCH_BYTES_MAX, config.max_request_bytes + GRPC_OVERHEAD_BYTES)
        rpcs = Services(
            self.node,
            {path: serve for service in services for path, serve in service.methods().items()},
            streams={
                WATCH_PATH: self._watches.watch,
                KEEP_ALIVE_PATH: self._leases.keep_alive,
                BATCHES_PATH: self._batches.serve,
            },
            many={**self._maintenance.many(), **elections.many()},
            patient=frozenset({LOCK_PATH, CAMPAIGN_PATH}),
            hold_s=hold_s,
        )
        self._calls = CountedCalls(rpcs)
        self._health = health.aio.HealthServicer()
        front = Front([*CLIENT_SERVER_OPTIONS, ("grpc.max_receive_message_length", request_bytes_max)])
        is_measured = bool(config.listen_client_http_urls or config.listen_metrics_urls)
        front.serve(self._calls.handlers if is_measured else rpcs.handlers, rest=self._calls if is_measured else rpcs)
        front.serve_with(lambda server: health_pb2_grpc.add_HealthServicer_to_server(self._health, server))
        return front

    def _space_alarm(self) -> SpaceAlarm:
        machine = self._machine
        return SpaceAlarm(
            self.node,
            quota_bytes=self._config.quota_backend_bytes,
            in_use=lambda: machine.bytes_in_use,
            alarms=lambda: machine.alarms,
        )

    async def _hash_of(self, member: NodeId, revision: int, timeout_s: float) -> rpc_pb2.HashKVResponse:
        """A member's HashKV, our own or a peer's."""
        if member == self.node.raft.node_id:
            return await self._maintenance.hash_kv(rpc_pb2.HashKVRequest(revision=revision), timeout_s)
        address = self._transport.addresses().get(member)
        if address is None:
            raise Unavailable(NO_LEADER, outcome=Outcome.NOT_APPLIED)
        return await ask_for_hash(address, revision, timeout_s=timeout_s)


def _introduction(mark: DataMark) -> peer_pb2.Hello:
    return peer_pb2.Hello(data_id=mark.data_id, incarnation=mark.incarnation, run_id=mark.run_id)


def _raft_config(config: ServerConfig, member_id: NodeId) -> RaftConfig:
    tick_ms = NodeConfig().tick_s * 1000
    return RaftConfig(
        node_id=member_id,
        election_timeout_ticks=round(config.election_timeout_ms / tick_ms),
        heartbeat_interval_ticks=max(1, round(config.heartbeat_interval_ms / tick_ms)),
    )

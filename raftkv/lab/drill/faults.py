"""Breaks the leader, and makes everything good again: from outside on a local cluster, by request elsewhere.

All of this blocks; the drill calls it in a thread. What may not live here: what clients see, and when a fault begins and ends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Protocol

import grpc

from raftkv.lab.cluster import LocalCluster
from raftkv.lab.drill.options import FAULTS, DrillError
from raftkv.lab.drill.target import Target, call, reason
from raftkv.lab.errors import LabError
from raftkv.lab.links import partition_rules
from raftkv.pb import drill_pb2, rpc_pb2
from raftkv.pb.drill_pb2 import Fault

SERVICE_FAULT_S = 20.0
"""The longest that a fault of the service lasts if nobody heals it: longer than any round, short enough to wait for."""
HANG_S = 3.0
"""A node that hangs cannot be told to stop: so long it hangs."""
TRANSFER_DEADLINE_S = 10.0
COME_BACK_S = 20.0


class Breaker(Protocol):
    """One way to break a cluster."""

    def obstacle(self, fault: str) -> str | None:
        """Why this fault cannot be made on this cluster; None: it can."""

    def make(self, fault: str, leader: str, number: int) -> str:
        """Make it, and return when it holds; in words, what was done. Raises LabError."""

    def restore(self) -> None:
        """Make everything good, whatever was done or half done. Raises LabError: something does not come back."""


class DrillServices:
    """The drill service of each node, where it was enabled."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._enabled: dict[str, bool] = {}

    def missing(self) -> list[str]:
        """Nodes that were not started with --enable-drills."""
        for name in self._target.names:
            if name not in self._enabled:
                self._enabled[name] = self._is_enabled(name)
        return [name for name in self._target.names if not self._enabled[name]]

    def obstacle(self) -> str | None:
        """Why the service cannot be used: any node may come to lead."""
        missing = self.missing()
        verb = "was" if len(missing) == 1 else "were"
        return f"{', '.join(missing)} {verb} not started with --enable-drills" if missing else None

    def make(self, leader: str, fault: Fault, duration_s: float) -> None:
        """Begin a fault on a node.

        Raises:
            DrillError: it does not do it.
        """
        request = drill_pb2.BreakRequest(fault=fault, duration_ms=round(duration_s * 1000))
        try:
            call(self._target.endpoints[leader], "/raftkv.drill.Drill/Break", request, drill_pb2.BreakResponse)
        except grpc.RpcError as error:
            raise DrillError(f"{leader} {reason(error)} when asked for {Fault.Name(fault)}") from None

    def heal(self) -> None:
        """End the faults of all nodes that answer; those of the others end by themselves."""
        for name, enabled in self._enabled.items():
            if enabled:
                try:
                    endpoint = self._target.endpoints[name]
                    call(endpoint, "/raftkv.drill.Drill/Heal", drill_pb2.HealRequest(), drill_pb2.HealResponse)
                except grpc.RpcError:
                    continue  # Dead, or hanging: `target.wait_until_healthy` has the last word.

    def _is_enabled(self, name: str) -> bool:
        try:
            call(
                self._target.endpoints[name],
                "/raftkv.drill.Drill/Break",
                drill_pb2.BreakRequest(fault=Fault.NONE),
                drill_pb2.BreakResponse,
            )
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                return False
            raise DrillError(f"{name} {reason(error)}") from None
        return True


def move_leader(target: Target, leader: str) -> str:
    """Ask the leader to hand over to the next node by name; who that is.

    Raises:
        DrillError: it does not.
    """
    names = target.names
    to = names[(names.index(leader) + 1) % len(names)]
    request = rpc_pb2.MoveLeaderRequest(targetID=target.member(to).member_id)
    path = "/etcdserverpb.Maintenance/MoveLeader"
    try:
        call(target.endpoints[leader], path, request, rpc_pb2.MoveLeaderResponse, deadline_s=TRANSFER_DEADLINE_S)
    except grpc.RpcError as error:
        raise DrillError(f"{leader} {reason(error)} when asked to hand over to {to}") from None
    return to


class RemoteBreaker:
    """A cluster on other machines: what its nodes do on request."""

    _SERVICE: ClassVar = {
        "crash": (Fault.CRASH, SERVICE_FAULT_S),
        "hang": (Fault.HANG, HANG_S),
        "partition": (Fault.CUT, SERVICE_FAULT_S),
        "disk-stall": (Fault.DISK_STALL, SERVICE_FAULT_S),
        "disk-full": (Fault.DISK_FULL, SERVICE_FAULT_S),
    }

    def __init__(self, target: Target) -> None:
        self._target = target
        self._services = DrillServices(target)

    def obstacle(self, fault: str) -> str | None:
        if fault == "transfer":
            return None
        if fault in ("stop", "restart-all"):
            return "only processes of a cluster on this machine can be stopped and started (--local)"
        return self._services.obstacle()

    def make(self, fault: str, leader: str, number: int) -> str:
        if fault == "transfer":
            return f"{leader} handed over to {move_leader(self._target, leader)}"
        if fault == "partition-oneway":
            kind = Fault.MUTE if number % 2 == 0 else Fault.DEAF
            self._services.make(leader, kind, SERVICE_FAULT_S)
            return f"{leader} {'is not heard' if kind == Fault.MUTE else 'does not hear'}"
        kind, duration_s = self._SERVICE[fault]
        self._services.make(leader, kind, duration_s)
        return f"{leader}: {FAULTS[fault]}"

    def restore(self) -> None:
        self._services.heal()


class LocalBreaker:
    """A cluster of this machine: signals, cut links, and the drill service for what only a node can do to itself."""

    def __init__(self, cluster: LocalCluster, target: Target) -> None:
        self._cluster = cluster
        self._target = target
        self._services = DrillServices(target)

    def obstacle(self, fault: str) -> str | None:
        if fault.startswith("partition") and self._cluster.state.proxy is None:
            return "the cluster was started without a proxy between its nodes"
        return self._services.obstacle() if fault.startswith("disk-") else None

    def make(self, fault: str, leader: str, number: int) -> str:
        made: dict[str, Callable[[], str]] = {
            "crash": lambda: self._crash(leader),
            "hang": lambda: self._hang(leader),
            "stop": lambda: self._stop(leader),
            "transfer": lambda: f"{leader} handed over to {move_leader(self._target, leader)}",
            "partition": lambda: self._partition(leader),
            "partition-oneway": lambda: self._one_way(leader, number),
            "disk-stall": lambda: self._disk(leader, Fault.DISK_STALL, "its log's disk hangs"),
            "disk-full": lambda: self._disk(leader, Fault.DISK_FULL, "its log's disk is full"),
            "restart-all": self._kill_all,
        }
        return made[fault]()

    def restore(self) -> None:
        restore_local(self._cluster)
        self._services.heal()

    def _crash(self, leader: str) -> str:
        pid = self._cluster.pid(leader)
        self._cluster.kill(leader)
        return f"killed {leader} (SIGKILL to {pid})"

    def _hang(self, leader: str) -> str:
        self._cluster.pause(leader)
        return f"paused {leader} (SIGSTOP to {self._cluster.pid(leader)})"

    def _stop(self, leader: str) -> str:
        self._cluster.stop(leader)
        return f"stopped {leader} (SIGTERM)"

    def _partition(self, leader: str) -> str:
        others = [name for name in self._cluster.names if name != leader]
        self._cluster.set_rules(partition_rules([[leader], others]))
        return f"cut {leader} off from its peers"

    def _one_way(self, leader: str, number: int) -> str:
        others = [name for name in self._cluster.names if name != leader]
        if number % 2 == 0:
            self._cluster.cut_one_way([leader], others)
            return f"nothing gets from {leader} to its peers"
        self._cluster.cut_one_way(others, [leader])
        return f"nothing gets from its peers to {leader}"

    def _disk(self, leader: str, fault: Fault, words: str) -> str:
        self._services.make(leader, fault, SERVICE_FAULT_S)
        return f"{leader}: {words}"

    def _kill_all(self) -> str:
        self._cluster.kill(*self._cluster.names)
        return f"killed all of {', '.join(self._cluster.names)}"


def restore_local(cluster: LocalCluster) -> None:
    """Wake, heal and start whatever needs it. Does nothing to a cluster that is well.

    Raises:
        LabError: a node does not come back; its last log lines stand in the message.
    """
    paused = [name for name in cluster.names if cluster.process_state(name) == "paused"]
    if paused:
        cluster.resume(*paused)
    if cluster.rules():
        cluster.heal()
    dead = [name for name in cluster.names if cluster.pid(name) is None]
    if dead:
        try:
            cluster.start(dead, deadline_s=COME_BACK_S)
        except LabError as error:
            raise DrillError(f"{', '.join(dead)} does not come back: {error}") from error

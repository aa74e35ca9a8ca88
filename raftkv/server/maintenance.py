"""etcd's Maintenance service: what one node is asked to tell or to do about its own state, and alarms.

What may not live here: raising alarms by ourselves (`space`, `corruption`), and how a state is copied (`raftkv.statemachine`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

from raftkv.errors import (
    CORRUPT,
    NO_LEADER,
    CorruptionError,
    DataLoss,
    DiskFullError,
    InvalidArgument,
    ResourceExhausted,
)
from raftkv.node import Node
from raftkv.node.transfer import hand_over, move_leader
from raftkv.pb import rpc_pb2, store_pb2
from raftkv.server.services import Serve, ServeMany, answered, header
from raftkv.server.snapshots import NO_ROOM, SnapshotStreams
from raftkv.statemachine import StateMachine
from raftkv.statemachine.alarms import listed
from raftkv.version import ETCD_API_VERSION

UNKNOWN_ALARM = "etcdserver: unknown alarm or action"
DEFRAGMENT_S = 600.0
HAND_OVER_S = 1.5
"""A node that copies its state for longer has another problem; the client's own deadline does not end the copy."""


class MaintenanceService:
    """Everything that speaks of this node alone; Alarm, which speaks of all; MoveLeader, which only the leader does."""

    def __init__(self, node: Node, snapshot_dir: Path) -> None:
        self._node = node
        self._snapshots = SnapshotStreams(node, snapshot_dir)
        self._defragmenting: asyncio.Task[None] | None = None

    def methods(self) -> dict[str, Serve]:
        return {
            "/etcdserverpb.Maintenance/Alarm": self.alarm,
            "/etcdserverpb.Maintenance/Status": self.status,
            "/etcdserverpb.Maintenance/Defragment": self.defragment,
            "/etcdserverpb.Maintenance/Hash": self.hash,
            "/etcdserverpb.Maintenance/HashKV": self.hash_kv,
            "/etcdserverpb.Maintenance/MoveLeader": self.move_leader,
        }

    def many(self) -> dict[str, ServeMany]:
        return {"/etcdserverpb.Maintenance/Snapshot": self.snapshot}

    async def status(self, _request: rpc_pb2.StatusRequest, hold_s: float) -> rpc_pb2.StatusResponse:
        node, raft = self._node, self._node.raft
        revision, on_disk, in_use, alarms = await node.read_local(
            lambda machine: (machine.revision, machine.bytes_on_disk, machine.bytes_in_use, machine.alarms),
            timeout_s=hold_s,
        )
        return rpc_pb2.StatusResponse(
            header=header(node, revision),
            version=ETCD_API_VERSION,
            dbSize=on_disk,
            dbSizeInUse=in_use,
            leader=raft.leader,
            raftIndex=raft.commit_index,
            raftTerm=raft.term,
            raftAppliedIndex=raft.applied_index,
            errors=[*(() if raft.leader else (NO_LEADER,)), *(_as_go_prints_it(one.message()) for one in alarms)],
            isLearner=raft.node_id in raft.membership.learners,
        )

    async def alarm(self, request: rpc_pb2.AlarmRequest, hold_s: float) -> rpc_pb2.AlarmResponse:
        """List, raise or end alarms. Without a header, as by etcd."""
        if (
            request.alarm not in rpc_pb2.AlarmType.values()
            or request.action not in rpc_pb2.AlarmRequest.AlarmAction.values()
        ):
            raise InvalidArgument(UNKNOWN_ALARM)
        if request.action == rpc_pb2.AlarmRequest.GET:
            alarms = await self._node.read(lambda machine: machine.alarms, timeout_s=hold_s)
            return rpc_pb2.AlarmResponse(alarms=listed(alarms, request.alarm))
        return await change_alarm(self._node, store_pb2.AlarmChange(request=request), timeout_s=hold_s)

    async def defragment(self, _request: rpc_pb2.DefragmentRequest, _hold_s: float) -> rpc_pb2.DefragmentResponse:
        """Give this node's free pages back to its file system. Without a header, as by etcd.

        Nothing is applied or read here meanwhile. A leader hands over first, if another member can lead. One is under way at a
        time, and goes on when nobody waits for it any more: who asks meanwhile gets its result. Calls that were given up would
        else be carried out one after the other.
        """
        task = self._defragmenting
        if task is None:
            task = self._defragmenting = asyncio.create_task(self._defragment(), name="raftkv-defragment")
            task.add_done_callback(self._defragmented)
        await asyncio.wait([task])  # Not for itself: a caller that goes takes nothing along.
        task.result()
        return rpc_pb2.DefragmentResponse()

    async def _defragment(self) -> None:
        await hand_over(self._node, timeout_s=HAND_OVER_S)
        await self._node.read_local(_defragment, timeout_s=DEFRAGMENT_S)

    def _defragmented(self, task: asyncio.Task[None]) -> None:
        """How it ended concerns those who wait for it: perhaps nobody, which is no reason to complain."""
        self._defragmenting = None
        if not task.cancelled():
            task.exception()

    async def hash(self, _request: rpc_pb2.HashRequest, hold_s: float) -> rpc_pb2.HashResponse:
        """The hash of what is stored now. Comparable only with this node's own, as etcd's."""
        digest, _, revision = await self._hash(0, hold_s)
        return rpc_pb2.HashResponse(header=header(self._node, revision), hash=digest)

    async def hash_kv(self, request: rpc_pb2.HashKVRequest, hold_s: float) -> rpc_pb2.HashKVResponse:
        """A hash over all that is visible at a revision (0: now): equal on every node that has applied it.

        The header says where the store stands, as etcd's; `hash_revision`, as etcd 3.5's, what was hashed.
        """
        digest, compact_revision, revision = await self._hash(request.revision, hold_s)
        now = await self._node.read_local(lambda machine: machine.revision, timeout_s=hold_s)
        return rpc_pb2.HashKVResponse(
            header=header(self._node, now), hash=digest, compact_revision=compact_revision, hash_revision=revision
        )

    async def _hash(self, revision: int, hold_s: float) -> tuple[int, int, int]:
        try:
            return await self._node.hash_kv(revision, timeout_s=hold_s)
        except CorruptionError:  # A value is not what was written: this node's data is not what the others have.
            raise DataLoss(CORRUPT) from None

    def snapshot(self, request: rpc_pb2.SnapshotRequest) -> AsyncGenerator[rpc_pb2.SnapshotResponse, None]:
        return self._snapshots.snapshot(request)

    async def move_leader(self, request: rpc_pb2.MoveLeaderRequest, hold_s: float) -> rpc_pb2.MoveLeaderResponse:
        """Answered when the target leads. Without a header, as by etcd."""
        await move_leader(self._node, request.targetID, timeout_s=hold_s)
        return rpc_pb2.MoveLeaderResponse()


async def change_alarm(node: Node, change: store_pb2.AlarmChange, *, timeout_s: float) -> rpc_pb2.AlarmResponse:
    """Have an alarm raised or ended through the log.

    Raises:
        Unavailable, DeadlineExceeded, ResourceExhausted: as any write.
    """
    commands = store_pb2.BatchRequest(commands=(store_pb2.Command(alarm=change),)).SerializeToString()
    (answer,) = await node.submit(commands, 1, timeout_s=timeout_s)
    response: rpc_pb2.AlarmResponse = answered(node, answer)
    response.ClearField("header")
    return response


def _defragment(machine: StateMachine) -> None:
    """On the state machine's thread. A disk without room is the client's to know, and no reason to stop."""
    try:
        machine.defragment()
    except DiskFullError:
        raise ResourceExhausted(NO_ROOM) from None


def _as_go_prints_it(alarm: rpc_pb2.AlarmMember) -> str:
    """`memberID:5 alarm:NOSPACE `: fields that are zero left out, a space after each."""
    member = f"memberID:{alarm.memberID} " if alarm.memberID else ""
    return member + (f"alarm:{rpc_pb2.AlarmType.Name(alarm.alarm)} " if alarm.alarm else "")

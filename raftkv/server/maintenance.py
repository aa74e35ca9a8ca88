"""etcd's Maintenance service: so far, Status, HashKV and MoveLeader."""

from __future__ import annotations

from raftkv.errors import NO_LEADER
from raftkv.node import Node
from raftkv.node.transfer import move_leader
from raftkv.pb import rpc_pb2
from raftkv.server.services import Serve, header
from raftkv.version import ETCD_API_VERSION


class MaintenanceService:
    """Status and HashKV, which speak of this node alone, and MoveLeader, which only the leader does."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def methods(self) -> dict[str, Serve]:
        return {
            "/etcdserverpb.Maintenance/Status": self.status,
            "/etcdserverpb.Maintenance/HashKV": self.hash_kv,
            "/etcdserverpb.Maintenance/MoveLeader": self.move_leader,
        }

    async def status(self, _request: rpc_pb2.StatusRequest, hold_s: float) -> rpc_pb2.StatusResponse:
        node, raft = self._node, self._node.raft
        revision, on_disk, in_use = await node.read_local(
            lambda machine: (machine.revision, machine.bytes_on_disk, machine.bytes_in_use), timeout_s=hold_s
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
            errors=() if raft.leader else (NO_LEADER,),
            isLearner=raft.node_id in raft.membership.learners,
        )

    async def hash_kv(self, request: rpc_pb2.HashKVRequest, hold_s: float) -> rpc_pb2.HashKVResponse:
        """A hash over all that is visible at a revision (0: now): equal on every node that has applied it."""
        digest, compact_revision, revision = await self._node.hash_kv(request.revision, timeout_s=hold_s)
        return rpc_pb2.HashKVResponse(
            header=header(self._node, revision), hash=digest, compact_revision=compact_revision, hash_revision=revision
        )

    async def move_leader(self, request: rpc_pb2.MoveLeaderRequest, hold_s: float) -> rpc_pb2.MoveLeaderResponse:
        """Answered when the target leads. Without a header, as by etcd."""
        await move_leader(self._node, request.targetID, timeout_s=hold_s)
        return rpc_pb2.MoveLeaderResponse()

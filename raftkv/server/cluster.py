"""etcd's Cluster service: so far, who is a member."""

from __future__ import annotations

from raftkv.node import Node
from raftkv.pb import rpc_pb2
from raftkv.server.services import Serve, header


class ClusterService:
    """MemberList."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def methods(self) -> dict[str, Serve]:
        return {"/etcdserverpb.Cluster/MemberList": self.member_list}

    async def member_list(self, request: rpc_pb2.MemberListRequest, hold_s: float) -> rpc_pb2.MemberListResponse:
        """The member table; with `linearizable` (etcd 3.5+) not older than the call."""
        members = self._node.members
        if request.linearizable:
            members = await self._node.read(lambda machine: machine.members, timeout_s=hold_s)
        return rpc_pb2.MemberListResponse(header=header(self._node, 0), members=members)

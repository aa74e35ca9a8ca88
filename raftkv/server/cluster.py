"""etcd's Cluster service: who is a member, and changing that.

What may not live here: when a change is possible and safe (`raftkv.node.members`).
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from contextlib import suppress

from raftkv.config import parse_url
from raftkv.errors import BAD_MEMBER_URLS, ConfigError, DeadlineExceeded, InvalidArgument, Unavailable
from raftkv.node import Node
from raftkv.node.members import Members
from raftkv.pb import rpc_pb2, store_pb2
from raftkv.server.services import Serve, answered, header
from raftkv.statemachine import MemberTable


class ClusterService:
    """MemberAdd, MemberRemove, MemberUpdate, MemberPromote, MemberList."""

    def __init__(self, node: Node, members: Members) -> None:
        self._node = node
        self._members = members

    def methods(self) -> dict[str, Serve]:
        return {
            "/etcdserverpb.Cluster/MemberAdd": self.member_add,
            "/etcdserverpb.Cluster/MemberRemove": self.member_remove,
            "/etcdserverpb.Cluster/MemberUpdate": self.member_update,
            "/etcdserverpb.Cluster/MemberPromote": self.member_promote,
            "/etcdserverpb.Cluster/MemberList": self.member_list,
        }

    async def member_list(self, request: rpc_pb2.MemberListRequest, hold_s: float) -> rpc_pb2.MemberListResponse:
        """The member table; with `linearizable` (etcd 3.5+) not older than the call."""
        read = self._node.read if request.linearizable else self._node.read_local
        members = await read(lambda machine: machine.members, timeout_s=hold_s)
        return rpc_pb2.MemberListResponse(header=header(self._node, 0), members=members)

    async def member_add(self, request: rpc_pb2.MemberAddRequest, hold_s: float) -> rpc_pb2.MemberAddResponse:
        """The id is drawn: a member that is added anew is another one, whatever its URLs."""
        urls = _checked_urls(request.peerURLs)
        member = rpc_pb2.Member(ID=secrets.randbelow(2**64 - 1) + 1, peerURLs=urls, isLearner=request.isLearner)
        table = await self._change(store_pb2.MemberChange(add=member), hold_s)
        return rpc_pb2.MemberAddResponse(header=header(self._node, 0), member=member, members=table.members)

    async def member_remove(self, request: rpc_pb2.MemberRemoveRequest, hold_s: float) -> rpc_pb2.MemberRemoveResponse:
        table = await self._change(store_pb2.MemberChange(remove=request.ID), hold_s)
        return rpc_pb2.MemberRemoveResponse(header=header(self._node, 0), members=table.members)

    async def member_promote(
        self, request: rpc_pb2.MemberPromoteRequest, hold_s: float
    ) -> rpc_pb2.MemberPromoteResponse:
        table = await self._change(store_pb2.MemberChange(promote=request.ID), hold_s)
        return rpc_pb2.MemberPromoteResponse(header=header(self._node, 0), members=table.members)

    async def member_update(self, request: rpc_pb2.MemberUpdateRequest, hold_s: float) -> rpc_pb2.MemberUpdateResponse:
        """New peer URLs. They change no quorum, so they go through the log as a command like any other."""
        checked = rpc_pb2.MemberUpdateRequest(ID=request.ID, peerURLs=_checked_urls(request.peerURLs))
        command = store_pb2.Command(member_update=checked)
        commands = store_pb2.BatchRequest(commands=(command,)).SerializeToString()
        (answer,) = await self._node.submit(commands, 1, timeout_s=hold_s)
        response: rpc_pb2.MemberUpdateResponse = answered(self._node, answer)
        response.header.revision = 0  # As in etcd: no revision is made by it.
        return response

    async def _change(self, change: store_pb2.MemberChange, hold_s: float) -> MemberTable:
        table = await self._members.change(change, timeout_s=hold_s)
        # This node's own table shows it when the caller looks, unless this is the one that left, or it stands still: the change
        # is made all the same.
        with suppress(Unavailable, DeadlineExceeded):
            await self._node.read(lambda machine: machine.members, timeout_s=hold_s)
        return table


def _checked_urls(urls: Iterable[str]) -> list[str]:
    """Raises InvalidArgument: none, or one that is no `http://host:port`."""
    try:
        checked = sorted(parse_url(url, flag="peer URL") for url in urls)
    except ConfigError:
        raise InvalidArgument(BAD_MEMBER_URLS) from None
    if not checked:
        raise InvalidArgument(BAD_MEMBER_URLS)
    return checked

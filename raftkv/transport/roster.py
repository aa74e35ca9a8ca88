"""Who the members are, as nodes tell each other beside their streams; and changes of the members on their way to the leader.

    a node that joins ──────────── Meet ───────────► any member: who is who here?
    a node that misses a peer ──── Meet ───────────► that peer: each learns from the one that has applied more
    a node asked for a change ──── ChangeMembers ──► the leader

A node that was away may know none of those who are members now, and they dial it in vain: what a later roster says is believed
until the node has applied as much itself. It may also have been removed meanwhile: then it is told so.

Anybody can call. What a caller tells of the members is hearsay: it makes this node ask those whom it knows, and only one that has
lost their majority goes by it until then. That this node was removed it believes from those alone whom it knows and has asked.

What may not live here: streams, and the changes themselves (`node.members`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from typing import Any

import grpc

from raftkv import wire
from raftkv.errors import LEADER_CHANGED, Outcome, PeerError, RequestError, Unavailable
from raftkv.pb import peer_pb2, rpc_pb2, store_pb2
from raftkv.raft.types import NodeId
from raftkv.transport.channel import CHANNEL_OPTIONS
from raftkv.transport.link import PeerLink

log = logging.getLogger("raftkv.transport")

MEET_PATH = "/raftkv.peer.Peer/Meet"
CHANGE_PATH = "/raftkv.peer.Peer/ChangeMembers"
ASK_EVERY_S = 1.0
ASK_WAIT_S = 1.0
LEAD_WAIT_S = 5.0
"""For a change whose caller gave no deadline."""
ROSTER_MEMBERS_MAX = 100
"""More than any cluster has: each of them is dialed."""

Lead = Callable[[store_pb2.MemberChange, float], Awaitable[store_pb2.MemberTable]]


async def ask_for_roster(address: str, ours: peer_pb2.Roster, *, wait_s: float = ASK_WAIT_S) -> peer_pb2.Roster:
    """Ask the node at `host:port` who the members are, and tell it what we know.

    Raises:
        PeerError: it does not answer, or is of another cluster.
    """
    async with grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
        meet = channel.unary_unary(
            MEET_PATH,
            request_serializer=peer_pb2.Roster.SerializeToString,
            response_deserializer=peer_pb2.Roster.FromString,
        )
        try:
            roster: peer_pb2.Roster = await meet(ours, timeout=wait_s)
        except grpc.aio.AioRpcError as error:
            raise PeerError(f"{address}: {error.details() or error.code().name}") from None
    if not isinstance(roster, peer_pb2.Roster):  # gRPC's word for bytes that cannot be read.
        raise PeerError(f"{address}: what it answers is no roster")
    return roster


async def forward_change(
    address: str, cluster_id: int, change: store_pb2.MemberChange, *, timeout_s: float
) -> store_pb2.MemberTable:
    """Have the leader at `host:port` carry a change out.

    Raises:
        RequestError: its refusal; or Unavailable, outcome UNKNOWN, if no answer came.
    """
    request = peer_pb2.ChangeMembersRequest(cluster_id=cluster_id, change=change)
    async with grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
        call = channel.unary_unary(
            CHANGE_PATH,
            request_serializer=peer_pb2.ChangeMembersRequest.SerializeToString,
            response_deserializer=peer_pb2.ChangeMembersResponse.FromString,
        )
        try:
            response = await call(request, timeout=timeout_s)
        except grpc.aio.AioRpcError:
            raise Unavailable(LEADER_CHANGED, outcome=Outcome.UNKNOWN) from None
    # None is gRPC's word for bytes that cannot be read.
    match None if response is None else response.WhichOneof("result"):
        case "done":
            return response.done
        case "failure":
            raise wire.decode_error(response.failure)
        case _:
            raise Unavailable(LEADER_CHANGED, outcome=Outcome.UNKNOWN)


class Rosters:
    """What this node knows of the members, and what later rosters add to it. Belongs to the event loop.

    Args:
        own: the roster as this node has applied it.
        links: to all peers.
        on_removed: called when a later roster says that this node is no member any more; says who told.
        on_newer: called when `newcomers` or `hearsay` changed.
        lead: carries a change out if this node leads.
    """

    def __init__(
        self,
        *,
        node_id: NodeId,
        own: Callable[[], peer_pb2.Roster],
        links: Callable[[], Collection[PeerLink]],
        on_removed: Callable[[str], None],
        on_newer: Callable[[], None],
        lead: Lead | None,
    ) -> None:
        self._node_id = node_id
        self._own = own
        self._links = links
        self._on_removed = on_removed
        self._on_newer = on_newer
        self._lead = lead
        self._later: peer_pb2.Roster | None = None
        """From a member that this node knows and has asked."""
        self._told: peer_pb2.Roster | None = None
        """From whoever called."""
        self._is_in_doubt = False

    @property
    def removed(self) -> Collection[NodeId]:
        """Who was a member once and is none any more."""
        return self._own().table.removed

    def newcomers(self, known: Collection[NodeId]) -> list[rpc_pb2.Member]:
        """Members that only a later roster than ours knows."""
        self._later = self._if_later(self._later)
        return self._strangers(self._later, known)

    def hearsay(self, known: Collection[NodeId]) -> list[rpc_pb2.Member]:
        """Those of whom only a caller has told, and who may be anybody."""
        self._told = self._if_later(self._told)
        return self._strangers(self._told, known)

    def _if_later(self, roster: peer_pb2.Roster | None) -> peer_pb2.Roster | None:
        return None if roster is None or roster.index <= self._own().index else roster

    def _strangers(self, roster: peer_pb2.Roster | None, known: Collection[NodeId]) -> list[rpc_pb2.Member]:
        if roster is None:
            return []
        strange = {self._node_id, *known, *self._own().table.removed}
        return [member for member in roster.table.members if member.ID not in strange]

    async def keep_asking(self) -> None:
        """Ask every peer that has had no stream for a while, again and again; those whom we know also when there is hearsay."""
        missed: set[NodeId] = set()
        while True:
            await asyncio.sleep(ASK_EVERY_S)
            absent = {link.node for link in self._links() if not link.is_connected}
            in_doubt, self._is_in_doubt = self._is_in_doubt, False
            asked = [
                link for link in self._links() if link.node in missed & absent or (in_doubt and not link.is_hearsay)
            ]
            await asyncio.gather(*(self._ask(link) for link in asked))
            if self._told is not None and not self._is_cut_off():
                self._told = None
                self._on_newer()
            missed = absent

    def _is_cut_off(self) -> bool:
        """Whether there are streams to less than a majority of those whom we know, ourselves among them."""
        known = [link for link in self._links() if not link.is_hearsay]
        return 2 * (1 + sum(link.is_connected for link in known)) <= 1 + len(known)

    async def _ask(self, link: PeerLink) -> None:
        try:
            roster = await ask_for_roster(link.address, self._own())
        except PeerError as error:
            log.debug("asked in vain who the members are: %s", error)
            return
        if link.is_hearsay:
            self._hear(roster)
        else:
            self._believe(roster, link.name)

    def _believe(self, roster: peer_pb2.Roster, source: str) -> None:
        """What a member has answered, if it is later than what we know."""
        if not self._is_news(roster):
            return
        if self._node_id in roster.table.removed:
            self._on_removed(source)
        elif self._later is None or roster.index > self._later.index:
            self._later = roster
            self._on_newer()

    def _hear(self, roster: peer_pb2.Roster) -> None:
        """What somebody tells. That we were removed is asked of those who know, and not believed."""
        if not self._is_news(roster):
            return
        self._is_in_doubt = True
        is_newer = self._told is None or roster.index > self._told.index
        if is_newer and self._is_cut_off() and self._node_id not in roster.table.removed:
            self._told = roster
            self._on_newer()

    def _is_news(self, roster: peer_pb2.Roster) -> bool:
        own = self._own()
        is_ours = roster.cluster_id == own.cluster_id and len(roster.table.members) <= ROSTER_MEMBERS_MAX
        return is_ours and roster.index > own.index

    def handlers(self) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
        return {
            MEET_PATH: grpc.unary_unary_rpc_method_handler(
                self._serve_meet,
                request_deserializer=peer_pb2.Roster.FromString,
                response_serializer=peer_pb2.Roster.SerializeToString,
            ),
            CHANGE_PATH: grpc.unary_unary_rpc_method_handler(
                self._serve_change,
                request_deserializer=peer_pb2.ChangeMembersRequest.FromString,
                response_serializer=peer_pb2.ChangeMembersResponse.SerializeToString,
            ),
        }

    async def _serve_meet(self, theirs: peer_pb2.Roster, context: Any) -> peer_pb2.Roster:
        own = self._own()
        if theirs.cluster_id:
            await _check_cluster(theirs.cluster_id, own, context)
            self._hear(theirs)
        return own

    async def _serve_change(
        self, request: peer_pb2.ChangeMembersRequest, context: Any
    ) -> peer_pb2.ChangeMembersResponse:
        await _check_cluster(request.cluster_id, self._own(), context)
        timeout_s = context.time_remaining() or LEAD_WAIT_S
        try:
            if self._lead is None:
                raise Unavailable(LEADER_CHANGED, outcome=Outcome.NOT_APPLIED)
            table = await self._lead(request.change, timeout_s)
        except RequestError as error:
            return peer_pb2.ChangeMembersResponse(failure=wire.encode_error(error))
        return peer_pb2.ChangeMembersResponse(done=table)


async def _check_cluster(cluster_id: int, own: peer_pb2.Roster, context: Any) -> None:
    if cluster_id != own.cluster_id:
        text = f"cluster id {cluster_id:x}, this node is of cluster {own.cluster_id:x}"
        await context.abort(grpc.StatusCode.FAILED_PRECONDITION, text)

"""etcd's Election service: campaigns, proclamations and their audience.

An office lives as long as the candidate's lease, which the candidate keeps alive.

What may not live here: the queue (`contending`).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from raftkv.errors import RequestError
from raftkv.pb import election_pb2, mvcc_pb2, rpc_pb2
from raftkv.server.contending import Contending, Place, as_unknown, unknown
from raftkv.server.services import Serve, ServeMany

CAMPAIGN_PATH = "/v3electionpb.Election/Campaign"
NO_LEADER_KEY = '"leader" field must be provided'
NOT_LEADER = "election: not leader"
NO_LEADER = "election: no leader"


class ElectionService:
    """Campaign, Proclaim, Leader, Observe, Resign.

    Args:
        hold_s: seconds for each step of a call that goes on for ever.
    """

    def __init__(self, contending: Contending, *, hold_s: float) -> None:
        self._contending = contending
        self._hold_s = hold_s

    def methods(self) -> dict[str, Serve]:
        return {
            CAMPAIGN_PATH: self.campaign,
            "/v3electionpb.Election/Proclaim": self.proclaim,
            "/v3electionpb.Election/Leader": self.leader,
            "/v3electionpb.Election/Resign": self.resign,
        }

    def many(self) -> dict[str, ServeMany]:
        return {"/v3electionpb.Election/Observe": self.observe}

    async def campaign(self, request: election_pb2.CampaignRequest, hold_s: float) -> election_pb2.CampaignResponse:
        """Answers when the candidate leads. One that stands already changes its proposal."""
        try:
            place, header = await self._contending.take(
                request.name, request.lease, request.value, hold_s, on_entered=lambda p: self._propose(p, request.value)
            )
        except RequestError as error:
            raise as_unknown(error) from None
        leader = election_pb2.LeaderKey(name=request.name, key=place.key, rev=place.revision, lease=place.lease)
        return election_pb2.CampaignResponse(header=header, leader=leader)

    async def _propose(self, place: Place, value: bytes) -> None:
        if place.value != value:
            await self._put(place.key, place.revision, place.lease, value, self._hold_s)

    async def proclaim(self, request: election_pb2.ProclaimRequest, hold_s: float) -> election_pb2.ProclaimResponse:
        """Gives the leader another value."""
        leader = _required(request)
        try:
            lease = leader.lease or await self._contending.new_lease()
            header = await self._put(leader.key, leader.rev, lease, request.value, hold_s)
        except RequestError as error:
            raise as_unknown(error) from None
        return election_pb2.ProclaimResponse(header=header)

    async def _put(self, key: bytes, revision: int, lease: int, value: bytes, hold_s: float) -> rpc_pb2.ResponseHeader:
        put = rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=key, value=value, lease=lease))
        done = await self._contending.change(key, revision, put, hold_s)
        if not done.succeeded:
            raise unknown(NOT_LEADER)
        return done.header

    async def leader(self, request: election_pb2.LeaderRequest, hold_s: float) -> election_pb2.LeaderResponse:
        """Who leads, and with what value."""
        try:
            found = await self._contending.first(request.name, hold_s)
        except RequestError as error:
            raise as_unknown(error) from None
        if not found.kvs:
            raise unknown(NO_LEADER)
        return election_pb2.LeaderResponse(header=found.header, kv=found.kvs[0])

    async def resign(self, request: election_pb2.ResignRequest, hold_s: float) -> election_pb2.ResignResponse:
        """Lets the next candidate lead; nothing where the office is gone already."""
        leader = _required(request)
        delete = rpc_pb2.RequestOp(request_delete_range=rpc_pb2.DeleteRangeRequest(key=leader.key))
        try:
            done = await self._contending.change(leader.key, leader.rev, delete, hold_s)
        except RequestError as error:
            raise as_unknown(error) from None
        return election_pb2.ResignResponse(header=done.header)

    async def observe(self, request: election_pb2.LeaderRequest) -> AsyncGenerator[Any, None]:
        """Many responses: who leads, whenever that changes, and whatever leaders proclaim."""
        try:
            async with aclosing(self._reigns(request.name)) as reigns:
                async for response in reigns:
                    yield response
        except RequestError as error:
            raise as_unknown(error) from None

    async def _reigns(self, name: bytes) -> AsyncGenerator[election_pb2.LeaderResponse, None]:
        """One leader after the other, for ever."""
        while True:
            found = await self._contending.first(name, self._hold_s)
            key, revision = b"", found.header.revision
            if found.kvs:
                key = found.kvs[0].key
                yield election_pb2.LeaderResponse(header=found.header, kv=found.kvs[0])
            async with aclosing(self._reign(name, key, revision + 1)) as reign:
                async for response in reign:
                    yield response

    async def _reign(self, name: bytes, key: bytes, revision: int) -> AsyncGenerator[election_pb2.LeaderResponse, None]:
        """What one leader proclaims from a revision on, until it is gone. No key: of whoever comes first."""
        watch = rpc_pb2.WatchCreateRequest(key=key, start_revision=revision)
        if not key:
            watch.key, watch.range_end = name + b"/", name + b"0"
        async with self._contending.watch(watch) as changes:
            while True:
                response = await changes.next()
                if response.canceled:
                    return  # History was compacted away: look anew.
                for event in response.events:
                    key = key or event.kv.key
                    if event.kv.key != key:
                        continue
                    if event.type == mvcc_pb2.Event.DELETE:
                        return
                    yield election_pb2.LeaderResponse(header=response.header, kv=event.kv)


def _required(request: election_pb2.ProclaimRequest | election_pb2.ResignRequest) -> election_pb2.LeaderKey:
    if not request.HasField("leader"):
        raise unknown(NO_LEADER_KEY)
    return request.leader

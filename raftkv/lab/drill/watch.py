"""Who leads, in which term, as each node says: asked of every node all the time, over channels that stay open.

What may not live here: what is made of it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import grpc

from raftkv.pb import rpc_pb2

PERIOD_S = 0.02
DEADLINE_S = 0.3
_OPTIONS = (
    ("grpc.enable_retries", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 200),
)


@dataclass(frozen=True, kw_only=True)
class Sight:
    """A node said at ``at`` (monotonic seconds), for the first time, that it leads this term."""

    at: float
    leader: str
    term: int


class LeaderWatch:
    """Asks until it is closed."""

    def __init__(self, endpoints: Mapping[str, str]) -> None:
        self._channels = {name: grpc.aio.insecure_channel(at, options=_OPTIONS) for name, at in endpoints.items()}
        self._work = [asyncio.create_task(self._ask(name)) for name in endpoints]
        self._terms: dict[str, int] = {}
        self.sights: list[Sight] = []

    @property
    def term(self) -> int:
        """The highest term that any node knows of."""
        return max(self._terms.values(), default=0)

    def led_since(self, moment: float) -> list[Sight]:
        """Leaders first seen after a moment."""
        return [sight for sight in self.sights if sight.at >= moment]

    async def close(self) -> None:
        for task in self._work:
            task.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)
        for channel in self._channels.values():
            await channel.close()

    async def _ask(self, name: str) -> None:
        status: Any = self._channels[name].unary_unary(
            "/etcdserverpb.Maintenance/Status",
            request_serializer=rpc_pb2.StatusRequest.SerializeToString,
            response_deserializer=rpc_pb2.StatusResponse.FromString,
        )
        while True:
            await asyncio.sleep(PERIOD_S)
            try:
                answer = await status(rpc_pb2.StatusRequest(), timeout=DEADLINE_S)
            except grpc.aio.AioRpcError:
                continue  # That it is silent, others see.
            self._terms[name] = answer.raftTerm
            leads = answer.leader != 0 and answer.leader == answer.header.member_id
            if leads and not any(sight.term == answer.raftTerm for sight in self.sights):
                self.sights.append(Sight(at=time.monotonic(), leader=name, term=answer.raftTerm))

"""What a node tells of itself without being asked: its name and client URLs to the cluster, and to health checks that it serves.

What may not live here: what is told when somebody asks (the services).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

from grpc_health.v1 import health_pb2

from raftkv.errors import RequestError
from raftkv.node import Node
from raftkv.pb import rpc_pb2, store_pb2

log = logging.getLogger("raftkv.server")

ANNOUNCE_S = 5.0
"""An announcement may take so long; then it is made again."""
ANNOUNCE_AGAIN_S = 0.5
WAITING_LOG_S = 5.0


async def announce(
    node: Node, *, name: str, client_urls: tuple[str, ...], unreachable: Callable[[], Mapping[Any, str]]
) -> None:
    """Tell the cluster this member's name and client URLs, once it is known where they differ (etcd: publish).

    `unreachable` says which peers cannot be reached now, and why: for the log, while there is no leader.
    """
    while True:
        await _wait_for_leader(node, unreachable)
        known = next((m for m in node.members if node.raft.node_id == m.ID), rpc_pb2.Member())
        if known.name == name and tuple(known.clientURLs) == client_urls:
            return
        command = store_pb2.Command(publish=rpc_pb2.Member(ID=node.raft.node_id, name=name, clientURLs=client_urls))
        commands = store_pb2.BatchRequest(commands=(command,)).SerializeToString()
        try:
            await node.submit(commands, 1, timeout_s=ANNOUNCE_S)
        except RequestError as error:
            if node.stopped.done():
                return
            log.warning("could not announce the client URLs yet: %s", error)
            await asyncio.sleep(ANNOUNCE_AGAIN_S)
        else:
            return


async def _wait_for_leader(node: Node, unreachable: Callable[[], Mapping[Any, str]]) -> None:
    """Wait, and say for whom."""
    while True:
        try:
            async with asyncio.timeout(WAITING_LOG_S):  # Not wait_for: it may lose a cancellation (Python 3.11).
                await node.wait_for_leader()
            return
        except TimeoutError:
            missing = "; ".join(f"{peer}: {why}" for peer, why in unreachable().items())
            log.warning(
                "waiting for a leader; cannot reach %s", missing or "nobody is missing: an election is under way"
            )


async def keep_health(node: Node, health: Any, *, every_s: float) -> None:
    """Keep the gRPC health service true: SERVING while a leader is known."""
    told: Any = None
    while True:
        status = health_pb2.HealthCheckResponse.SERVING
        if not node.raft.leader:
            status = health_pb2.HealthCheckResponse.NOT_SERVING
        if status != told:
            told = status
            await health.set("", status)
        await asyncio.sleep(every_s)

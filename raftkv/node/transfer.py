"""Leadership moved on request, or before a node stops: asked for, then watched until it has come about or is given up.

What may not live here: choosing the successor, and the rules of the transfer (Raft).
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from raftkv.errors import (
    BAD_TRANSFEREE,
    NOT_LEADER,
    TRANSFER_TIMED_OUT,
    Code,
    FailedPrecondition,
    RequestError,
    Unavailable,
)
from raftkv.node.node import Node
from raftkv.raft import RoleName
from raftkv.raft.types import NO_NODE, NodeId

LOOK_AGAIN_S = 0.005
"""A transfer on a quiet machine takes about this long (etcd looks once a tick)."""


async def move_leader(node: Node, target: NodeId, *, timeout_s: float) -> None:
    """Return once `target` leads; requests that come meanwhile are held. Nothing is done if it leads already.

    Raises:
        FailedPrecondition: this node does not lead, or `target` is no voter.
        RequestError: it did not come about: Raft gave it up (an election timeout), or time ran out.

    Source: Raft dissertation §3.10.
    """
    raft = node.raft
    if raft.role is not RoleName.LEADER:
        raise FailedPrecondition(NOT_LEADER)
    if target not in raft.membership.voters:
        raise FailedPrecondition(BAD_TRANSFEREE)
    if target == raft.node_id:
        return
    node.transfer_leadership(target)
    end = asyncio.get_running_loop().time() + timeout_s
    while raft.leader != target:
        if _was_given_up(node) or asyncio.get_running_loop().time() > end:
            raise RequestError(TRANSFER_TIMED_OUT, code=Code.UNKNOWN)
        await asyncio.sleep(LOOK_AGAIN_S)


async def step_down(node: Node, *, timeout_s: float) -> bool:
    """If this node leads and another one could, have that one take over, and return once this node leads no more.

    False if it does not lead, or leads on when time runs out.
    """
    raft = node.raft
    if raft.role is not RoleName.LEADER or len(raft.membership.voters) < 2 or node.stopped.done():
        return False
    node.transfer_leadership()
    with suppress(TimeoutError, Unavailable):
        async with asyncio.timeout(timeout_s):
            while raft.leader == raft.node_id:
                await node.leader_changed()
            return True
    return False


async def hand_over(node: Node, *, timeout_s: float) -> None:
    """If this node leads and another one could, wait until that one does, or time runs out."""
    with suppress(TimeoutError, Unavailable):
        async with asyncio.timeout(timeout_s):
            if await step_down(node, timeout_s=timeout_s):
                await node.wait_for_leader()


def _was_given_up(node: Node) -> bool:
    """The node stopped, or it leads on and hands over to nobody."""
    return node.stopped.done() or (node.raft.role is RoleName.LEADER and node.raft.status().transfer_target == NO_NODE)

"""Leadership moved on request: asked for, then watched until it has come about or is given up.

What may not live here: choosing the successor, and the rules of the transfer (Raft).
"""

from __future__ import annotations

import asyncio

from raftkv.errors import BAD_TRANSFEREE, NOT_LEADER, TRANSFER_TIMED_OUT, Code, FailedPrecondition, RequestError
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


def _was_given_up(node: Node) -> bool:
    """The node stopped, or it leads on and hands over to nobody."""
    return node.stopped.done() or (node.raft.role is RoleName.LEADER and node.raft.status().transfer_target == NO_NODE)

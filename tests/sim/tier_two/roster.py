"""Members that are added, promoted and removed as an operator does it: through the product's `Members`, by table and log.

An id is never used twice, so who was removed is gone for good. What may not live here: changes that only a core would take.
"""

from __future__ import annotations

import random

from raftkv.errors import RequestError
from raftkv.pb import rpc_pb2, store_pb2
from tests.sim.tier_two.member import Member
from tests.sim.tier_two.rpc import call
from tests.sim.world import World

TIMEOUT_S = 1.0


def draw_change(rng: random.Random, asked: Member, members: dict[int, Member]) -> store_pb2.MemberChange | None:
    """Something that the node asked may find in order; often it is refused all the same."""
    table = asked.machine.table
    known = {member.ID: member for member in table.members}
    spare = [node for node in sorted(members) if node not in known and node not in table.removed]
    learners = [node for node, member in sorted(known.items()) if member.isLearner]
    match rng.randrange(4):
        case 0 if spare:
            return _add(rng.choice(spare), is_learner=False)
        case 1 if spare:
            return _add(rng.choice(spare), is_learner=True)
        case 2 if learners:
            return store_pb2.MemberChange(promote=rng.choice(learners))
        case 3 if known:
            return store_pb2.MemberChange(remove=rng.choice(sorted(known)))
    return None


async def carry_out(world: World, asked: Member, change: store_pb2.MemberChange) -> None:
    """Ask a node for it; what becomes of it, the log says."""
    try:
        await call(world, asked, lambda member: member.roster.change(change, timeout_s=TIMEOUT_S), TIMEOUT_S)
    except RequestError:
        return


def row(node: int, *, is_learner: bool = False) -> rpc_pb2.Member:
    """A member as its table has it."""
    return rpc_pb2.Member(ID=node, name=f"n{node}", peerURLs=[f"http://n{node}:2380"], isLearner=is_learner)


def _add(node: int, *, is_learner: bool) -> store_pb2.MemberChange:
    return store_pb2.MemberChange(add=row(node, is_learner=is_learner))

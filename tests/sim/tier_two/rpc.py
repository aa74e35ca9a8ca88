"""Calls into a node's process and back: by clients, and by nodes that pass something on to their leader.

There and back it takes a while, and when nothing comes back in time, nobody knows what became of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from raftkv.errors import STOPPED, Outcome, RequestError, Unavailable
from tests.sim.world import World

if TYPE_CHECKING:
    from tests.sim.tier_two.member import Member

HOP = 200
"""One way, microseconds."""
GRACE_S = 0.01
"""A node has so much longer for its answer than it was told."""

Job = Callable[["Member"], Awaitable[Any]]


async def call(world: World, member: Member, job: Job, timeout_s: float) -> Any:
    """Have `job` done in a node's process. Raises RequestError."""
    loop: Any = asyncio.get_running_loop()
    reply = loop.create_future()
    timer = loop.call_later(timeout_s + GRACE_S, _give_up, reply)
    world.after(world.about(HOP), _arrive, world, member, job, reply)
    try:
        return await reply
    finally:
        timer.cancel()


def _arrive(world: World, member: Member, job: Job, reply: asyncio.Future[Any]) -> None:
    if not member.is_up:
        _settle(reply, Unavailable(STOPPED, outcome=Outcome.NOT_APPLIED))
        return
    context = member.process.context.copy()
    context.run(member.loop.create_task, _serve(world, member, job, reply), context=context)


async def _serve(world: World, member: Member, job: Job, reply: asyncio.Future[Any]) -> None:
    """The server's side, in the node's process."""
    try:
        result = await job(member)
    except RequestError as error:
        result = error
    world.after(world.about(HOP), _settle, reply, result)


def _settle(reply: asyncio.Future[Any], result: Any) -> None:
    if reply.done():
        return
    if isinstance(result, RequestError):
        reply.set_exception(result)
        reply.exception()  # Whoever asked may have died meanwhile, and never look at it.
    else:
        reply.set_result(result)


def _give_up(reply: asyncio.Future[Any]) -> None:
    _settle(reply, Unavailable("nothing was heard of it", outcome=Outcome.UNKNOWN))

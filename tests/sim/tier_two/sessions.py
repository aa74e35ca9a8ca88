"""Clients of tier two that do not take "unknown" for an answer: they send the same write, by its number, to another node.

What may not live here: what they write.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any

from raftkv.errors import Outcome, RequestError, Unavailable
from raftkv.pb import store_pb2
from tests.sim.tier_two.member import Member

ATTEMPTS = 4
Write = Callable[[Member, store_pb2.Command, float], Awaitable[Any]]


class Session:
    """One client's. Its history holds one operation for all copies: were two of them applied, that would show."""

    def __init__(self, write: Write, members: dict[int, Member], rng: random.Random) -> None:
        self._write = write
        self._members = members
        self._rng = rng
        self._id = 0
        self._sequence = 0

    async def write(self, member: Member, command: store_pb2.Command, timeout_s: float) -> Any:
        """The answer to the first copy that took effect. Raises RequestError: see its outcome."""
        if not self._id:
            opened = await self._write(
                member, store_pb2.Command(open_session=store_pb2.OpenSessionRequest()), timeout_s
            )
            self._id = opened.session
        self._sequence += 1
        numbered = store_pb2.Command()
        numbered.CopyFrom(command)
        numbered.session, numbered.sequence, numbered.settled_below = self._id, self._sequence, self._sequence
        is_in_doubt = False
        for _ in range(ATTEMPTS):
            try:
                return await self._write(member, numbered, timeout_s)
            except RequestError as error:
                is_in_doubt |= error.outcome is not Outcome.NOT_APPLIED
                member = self._members[self._rng.choice(sorted(self._members))]
                last = error
        raise Unavailable(str(last), outcome=Outcome.UNKNOWN if is_in_doubt else Outcome.NOT_APPLIED)

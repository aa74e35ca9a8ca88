"""What a follower does once it knows that the leader's process is dead: it does not wait for the election timeout.

Every follower learns it within a few milliseconds of the others. They take turns by rank, so that the first one usually has
the votes before the second asks; and ask again for a while, because a voter that has not seen the evidence yet refuses.

What may not live here: the evidence (transport), and the rules of voting (Raft: PreVote still decides).
"""

from __future__ import annotations

import asyncio

from raftkv.node.inbox import Inbox
from raftkv.raft import Raft, RoleName
from raftkv.raft.types import NodeId

TURN_S = 0.015
"""Between the turns of two followers: an election on a quiet machine takes half of it."""
TRIES_MAX = 10
"""With a turn each this outlasts the slowest witness; then the election timeout takes over."""


class Succession:
    """Campaigns for the place of a dead leader."""

    def __init__(self, raft: Raft, inbox: Inbox) -> None:
        self._raft = raft
        self._inbox = inbox
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def leader_died(self, node: NodeId) -> None:
        """A peer is dead; if it leads, this node's turn to succeed it comes soon."""
        if node != self._raft.leader:
            return
        self._raft.leader_gone()
        heirs = sorted(self._raft.membership.voters - {node})
        if self._raft.node_id not in heirs:
            return
        self.cancel()
        turn = heirs.index(self._raft.node_id)
        if self._raft.severity:
            turn += len(heirs)  # Unfit to lead: if anybody else can, that is who should.
        self._timer = self._loop.call_later(turn * TURN_S, self._campaign, self._raft.term, len(heirs), TRIES_MAX)

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _campaign(self, term: int, heirs: int, tries: int) -> None:
        """Ask for votes unless the term has moved on: then somebody else is ahead."""
        self._timer = None
        if self._raft.term != term or self._raft.role not in (RoleName.FOLLOWER, RoleName.PRE_CANDIDATE):
            return
        self._raft.campaign()
        self._inbox.wake()
        if tries > 1:
            self._timer = self._loop.call_later(heirs * TURN_S, self._campaign, term, heirs, tries - 1)

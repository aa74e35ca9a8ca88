"""succession: the heirs of a dead leader take turns, and nobody campaigns who is not one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from raftkv.node.inbox import Inbox
from raftkv.node.succession import TRIES_MAX, TURN_S, Succession
from raftkv.raft import HeartbeatRequest, PreVoteRequest, PreVoteResponse, RoleName
from tests.node.support import new_raft
from tests.support import eventually


class Heir:
    """A follower of node 2 with nothing but a core; counts the campaigns it was made to start."""

    def __init__(self, node: int, voters: Iterable[int] = (1, 2, 3)) -> None:
        self.node = node
        self.raft = new_raft(node, voters=voters)
        self.campaigns = 0
        self.first_campaign_at: float | None = None
        self.loop = asyncio.get_running_loop()
        self.succession = Succession(self.raft, Inbox(self.loop, self._look))
        self.hear_from(2)

    def hear_from(self, leader: int, term: int = 1) -> None:
        self.raft.step(HeartbeatRequest(sender=leader, receiver=self.node, term=term, commit_index=0))
        self._look()

    def _look(self) -> None:
        while self.raft.has_ready():
            messages = self.raft.ready().messages
            if any(isinstance(message, PreVoteRequest) for message in messages):
                self.campaigns += 1
                self.first_campaign_at = self.first_campaign_at or self.loop.time()


@asynccontextmanager
async def heir(node: int, voters: Iterable[int] = (1, 2, 3)) -> AsyncIterator[Heir]:
    made = Heir(node, voters)
    try:
        yield made
    finally:
        made.succession.cancel()


async def long_enough() -> None:
    """Longer than every turn of a few heirs: what has not happened by now will not. Timers on one loop fire in order."""
    passed = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(5 * TURN_S, passed.set_result, None)
    await passed


async def test_heirs_take_turns_by_rank() -> None:
    async with heir(1) as first, heir(3) as second:
        died_at = first.loop.time()
        second.succession.leader_died(2)
        first.succession.leader_died(2)

        await eventually(lambda: first.campaigns and second.campaigns)

        assert first.first_campaign_at < second.first_campaign_at
        assert second.first_campaign_at >= died_at + TURN_S


async def test_an_heir_does_not_wait_for_the_election_timeout() -> None:
    async with heir(1) as first:
        first.succession.leader_died(2)

        await eventually(lambda: first.campaigns)

        assert first.raft.role is RoleName.PRE_CANDIDATE


async def test_the_death_of_a_follower_is_no_reason_to_campaign() -> None:
    async with heir(1) as first:
        first.succession.leader_died(3)
        await long_enough()

        assert first.campaigns == 0


async def test_a_node_that_does_not_vote_inherits_nothing_but_no_longer_holds_on_to_the_dead() -> None:
    async with heir(4) as learner:
        learner.succession.leader_died(2)
        await long_enough()

        assert learner.campaigns == 0


async def test_a_voter_that_knows_of_the_death_grants_what_its_lease_would_refuse() -> None:
    async with heir(3) as voter:
        question = PreVoteRequest(sender=1, receiver=3, term=2, last_index=0, last_term=0)

        def answer() -> bool:
            voter.raft.step(question)
            ready = voter.raft.ready()
            answers = [m for m in ready.messages + ready.messages_after_save if isinstance(m, PreVoteResponse)]
            return answers[-1].granted

        assert not answer()
        voter.succession.leader_died(2)
        assert answer()


async def test_an_heir_asks_again_for_a_while_and_then_gives_up() -> None:
    """A voter that has not seen the evidence yet refuses the first time."""
    async with heir(1) as only:
        only.succession.leader_died(2)

        await eventually(lambda: only.campaigns == TRIES_MAX)
        await long_enough()

        assert only.campaigns == TRIES_MAX


async def test_an_heir_gives_up_when_the_term_has_moved_on() -> None:
    async with heir(3) as second:
        second.succession.leader_died(2)
        second.hear_from(1, term=2)  # The first one was elected before our turn came.
        await long_enough()

        assert second.campaigns == 0
        assert second.raft.leader == 1


async def test_an_heir_that_has_asked_stops_when_another_was_elected() -> None:
    async with heir(1) as first:
        first.succession.leader_died(2)
        await eventually(lambda: first.campaigns)
        first.hear_from(3, term=2)
        before = first.campaigns
        await long_enough()

        assert first.campaigns == before


async def test_cancelled_means_no_campaign() -> None:
    async with heir(1) as first:
        first.succession.leader_died(2)
        first.succession.cancel()
        await long_enough()

        assert first.campaigns == 0


async def test_evidence_that_comes_twice_starts_the_turns_anew_and_not_twice() -> None:
    async with heir(1) as only:
        only.succession.leader_died(2)
        only.succession.leader_died(2)

        await eventually(lambda: only.campaigns == TRIES_MAX)
        await long_enough()

        assert only.campaigns == TRIES_MAX

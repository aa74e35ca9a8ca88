"""node.lease_duty: the leader lets time pass, and nobody else does."""

from __future__ import annotations

from pathlib import Path

from raftkv.errors import RequestError
from raftkv.lease.clock import ADVANCE_EVERY_MS, LEAD_MAX_MS
from raftkv.node import NodeConfig
from raftkv.node.lease_duty import LeaseDuty
from raftkv.pb import store_pb2
from tests.lease.support import grant, ids, renew
from tests.node.support import STILL, TIMEOUT_S, Member, cluster, commands, member
from tests.statemachine.support import everything, put
from tests.support import eventually

QUICK = NodeConfig(tick_s=0.005)


def advances(this: Member) -> list[store_pb2.ClockAdvance]:
    """What its log says of time."""
    return [
        command.clock_advance
        for batch in this.batches()
        for command in batch.commands
        if command.HasField("clock_advance")
    ]


async def applied(this: Member, *several: store_pb2.Command) -> None:
    answers = await this.node.submit(commands(*several), len(several), timeout_s=TIMEOUT_S)
    assert not any(isinstance(answer, RequestError) for answer in answers), answers


async def test_a_lease_ends_by_itself_and_then_the_log_is_quiet(tmp_path: Path) -> None:
    async with member(tmp_path, config=QUICK) as only:
        await only.leads()
        assert advances(only) == []
        await applied(only, grant(7, 1), put(b"k", lease=7))

        await eventually(lambda: not everything(only.machine))

        told = [advance.now_ms for advance in advances(only)]
        assert told == sorted(told)
        assert told[-1] >= 1500
        assert len(told) < 20
        last = only.raft.last_index
        await applied(only, put(b"k"))
        assert only.raft.last_index == last + 1


async def test_an_advance_is_nobodys_batch(tmp_path: Path) -> None:
    """Nothing is remembered of where it came from, and nobody waits for it."""
    async with member(tmp_path, config=QUICK) as only:
        await only.leads()
        await applied(only, grant(7, 100))
        await eventually(lambda: advances(only))

        assert only.node.is_idle
        batch = next(batch for batch in only.batches() if batch.commands[0].HasField("clock_advance"))
        assert (batch.origin, batch.incarnation, batch.sequence) == (0, 0, 0)


async def test_one_advance_is_on_its_way_at_a_time(tmp_path: Path) -> None:
    """However long it takes to be applied."""
    async with member(tmp_path) as only:
        await only.leads()
        await applied(only, grant(7, 100))
        duty = LeaseDuty(only.raft, tick_ms=10)
        duty.applied(only.machine.clock)

        for _ in range(200):
            duty.tick(1)
        assert [advance.now_ms for advance in advances(only)] == [ADVANCE_EVERY_MS]

        only.node.inbox.wake()
        await eventually(lambda: only.machine.clock.clock_ms == ADVANCE_EVERY_MS)
        duty.applied(only.machine.clock)
        duty.tick(1)
        assert [advance.now_ms for advance in advances(only)] == [ADVANCE_EVERY_MS, LEAD_MAX_MS + 10]


async def test_what_the_core_does_not_take_is_said_again(tmp_path: Path) -> None:
    """While leadership is handed over, time stands still."""
    async with cluster(tmp_path, config=STILL) as members:
        leader = members[1]
        await applied(leader, grant(7, 100))
        duty = LeaseDuty(leader.raft, tick_ms=10)
        duty.applied(leader.machine.clock)
        leader.network.isolate(1)
        leader.raft.transfer_leadership(2)

        for _ in range(200):
            duty.tick(1)

        assert advances(leader) == []


async def test_followers_say_nothing_and_the_next_leader_goes_on(tmp_path: Path) -> None:
    async with cluster(tmp_path) as members:
        await applied(members[2], grant(7, 1), grant(8, 100), put(b"k", lease=7))
        await eventually(lambda: members[1].machine.clock.clock_ms >= 250)
        term = members[1].raft.term
        assert {advance.term for advance in advances(members[3])} == {term}

        members[1].node.transfer_leadership(2)
        await eventually(lambda: members[2].raft.leader == 2)
        await eventually(lambda: all(ids(this.machine) == [8] for this in members.values()))

        assert not everything(members[3].machine)
        told = advances(members[3])
        assert {advance.term for advance in told} == {term, members[2].raft.term}
        assert [advance.now_ms for advance in told] == sorted(advance.now_ms for advance in told)


async def test_a_deposed_leader_ends_nothing(tmp_path: Path) -> None:
    """Cut off, it counts on, but what it says is never committed; the others renew with the new leader."""
    async with cluster(tmp_path) as members:
        network = members[1].network
        await applied(members[2], grant(7, 1))
        network.isolate(1)
        await eventually(lambda: members[2].raft.leader in (2, 3))

        start_ms = members[2].machine.clock.clock_ms
        while members[2].machine.clock.clock_ms < start_ms + 2000:
            (answer,) = await members[2].node.submit(commands(renew(7)), 1, timeout_s=TIMEOUT_S)
            assert answer.TTL == 1
            assert ids(members[1].machine) == [7]
        network.heal()
        await eventually(lambda: members[1].raft.leader == members[2].raft.leader)
        await eventually(lambda: members[1].machine.clock.clock_ms >= start_ms + 2000)

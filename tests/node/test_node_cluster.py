"""node: three of them, through elections, hung disks and hand-overs."""

from __future__ import annotations

import asyncio
import gc
from contextlib import suppress
from pathlib import Path
from typing import Any

from raftkv.errors import Outcome, Unavailable
from raftkv.node.events import PeerConnected
from raftkv.node.transfer import hand_over, step_down
from raftkv.raft import (
    AppendRequest,
    AppendResponse,
    HeartbeatRequest,
    PreVoteRequest,
    PreVoteResponse,
    ProposeRequest,
    RoleName,
    TimeoutNow,
)
from tests.node.support import (
    STILL,
    TIMEOUT_S,
    Complaints,
    Member,
    cluster,
    member,
    outcome_of,
    reading,
    settled,
    submitted,
)
from tests.statemachine.support import everything, get
from tests.support import eventually


def leader_among(members: dict[int, Member], *nodes: int) -> Member | None:
    return next((members[node] for node in nodes if members[node].raft.role is RoleName.LEADER), None)


# Three


async def test_every_member_takes_writes_and_every_member_reads_them(tmp_path: Path) -> None:
    async with cluster(tmp_path) as members:
        for number, this in members.items():
            await this.put(b"key", b"%d" % number)
            for reader in members.values():
                assert await reader.read(b"key") == b"%d" % number


async def test_a_write_made_without_a_leader_is_held_until_there_is_one(tmp_path: Path) -> None:
    async with cluster(tmp_path) as members:
        members[1].network.lost = lambda message: not isinstance(message, PreVoteRequest | PreVoteResponse)
        await eventually(lambda: all(this.raft.leader == 0 for this in members.values()))
        write, read = submitted(members[2], b"key"), reading(members[3], b"other")
        await settled()
        assert not write.done()
        assert not read.done()

        members[1].network.heal()

        await write
        await read


async def test_who_waits_at_a_node_that_is_cut_off_is_told_so_at_once(tmp_path: Path) -> None:
    """Another node may answer: what was never proposed can be sent there."""
    async with cluster(tmp_path) as members:
        members[1].network.isolate(1)
        proposed, read = submitted(members[1], b"proposed"), reading(members[1], b"key")

        assert await outcome_of(proposed) is Outcome.UNKNOWN
        assert await outcome_of(read) is Outcome.NOT_APPLIED
        assert members[1].raft.is_cut_off
        assert await outcome_of(submitted(members[1], b"late")) is Outcome.NOT_APPLIED
        assert await outcome_of(reading(members[1], b"key")) is Outcome.NOT_APPLIED
        await members[2].put(b"elsewhere")


async def test_a_node_that_hears_the_leader_and_is_not_heard_refuses_what_it_cannot_pass_on(tmp_path: Path) -> None:
    async with cluster(tmp_path) as members:
        members[1].network.lost = lambda message: message.sender == 3
        write = submitted(members[3], b"key")

        assert await outcome_of(write) is Outcome.UNKNOWN

        members[1].network.heal()
        await _put_until_taken(members[3], b"key")  # It refuses until the leader's next words have arrived.


async def _put_until_taken(member: Member, key: bytes) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            with suppress(Unavailable):
                await member.put(key)
                return
            await asyncio.sleep(0.01)


async def test_a_batch_is_proposed_again_to_the_next_leader_and_applied_once(tmp_path: Path) -> None:
    async with cluster(tmp_path) as members:
        network = members[1].network
        network.lost = lambda message: isinstance(message, AppendResponse) and message.receiver == 1
        write = submitted(members[2], b"key")
        await eventually(lambda: all(this.batches() for this in members.values()))
        assert not write.done()

        network.isolate(1)  # Before it could commit what the others already have.
        answers = await write

        assert len(answers) == 1
        successor = leader_among(members, 2, 3)
        assert successor is not None
        await eventually(lambda: len(successor.batches()) == 2)
        assert [batch.sequence for batch in successor.batches()] == [1, 1]
        await members[2].put(b"after")
        for node in (2, 3):
            assert await members[node].read(b"key") == b"v"
            assert members[node].machine.revision == 3


async def test_a_batch_that_its_leader_never_got_is_proposed_again(tmp_path: Path) -> None:
    async with cluster(tmp_path) as members:
        network = members[1].network
        dropped: list[Any] = []

        def lost(message: Any) -> bool:
            if isinstance(message, ProposeRequest) and not dropped:
                dropped.append(message)
                return True
            return False

        network.lost = lost
        await members[2].put(b"key")

        assert len(dropped) == 1
        assert members[2].raft.leader == 1


async def test_a_lost_batch_is_proposed_again_though_later_ones_get_through(tmp_path: Path) -> None:
    async with cluster(tmp_path) as members:
        network = members[1].network
        network.lost = lambda message: isinstance(message, ProposeRequest)
        lost = submitted(members[2], b"lost")
        await eventually(lambda: bool(network.sent_of(ProposeRequest)))

        network.heal()
        while not lost.done():
            await members[2].put(b"key")
        await lost


async def test_what_was_sent_without_a_stream_is_sent_again_when_there_is_one(tmp_path: Path) -> None:
    async with cluster(tmp_path, config=STILL) as members:
        network = members[1].network
        network.lost = lambda message: isinstance(message, ProposeRequest)
        lost = submitted(members[2], b"lost")
        await settled()
        assert not lost.done()

        network.heal()
        members[2].node.inbox.post(PeerConnected(1))
        await lost


async def test_a_batch_refused_while_leadership_moves_is_proposed_again(tmp_path: Path) -> None:
    async with cluster(tmp_path) as members:
        network = members[1].network
        network.lost = lambda message: isinstance(message, TimeoutNow)
        members[1].node.transfer_leadership(2)
        await settled()

        writes = [submitted(members[1], b"of the leader"), submitted(members[3], b"of a follower")]

        for write in writes:
            await write  # The transfer came to nothing; the leader takes proposals again.


async def test_reads_are_held_through_an_election(tmp_path: Path) -> None:
    async with cluster(tmp_path) as members:
        await members[1].put(b"key")
        members[1].network.isolate(1)

        reads = [reading(members[node], b"key") for node in (2, 3)]

        assert await asyncio.gather(*reads) == [b"v", b"v"]
        assert leader_among(members, 2, 3)


async def test_a_leader_cut_off_answers_no_read_and_tells_the_truth_about_its_writes(tmp_path: Path) -> None:
    async with cluster(tmp_path) as members:
        old = members[1]
        old.network.isolate(1)
        write = submitted(old, b"key", timeout_s=0.5)
        read = asyncio.create_task(old.node.read(lambda machine: get(machine, b"key"), timeout_s=0.5))
        await members[2].put(b"key", b"newer")

        assert await outcome_of(write) is Outcome.UNKNOWN
        assert await outcome_of(read) is Outcome.NOT_APPLIED


async def test_all_that_was_acknowledged_under_changing_leaders_is_there_in_order(tmp_path: Path) -> None:
    async with cluster(tmp_path) as members:
        network = members[1].network
        for round_number in range(3):
            first = leader_among(members, 1, 2, 3)
            if first is not None:
                network.isolate(first.raft.node_id)
            others = [this for this in members.values() if this is not first]
            writes = [submitted(this, b"%d/%d" % (round_number, n)) for this in others for n in range(10)]
            await asyncio.gather(*writes)
            network.heal()
            await eventually(lambda: {this.raft.leader for this in members.values()} in ({1}, {2}, {3}))
        await eventually(lambda: len({this.machine.revision for this in members.values()}) == 1)

        assert {len(everything(this.machine)) for this in members.values()} == {30}
        assert len({this.machine.hash_kv(0) for this in members.values()}) == 1


# Slow disks


async def test_a_hung_disk_does_not_stop_heartbeats(tmp_path: Path) -> None:
    async with cluster(tmp_path) as members:
        leader = members[1]
        leader.log.is_held = True
        write = submitted(leader, b"key")
        before = len(leader.network.sent_of(HeartbeatRequest, sender=1))

        await eventually(lambda: len(leader.network.sent_of(HeartbeatRequest, sender=1)) >= before + 20)

        assert all(this.raft.leader == 1 for this in members.values())
        await write


async def test_a_leader_whose_disk_hangs_commits_with_two_healthy_followers(tmp_path: Path) -> None:
    async with cluster(tmp_path) as members:
        members[1].log.is_held = True

        await members[1].put(b"key")

        assert members[1].log.waiting
        assert members[1].raft.status().saved_index < members[1].raft.commit_index
        assert await members[1].read(b"key") == b"v"


async def test_a_leader_whose_disk_hangs_does_not_commit_with_one_follower(tmp_path: Path) -> None:
    async with cluster(tmp_path) as members:
        members[1].log.is_held = True
        members[1].network.isolate(3)

        write = submitted(members[1], b"key", timeout_s=0.2)

        assert await outcome_of(write) is Outcome.UNKNOWN
        assert all(everything(this.machine) == {} for this in members.values())


async def test_followers_whose_disks_hang_acknowledge_nothing(tmp_path: Path) -> None:
    async with cluster(tmp_path) as members:
        for node in (2, 3):
            members[node].log.is_held = True

        write = submitted(members[1], b"key")
        await eventually(lambda: members[2].log.waiting and members[3].log.waiting)
        await settled()
        assert not write.done()

        members[3].log.complete()
        await write


# Who leads


async def test_handing_over_returns_when_another_leads(tmp_path: Path) -> None:
    async with cluster(tmp_path) as members:
        await hand_over(members[1].node, timeout_s=0.3)

        assert members[1].raft.leader in (2, 3)
        await members[1].put(b"key")


async def test_stepping_down_returns_as_soon_as_this_node_leads_no_more(tmp_path: Path) -> None:
    async with cluster(tmp_path) as members:
        old = members[1]
        members[2].network.lost = members[3].network.lost = lambda message: isinstance(message, AppendRequest)

        assert await step_down(old.node, timeout_s=TIMEOUT_S)

        assert old.raft.role is RoleName.FOLLOWER
        assert old.raft.leader == 0
        assert not await step_down(old.node, timeout_s=TIMEOUT_S)


async def test_requests_that_are_held_back_are_carried_out_afterwards(tmp_path: Path) -> None:
    async with cluster(tmp_path) as members:
        for this in (members[1], members[2]):
            under_way = submitted(this, b"before")
            await settled()
            taken, _ = this.node.requests_progress
            this.node.hold_requests(True)
            write, read = submitted(this, b"key"), reading(this, b"other")
            await under_way
            await settled()
            assert this.node.requests_progress == (taken + 2, 0)
            assert not write.done()
            assert not read.done()

            this.node.hold_requests(False)

            await write
            await read


async def test_handing_over_is_nothing_for_a_follower_or_a_lone_voter(tmp_path: Path) -> None:
    async with cluster(tmp_path) as members:
        await hand_over(members[2].node, timeout_s=0.3)
        assert members[2].raft.leader == 1
    async with member(tmp_path, node=4, voters=(4,)) as only:
        await only.leads()
        await hand_over(only.node, timeout_s=0.3)
        assert only.raft.role is RoleName.LEADER


async def test_handing_over_to_nobody_gives_up_and_leaves_nothing_behind(tmp_path: Path) -> None:
    complaints = Complaints()
    async with cluster(tmp_path) as members:
        members[1].network.lost = lambda message: isinstance(message, TimeoutNow)

        await hand_over(members[1].node, timeout_s=0.3)

        assert members[1].raft.role is RoleName.LEADER
    del members
    gc.collect()
    await settled()
    assert complaints.seen == []


async def test_leadership_goes_to_the_one_named(tmp_path: Path) -> None:
    async with cluster(tmp_path) as members:
        members[2].node.transfer_leadership(3)

        await eventually(lambda: all(this.raft.leader == 3 for this in members.values()))


async def test_who_waits_for_a_leader_hears_of_one(tmp_path: Path) -> None:
    async with member(tmp_path, voters=(1, 2, 3)) as alone:
        waiting = asyncio.create_task(alone.node.wait_for_leader())
        await settled()
        assert not waiting.done()

        alone.receive(HeartbeatRequest(sender=2, receiver=1, term=1, commit_index=0))

        await waiting

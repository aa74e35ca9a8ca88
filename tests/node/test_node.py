"""node: what its clients are told, through elections and deadlines, and at its end."""

from __future__ import annotations

import asyncio
import gc
import threading
from pathlib import Path
from typing import Any

import pytest

from raftkv.errors import DeadlineExceeded, InvalidArgument, Outcome, RequestError, Unavailable
from raftkv.node.events import Received
from raftkv.node.node import CONTEXT_BITS
from raftkv.raft import (
    AppendRequest,
    AppendResponse,
    HeartbeatRequest,
    ProposeRequest,
    ReadIndexRequest,
    ReadIndexResponse,
    RoleName,
    TimeoutNow,
)
from tests.node.support import INCARNATION, TIMEOUT_S, Member, closed, cluster, commands, member, noop, settled
from tests.statemachine.support import batch, everything, get, put
from tests.support import eventually


def submitted(this: Member, *keys: bytes, timeout_s: float = TIMEOUT_S) -> asyncio.Task[list[Any]]:
    payload = commands(*(put(key) for key in keys))
    return asyncio.create_task(this.node.submit(payload, len(keys), timeout_s=timeout_s))


def reading(this: Member, key: bytes) -> asyncio.Task[bytes | None]:
    return asyncio.create_task(this.read(key))


async def outcome_of(waiting: asyncio.Task[Any]) -> Outcome:
    with pytest.raises(RequestError) as raised:
        await waiting
    return raised.value.outcome


def leader_among(members: dict[int, Member], *nodes: int) -> Member | None:
    return next((members[node] for node in nodes if members[node].raft.role is RoleName.LEADER), None)


class Complaints:
    """What asyncio would report of futures whose failure nobody looked at."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: self.seen.append(context))


# Alone


async def test_a_lone_voter_leads_at_once(tmp_path: Path) -> None:
    async with member(tmp_path) as only:
        await only.leads()
        await only.node.wait_for_leader()


async def test_answers_come_in_the_order_of_the_commands(tmp_path: Path) -> None:
    async with member(tmp_path) as only:
        first, second = submitted(only, b"a", b"b", b"c"), submitted(only, b"d")

        revisions = [answer.header.revision for answer in await first + await second]

        assert revisions == [2, 3, 4, 5]
        assert list(everything(only.machine)) == [b"a", b"b", b"c", b"d"]
        assert only.node.is_idle


async def test_a_refused_command_is_an_answer_among_the_others(tmp_path: Path) -> None:
    async with member(tmp_path) as only:
        payload = commands(put(b"a"), put(b"b", lease=7), put(b"c"))

        answers = await only.node.submit(payload, 3, timeout_s=TIMEOUT_S)

        assert isinstance(answers[1], RequestError)
        assert list(everything(only.machine)) == [b"a", b"c"]


async def test_a_read_sees_the_write_acknowledged_before_it(tmp_path: Path) -> None:
    async with member(tmp_path) as only:
        for value in (b"1", b"2", b"3"):
            await only.put(b"key", value)
            assert await only.read(b"key") == value


async def test_what_a_read_raises_is_what_its_caller_gets(tmp_path: Path) -> None:
    def refuse(machine: Any) -> None:
        raise InvalidArgument("no")

    async with member(tmp_path) as only:
        with pytest.raises(InvalidArgument, match="no"):
            await only.node.read(refuse, timeout_s=TIMEOUT_S)
        with pytest.raises(InvalidArgument, match="no"):
            await only.node.read_local(refuse, timeout_s=TIMEOUT_S)


async def test_a_read_waits_for_the_state_machine(tmp_path: Path) -> None:
    async with member(tmp_path) as only:
        await only.leads()
        only.applier.is_held = True
        write = submitted(only, b"key")
        await eventually(lambda: only.raft.commit_index == 2)
        read = reading(only, b"key")
        await settled()
        assert not write.done()
        assert not read.done()

        only.applier.release()

        await write
        assert await read == b"v"


async def test_a_save_that_never_completes_is_never_acknowledged(tmp_path: Path) -> None:
    async with member(tmp_path) as only:
        await only.leads()
        only.log.is_held = True

        write = submitted(only, b"key", timeout_s=0.05)

        assert await outcome_of(write) is Outcome.UNKNOWN
        assert everything(only.machine) == {}


async def test_a_lone_voter_whose_vote_is_not_on_disk_does_not_lead(tmp_path: Path) -> None:
    only = Member(1, tmp_path)
    only.log.is_held = True
    only.start()
    await settled()
    assert only.raft.role is RoleName.CANDIDATE

    only.log.is_held = False
    only.log.complete()

    await only.leads()
    await only.close()


async def test_an_answer_that_comes_after_the_deadline_goes_nowhere(tmp_path: Path) -> None:
    async with member(tmp_path) as only:
        await only.leads()
        only.log.is_held = True
        late = submitted(only, b"late", timeout_s=0.02)
        assert await outcome_of(late) is Outcome.UNKNOWN

        only.log.is_held = False
        only.log.complete()

        assert await only.read(b"late") == b"v"
        assert only.node.is_idle


async def test_compacted_returns_when_nothing_is_left_to_remove(tmp_path: Path) -> None:
    async with member(tmp_path) as only:
        await only.put(b"key")
        await only.node.compacted(timeout_s=TIMEOUT_S)


async def test_hash_kv_is_the_state_machines(tmp_path: Path) -> None:
    async with member(tmp_path) as only:
        await only.put(b"key")

        digest, _, revision = await only.node.hash_kv(0, timeout_s=TIMEOUT_S)

        assert revision == 2
        assert digest == only.machine.hash_kv(0).hash


async def test_a_hash_that_nobody_waits_for_any_more_holds_no_view_of_the_state(tmp_path: Path) -> None:
    """Closing the state machine waits for such views, and so does a database that must grow."""
    async with member(tmp_path, is_threaded=True) as only:
        await only.put(b"key")
        gate = threading.Event()
        only.applier.call(lambda machine: gate.wait(TIMEOUT_S), lambda result: None)
        with pytest.raises(DeadlineExceeded):
            await only.node.hash_kv(0, timeout_s=0.01)
        gate.set()

        await closed(only.applier)


async def test_a_node_that_stopped_lets_go_of_what_comes_too_late(tmp_path: Path) -> None:
    async with member(tmp_path, is_threaded=True) as only:
        await only.put(b"key")
        gate = threading.Event()
        only.applier.call(lambda machine: gate.wait(TIMEOUT_S), lambda result: None)
        waiting = asyncio.create_task(only.node.hash_kv(0, timeout_s=TIMEOUT_S))
        await settled()
        only.node.stop()
        with pytest.raises(Unavailable):
            await waiting
        gate.set()

        await closed(only.applier)


# Deadlines without a leader


async def test_what_was_never_proposed_at_its_deadline_is_not_applied(tmp_path: Path) -> None:
    async with member(tmp_path, voters=(1, 2, 3)) as alone:
        write = submitted(alone, b"key", timeout_s=0.02)

        assert await outcome_of(write) is Outcome.NOT_APPLIED
        assert alone.network.sent_of(ProposeRequest) == []


async def test_what_was_proposed_and_not_answered_at_its_deadline_is_unknown(tmp_path: Path) -> None:
    async with member(tmp_path, voters=(1, 2, 3)) as follower:
        follower.receive(HeartbeatRequest(sender=2, receiver=1, term=1, commit_index=0))
        await settled()

        write = submitted(follower, b"key", timeout_s=0.02)

        assert await outcome_of(write) is Outcome.UNKNOWN
        assert [message.receiver for message in follower.network.sent_of(ProposeRequest)] == [2]


async def test_a_read_that_nobody_confirms_ends_at_its_deadline(tmp_path: Path) -> None:
    async with member(tmp_path, voters=(1, 2, 3)) as alone:
        with pytest.raises(DeadlineExceeded) as raised:
            await alone.node.read(lambda machine: get(machine, b"key"), timeout_s=0.02)
        assert raised.value.outcome is Outcome.NOT_APPLIED


async def test_a_read_confirmed_at_an_index_waits_until_the_log_has_come_so_far(tmp_path: Path) -> None:
    async with member(tmp_path, voters=(1, 2, 3)) as follower:
        follower.receive(HeartbeatRequest(sender=2, receiver=1, term=1, commit_index=0))
        await settled()
        read = reading(follower, b"key")
        await settled()
        (asked,) = follower.network.sent_of(ReadIndexRequest)
        follower.receive(ReadIndexResponse(sender=2, receiver=1, term=1, context=asked.context, index=2))
        await settled()
        assert not read.done()

        entries = (noop(1), batch(2, put(b"key")))
        append = AppendRequest(sender=2, receiver=1, term=1, prev_index=0, prev_term=0, commit_index=2, entries=entries)
        follower.receive(append)

        assert await read == b"v"


async def test_an_answer_to_the_nodes_previous_life_confirms_no_read(tmp_path: Path) -> None:
    async with member(tmp_path, voters=(1, 2, 3)) as follower:
        follower.receive(HeartbeatRequest(sender=2, receiver=1, term=1, commit_index=0))
        await settled()
        read = reading(follower, b"key")
        await settled()
        (asked,) = follower.network.sent_of(ReadIndexRequest)
        earlier = asked.context - ((asked.context >> CONTEXT_BITS) << CONTEXT_BITS)

        follower.receive(ReadIndexResponse(sender=2, receiver=1, term=1, context=earlier, index=0))
        await settled()

        assert asked.context >> CONTEXT_BITS == INCARNATION
        assert not read.done()
        read.cancel()


async def test_a_local_read_needs_no_leader(tmp_path: Path) -> None:
    async with member(tmp_path, voters=(1, 2, 3)) as alone:
        assert await alone.node.read_local(lambda machine: machine.revision, timeout_s=TIMEOUT_S) == 1


# Three


async def test_every_member_takes_writes_and_every_member_reads_them(tmp_path: Path) -> None:
    async with cluster(tmp_path) as members:
        for number, this in members.items():
            await this.put(b"key", b"%d" % number)
            for reader in members.values():
                assert await reader.read(b"key") == b"%d" % number


async def test_a_write_made_without_a_leader_is_held_until_there_is_one(tmp_path: Path) -> None:
    async with cluster(tmp_path) as members:
        members[1].network.lost = lambda message: True
        await eventually(lambda: all(this.raft.leader == 0 for this in members.values()))
        write, read = submitted(members[2], b"key"), reading(members[3], b"other")
        await settled()
        assert not write.done()
        assert not read.done()

        members[1].network.heal()

        await write
        await read


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
        await members[1].node.hand_over()

        assert members[1].raft.leader in (2, 3)
        await members[1].put(b"key")


async def test_handing_over_is_nothing_for_a_follower_or_a_lone_voter(tmp_path: Path) -> None:
    async with cluster(tmp_path) as members:
        await members[2].node.hand_over()
        assert members[2].raft.leader == 1
    async with member(tmp_path, node=4, voters=(4,)) as only:
        await only.leads()
        await only.node.hand_over()
        assert only.raft.role is RoleName.LEADER


async def test_handing_over_to_nobody_gives_up_and_leaves_nothing_behind(tmp_path: Path) -> None:
    complaints = Complaints()
    async with cluster(tmp_path) as members:
        members[1].network.lost = lambda message: isinstance(message, TimeoutNow)

        await members[1].node.hand_over()

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


# The end


async def test_stopping_tells_everybody_the_truth(tmp_path: Path) -> None:
    complaints = Complaints()
    async with member(tmp_path) as only:
        await only.leads()
        only.log.is_held = True
        proposed, read = submitted(only, b"a"), reading(only, b"a")
        await settled()
        waiting = submitted(only, b"b")
        await asyncio.sleep(0)
        only.node.stop("going down")

        assert await outcome_of(proposed) is Outcome.UNKNOWN
        assert await outcome_of(waiting) in (Outcome.UNKNOWN, Outcome.NOT_APPLIED)
        with pytest.raises(RequestError):
            await only.node.read(lambda machine: None, timeout_s=TIMEOUT_S)
        await asyncio.gather(read, return_exceptions=True)
        assert only.node.stopped.done()
    del only
    gc.collect()
    assert complaints.seen == []


async def test_stopping_without_a_leader_fails_what_is_held_as_not_applied(tmp_path: Path) -> None:
    async with member(tmp_path, voters=(1, 2, 3)) as alone:
        write, read = submitted(alone, b"a"), reading(alone, b"a")
        waiter = asyncio.create_task(alone.node.wait_for_leader())
        await settled()

        alone.node.stop("going down")

        assert await outcome_of(write) is Outcome.NOT_APPLIED
        assert await outcome_of(read) is Outcome.NOT_APPLIED
        assert await outcome_of(waiter) is Outcome.NOT_APPLIED


async def test_stopping_does_not_leave_a_read_to_its_deadline(tmp_path: Path) -> None:
    """A read may have gone to the state machine's thread already, whose answers nobody hands out any more."""
    async with member(tmp_path) as only:
        await only.leads()
        only.applier.is_held = True
        reads = [
            asyncio.create_task(only.node.read_local(lambda machine: None, timeout_s=TIMEOUT_S)),
            asyncio.create_task(only.node.read(lambda machine: None, timeout_s=TIMEOUT_S)),
        ]
        await settled()
        assert not only.node.is_idle

        only.node.stop("going down")
        await settled()

        assert all(read.done() for read in reads)
        for read in reads:
            assert await outcome_of(read) is Outcome.NOT_APPLIED
        only.applier.release()


async def test_a_node_that_stopped_refuses_at_once(tmp_path: Path) -> None:
    async with member(tmp_path) as only:
        only.node.stop()

        for refused in (only.put(b"a"), only.read(b"a"), only.node.read_local(lambda machine: None, timeout_s=1)):
            with pytest.raises(Unavailable) as raised:
                await refused
            assert raised.value.outcome is Outcome.NOT_APPLIED
        await only.node.hand_over()


async def test_nobody_waits_for_the_leader_of_a_node_that_stopped(tmp_path: Path) -> None:
    async with member(tmp_path, voters=(1, 2, 3)) as alone:
        alone.node.stop()

        with pytest.raises(Unavailable):
            await asyncio.wait_for(alone.node.wait_for_leader(), 1.0)


async def test_a_bug_stops_the_node_and_is_told_to_its_owner(tmp_path: Path) -> None:
    async with member(tmp_path, voters=(1, 2, 3)) as alone:
        write = submitted(alone, b"a")
        alone.node.inbox.post(Received([HeartbeatRequest(sender=2, receiver=9, term=1, commit_index=0)]))

        assert await outcome_of(write) is Outcome.NOT_APPLIED
        with pytest.raises(AssertionError, match="at node 1"):
            await alone.node.stopped


async def test_a_caller_that_goes_away_is_forgotten(tmp_path: Path) -> None:
    async with member(tmp_path, voters=(1, 2, 3)) as alone:
        write, read = submitted(alone, b"a"), reading(alone, b"a")
        await settled()
        for task in (write, read):
            task.cancel()
        await asyncio.gather(write, read, return_exceptions=True)

        alone.receive(HeartbeatRequest(sender=2, receiver=1, term=1, commit_index=0))
        await settled()

        assert alone.node.is_idle
        assert alone.network.sent_of(ProposeRequest) == []

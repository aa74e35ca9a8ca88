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
from raftkv.node.requests import CONTEXT_BITS
from raftkv.node.transfer import hand_over
from raftkv.raft import (
    AppendRequest,
    HeartbeatRequest,
    ProposeRequest,
    ReadIndexRequest,
    ReadIndexResponse,
    RoleName,
)
from tests.node.support import (
    INCARNATION,
    TIMEOUT_S,
    Complaints,
    Member,
    closed,
    commands,
    held_commit,
    member,
    noop,
    outcome_of,
    reading,
    settled,
    submitted,
)
from tests.statemachine.support import batch, everything, get, put
from tests.support import eventually

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


async def test_during_a_commit_to_disk_puts_are_answered_and_reads_wait(tmp_path: Path) -> None:
    async with member(tmp_path, is_threaded=True) as only:
        await only.put(b"key", b"old")
        with held_commit(
            only.machine, lambda: only.applier.call(lambda machine: machine.commit(), lambda result: None)
        ):
            assert (await only.put(b"key", b"new")).header.revision == 3
            confirmed = reading(only, b"key")
            local = asyncio.create_task(only.node.read_local(lambda machine: get(machine, b"key"), timeout_s=TIMEOUT_S))
            await settled()
            assert not confirmed.done()
            assert not local.done()

        assert await confirmed == await local == b"new"


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
        await hand_over(only.node, timeout_s=0.3)


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

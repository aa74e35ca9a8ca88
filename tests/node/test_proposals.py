"""proposals: what is batched, held, proposed again and answered; and what a caller is told who gets no answer."""

from __future__ import annotations

import asyncio

import pytest

from raftkv.errors import Outcome, ResourceExhausted, Unavailable
from raftkv.node import proposals as limits
from raftkv.node.proposals import Batch, Proposals, Submission
from raftkv.pb import store_pb2
from tests.node.support import commands
from tests.statemachine.support import put


def submission(*keys: bytes, value: bytes = b"v") -> Submission:
    future: asyncio.Future[list] = asyncio.get_running_loop().create_future()
    return Submission(commands(*(put(key, value) for key in keys)), len(keys), future)


def submitted(held: Proposals, *keys: bytes, value: bytes = b"v") -> Submission:
    made = submission(*keys, value=value)
    held.submit(made)
    return made


def parsed(batch: Batch) -> store_pb2.CommandBatch:
    return store_pb2.CommandBatch.FromString(batch.proposal.data)


def keys_of(batch: Batch) -> list[bytes]:
    return [command.put.key for command in parsed(batch).commands]


def next_batch_in_time(held: Proposals) -> Batch:
    """Also where others are under way."""
    held.tick()
    return held.next_batch()


async def test_what_has_queued_goes_as_one_batch_in_its_order() -> None:
    held = Proposals(7, 3)
    for keys in ([b"a", b"b"], [b"c"]):
        submitted(held, *keys)

    batch = held.next_batch()

    assert keys_of(batch) == [b"a", b"b", b"c"]
    assert (parsed(batch).origin, parsed(batch).incarnation, parsed(batch).sequence) == (7, 3, 1)
    assert held.next_batch() is None


async def test_each_caller_gets_the_answers_to_its_own_commands() -> None:
    held = Proposals(7, 3)
    first, second = submitted(held, b"a", b"b"), submitted(held, b"c")
    batch = held.next_batch()

    held.resolve(batch.sequence, ["A", "B", "C"])

    assert first.future.result() == ["A", "B"]
    assert second.future.result() == ["C"]
    assert held.is_idle


async def test_an_answer_given_twice_counts_once() -> None:
    held = Proposals(7, 3)
    first = submitted(held, b"a")
    batch = held.next_batch()

    held.resolve(batch.sequence, ["A"])
    held.resolve(batch.sequence, ["another"])

    assert first.future.result() == ["A"]


async def test_a_caller_that_gave_up_does_not_shift_the_answers_of_the_others() -> None:
    held = Proposals(7, 3)
    gone, stays = submitted(held, b"a", b"b"), submitted(held, b"c")
    batch = held.next_batch()
    gone.future.cancel()

    held.resolve(batch.sequence, ["A", "B", "C"])

    assert stays.future.result() == ["C"]


async def test_who_gave_up_while_waiting_is_never_proposed() -> None:
    held = Proposals(7, 3)
    gone = submitted(held, b"a")
    submitted(held, b"b")
    gone.future.cancel()

    batch = held.next_batch()

    assert keys_of(batch) == [b"b"]
    assert not gone.was_proposed


async def test_a_queue_that_everybody_left_makes_no_batch() -> None:
    held = Proposals(7, 3)
    submitted(held, b"a").future.cancel()

    assert held.next_batch() is None
    assert held.is_idle


async def test_no_more_batches_are_under_way_than_the_window_allows() -> None:
    held = Proposals(7, 3)
    for number in range(limits.BATCHES_IN_FLIGHT_MAX):
        submitted(held, b"%d" % number)
        assert next_batch_in_time(held) is not None
    submitted(held, b"next")

    assert next_batch_in_time(held) is None
    held.resolve(1, ["A"])
    assert keys_of(next_batch_in_time(held)) == [b"next"]


async def test_beyond_two_a_batch_that_is_not_full_waits_for_company_until_the_next_tick() -> None:
    held = Proposals(7, 3)
    for key in (b"a", b"b"):
        submitted(held, key)
        assert held.next_batch() is not None
    submitted(held, b"c")
    assert held.next_batch() is None
    submitted(held, b"d")

    assert keys_of(next_batch_in_time(held)) == [b"c", b"d"]
    submitted(held, b"e")
    assert held.next_batch() is None
    held.resolve(1, ["A"])
    assert held.next_batch() is None
    held.resolve(2, ["B"])
    assert keys_of(held.next_batch()) == [b"e"]


async def test_a_full_batch_waits_for_nobody() -> None:
    held = Proposals(7, 3)
    for key in (b"a", b"b"):
        submitted(held, key)
        assert held.next_batch() is not None
    submitted(held, b"c", value=bytes(limits.BATCH_BYTES_MAX))

    assert keys_of(held.next_batch()) == [b"c"]


async def test_a_batch_ends_before_it_grows_too_large() -> None:
    held = Proposals(7, 3)
    for key in (b"a", b"b", b"c"):
        submitted(held, key, value=bytes(limits.BATCH_BYTES_MAX * 2 // 5))

    assert keys_of(held.next_batch()) == [b"a", b"b"]
    assert keys_of(held.next_batch()) == [b"c"]


async def test_a_submission_larger_than_a_batch_goes_alone() -> None:
    held = Proposals(7, 3)
    submitted(held, b"large", value=bytes(limits.BATCH_BYTES_MAX + 1))
    submitted(held, b"small")

    assert keys_of(held.next_batch()) == [b"large"]
    assert keys_of(held.next_batch()) == [b"small"]


async def test_a_batch_holds_no_more_commands_than_allowed() -> None:
    held = Proposals(7, 3)
    most = [b"%d" % number for number in range(limits.BATCH_COMMANDS_MAX)]
    submitted(held, *most)
    submitted(held, b"next")

    assert len(keys_of(held.next_batch())) == limits.BATCH_COMMANDS_MAX
    assert keys_of(held.next_batch()) == [b"next"]


async def test_a_full_queue_refuses_and_takes_again_once_there_is_room() -> None:
    held = Proposals(7, 3)
    half = bytes(limits.QUEUE_BYTES_MAX // 2)
    submitted(held, b"a", value=half)

    with pytest.raises(ResourceExhausted) as refused:
        submitted(held, b"b", value=half)

    assert refused.value.outcome is Outcome.NOT_APPLIED
    assert keys_of(held.next_batch()) == [b"a"]
    submitted(held, b"b", value=half)


async def test_a_batch_put_back_is_as_if_it_had_never_been_made() -> None:
    held = Proposals(7, 3)
    first, second = submitted(held, b"a"), submitted(held, b"b")
    batch = held.next_batch()
    held.put_back(batch)
    submitted(held, b"c")

    assert not first.was_proposed
    assert not second.was_proposed
    again = held.next_batch()
    assert again.sequence == batch.sequence
    assert keys_of(again) == [b"a", b"b", b"c"]


async def test_unresolved_batches_are_proposed_again_unchanged_and_oldest_first() -> None:
    held = Proposals(7, 3)
    batches = []
    for key in (b"a", b"b", b"c"):
        submitted(held, key)
        batches.append(next_batch_in_time(held))
    held.resolve(2, ["B"])

    assert [batch.proposal for batch in held.unresolved()] == [batches[0].proposal, batches[2].proposal]


async def test_a_batch_that_overtakes_another_is_not_the_oldest() -> None:
    held = Proposals(7, 3)
    for key in (b"a", b"b", b"c"):
        submitted(held, key)
        next_batch_in_time(held)

    assert [held.resolve(sequence, ["done"]) for sequence in (2, 1, 1, 3)] == [False, True, False, True]


async def test_a_batch_that_nobody_waits_for_is_not_proposed_again() -> None:
    held = Proposals(7, 3)
    submitted(held, b"a")
    gone = submitted(held, b"b")
    batch = held.next_batch()
    for waiting in batch.submissions:
        waiting.future.cancel()

    assert list(held.unresolved()) == []
    assert gone.was_proposed
    assert held.is_idle


async def test_a_batch_says_which_sequences_are_settled() -> None:
    """Everything below will not be proposed again: the state machine may forget it."""
    held = Proposals(7, 3)
    batches = []
    for key in (b"a", b"b", b"c"):
        submitted(held, key)
        batches.append(next_batch_in_time(held))
    held.resolve(1, ["A"])
    submitted(held, b"d")
    batches.append(next_batch_in_time(held))

    assert [parsed(batch).settled_below for batch in batches] == [1, 1, 1, 2]


async def test_a_batch_that_took_effect_in_a_snapshot_ends_unknown() -> None:
    held = Proposals(7, 3)
    waiting = submitted(held, b"a")
    batch = held.next_batch()

    held.resolve(batch.sequence, None)

    with pytest.raises(Unavailable) as raised:
        await waiting.future
    assert raised.value.outcome is Outcome.UNKNOWN


async def test_failing_everything_tells_proposed_from_never_proposed() -> None:
    held = Proposals(7, 3)
    proposed = submitted(held, b"a")
    held.next_batch()
    queued = submitted(held, b"b")

    held.fail_all("stopping")

    with pytest.raises(Unavailable, match="stopping") as of_proposed:
        await proposed.future
    with pytest.raises(Unavailable, match="stopping") as of_queued:
        await queued.future
    assert of_proposed.value.outcome is Outcome.UNKNOWN
    assert of_queued.value.outcome is Outcome.NOT_APPLIED
    assert held.is_idle

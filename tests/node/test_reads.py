"""reads: one round for all that wait, none that begins before its read, and an answer only from a state far enough."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from google.protobuf.message import DecodeError, EncodeError

from raftkv.errors import Compacted, Outcome, ResourceExhausted, Unavailable
from raftkv.node.reads import ROUNDS_IN_FLIGHT_MAX, Read, Reads, deliver, run_jobs


def read(result: Any = None) -> Read:
    return Read(lambda machine: result, asyncio.get_running_loop().create_future())


def added(reads: Reads, count: int = 1) -> list[Read]:
    made = [read() for _ in range(count)]
    for one in made:
        reads.add(one)
    return made


async def test_all_that_wait_share_one_round() -> None:
    reads = Reads(first_context=100)
    made = added(reads, 3)

    context = reads.next_round()
    assert context == 100
    assert reads.next_round() is None
    reads.answered(context, 5)

    assert reads.take_ready(5) == made


async def test_a_read_that_came_during_a_round_waits_for_the_next() -> None:
    reads = Reads(first_context=100)
    early = added(reads)
    context = reads.next_round()
    late = added(reads)
    reads.answered(context, 5)

    assert reads.take_ready(5) == early
    context = reads.next_round()
    reads.answered(context, 6)
    assert reads.take_ready(6) == late


async def test_a_read_is_not_answered_by_a_state_behind_its_index() -> None:
    reads = Reads(first_context=100)
    made = added(reads)
    reads.answered(reads.next_round(), 5)

    assert reads.take_ready(4) == []
    assert not reads.is_idle
    assert reads.take_ready(5) == made
    assert reads.is_idle


async def test_only_so_many_rounds_are_under_way() -> None:
    reads = Reads(first_context=100)
    contexts = []
    for _ in range(ROUNDS_IN_FLIGHT_MAX):
        added(reads)
        contexts.append(reads.next_round())
    added(reads)

    assert reads.next_round() is None
    reads.answered(contexts[0], 5)
    assert reads.next_round() is not None


async def test_what_could_not_be_confirmed_is_asked_under_a_new_context_before_what_came_later() -> None:
    reads = Reads(first_context=100)
    early = added(reads)
    refused = reads.next_round()
    late = added(reads)
    reads.answered(refused, None)

    context = reads.next_round()
    assert context != refused
    reads.answered(context, 5)
    assert reads.take_ready(5) == early + late


async def test_after_asking_again_an_answer_to_the_old_question_counts_for_nothing() -> None:
    reads = Reads(first_context=100)
    made = added(reads)
    old = reads.next_round()
    reads.ask_again()
    reads.answered(old, 5)

    assert reads.take_ready(9) == []
    reads.answered(reads.next_round(), 6)
    assert reads.take_ready(9) == made


async def test_nothing_is_asked_for_those_who_gave_up() -> None:
    reads = Reads(first_context=100)
    added(reads)[0].future.cancel()

    assert reads.next_round() is None
    assert reads.is_idle


async def test_failing_all_reaches_reads_in_every_stage() -> None:
    reads = Reads(first_context=100)
    made = added(reads)
    reads.answered(reads.next_round(), 5)
    made += added(reads)
    reads.next_round()
    made += added(reads)

    reads.fail_all("stopping")

    for one in made:
        with pytest.raises(Unavailable, match="stopping") as raised:
            await one.future
        assert raised.value.outcome is Outcome.NOT_APPLIED
    assert reads.is_idle


async def test_a_refused_read_fails_alone() -> None:
    def refuse(machine: Any) -> Any:
        raise Compacted("compacted")

    made = [read("first"), Read(refuse, asyncio.get_running_loop().create_future()), read("third")]

    deliver(made, run_jobs(None, made))

    assert made[0].future.result() == "first"
    assert made[2].future.result() == "third"
    with pytest.raises(Compacted):
        made[1].future.result()


@pytest.mark.parametrize("error", [DecodeError("too large"), EncodeError("too large")], ids=["put in", "written out"])
async def test_a_read_whose_answer_protobuf_cannot_hold_fails_alone(error: Exception) -> None:
    """A txn that ranges over more than 2 GiB; the answer of such a size is not made here, protobuf's refusal of it is."""

    def refuse(machine: Any) -> Any:
        raise error

    made = [read("first"), Read(refuse, asyncio.get_running_loop().create_future()), read("third")]

    deliver(made, run_jobs(None, made))

    assert [made[0].future.result(), made[2].future.result()] == ["first", "third"]
    with pytest.raises(ResourceExhausted, match="larger than 2 GiB") as caught:
        made[1].future.result()
    assert caught.value.outcome is Outcome.NOT_APPLIED


async def test_a_read_that_fails_for_another_reason_is_not_taken_for_an_answer() -> None:
    def fail(machine: Any) -> Any:
        raise ValueError("damaged")

    with pytest.raises(ValueError, match="damaged"):
        run_jobs(None, [Read(fail, asyncio.get_running_loop().create_future())])


async def test_a_result_for_someone_who_gave_up_is_dropped() -> None:
    made = [read("first"), read("second")]
    made[0].future.cancel()

    deliver(made, run_jobs(None, made))

    assert made[1].future.result() == "second"

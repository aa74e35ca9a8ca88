"""What is foreseen of puts is what they are answered when they are applied; what cannot be foreseen is left alone."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from raftkv.mvcc.schema import KEY_BYTES_MAX
from raftkv.pb import rpc_pb2 as rpc
from raftkv.pb import store_pb2
from raftkv.raft.types import Entry, EntryKind, Membership
from raftkv.statemachine import StateMachine, sessions
from tests.node.support import noop
from tests.statemachine.support import US, apply, batch, delete, open_machine, put, txn

THEM = (2, 7)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[StateMachine]:
    made = open_machine(tmp_path)
    yield made
    made.close(commit=False)


def opened(machine: StateMachine) -> int:
    (answer,) = apply(machine, store_pb2.Command(open_session=store_pb2.OpenSessionRequest()))
    session: int = answer.session
    return session


def numbered(session: int, sequence: int, *, settled_below: int = 0, key: bytes = b"k") -> store_pb2.Command:
    command = put(key)
    command.session, command.sequence, command.settled_below = session, sequence, settled_below
    return command


def foreseen(machine: StateMachine, *entries: Entry) -> list:
    """What is foreseen of these, once it is compared with what comes of them."""
    told = machine.outlook(US).foresee(entries)
    answered = {one.sequence: one for one in machine.apply(entries, wanted=US)}
    assert all(answered[one.sequence] == one for one in told)
    return told


def revisions(told: list) -> list[list[int]]:
    return [[answer.header.revision for answer in one.answers] for one in told]


def test_plain_puts_of_ours_are_foreseen_whoever_writes_between_them(machine: StateMachine) -> None:
    told = foreseen(
        machine,
        noop(1),
        batch(2, put(b"a"), put(b"b")),
        batch(3, put(b"a"), origin=THEM[0], incarnation=THEM[1]),
        batch(4, put(b"a")),
    )

    assert [one.sequence for one in told] == [2, 4]
    assert revisions(told) == [[2, 3], [5]]


def test_nothing_is_told_twice_and_what_comes_later_goes_on_from_there(machine: StateMachine) -> None:
    entries = [batch(index, put(b"a")) for index in (1, 2, 3)]
    outlook = machine.outlook(US)

    assert revisions(outlook.foresee(entries[:2])) == [[2], [3]]
    assert outlook.foresee(entries[:2]) == []
    assert revisions(outlook.foresee(entries)) == [[4]]


def test_what_nobody_here_waits_for_is_looked_at_when_something_of_ours_comes_behind_it(machine: StateMachine) -> None:
    theirs = batch(1, put(b"a"), origin=THEM[0], incarnation=THEM[1])
    outlook = machine.outlook(US)

    assert outlook.foresee([theirs]) == []
    assert revisions(outlook.foresee([theirs, batch(2, put(b"a"))])) == [[3]]


@pytest.mark.parametrize(
    "command",
    [
        delete(b"a"),
        txn(rpc.RequestOp(request_put=rpc.PutRequest(key=b"a"))),
        put(b"a", prev_kv=True),
        put(b"a", ignore_value=True),
        put(b"a", lease=9),
        put(b""),
        put(b"k" * (KEY_BYTES_MAX + 1)),
        store_pb2.Command(open_session=store_pb2.OpenSessionRequest()),
        store_pb2.Command(clock_advance=store_pb2.ClockAdvance(term=1, now_ms=1)),
        numbered(session=1234, sequence=1),
    ],
    ids=lambda command: command.WhichOneof("operation"),
)
def test_a_command_that_is_more_than_a_plain_put_hides_itself_and_all_behind_it(
    machine: StateMachine, command: store_pb2.Command
) -> None:
    entries = [batch(1, put(b"a")), batch(2, put(b"b"), command), batch(3, put(b"c"))]
    outlook = machine.outlook(US)

    assert [one.sequence for one in outlook.foresee(entries)] == [1]
    assert outlook.foresee([*entries, batch(4, put(b"d"))]) == []


def test_so_does_a_change_of_the_membership(machine: StateMachine) -> None:
    change = Entry(2, 1, EntryKind.MEMBERSHIP, b"", Membership(voters=frozenset({1, 2, 3})))

    assert len(foreseen(machine, batch(1, put(b"a")), change, batch(3, put(b"c")))) == 1


def test_so_does_a_snapshot_that_is_to_be_installed_first(machine: StateMachine) -> None:
    outlook = machine.outlook(US)

    assert len(outlook.foresee([batch(1, put(b"a")), batch(21, put(b"b"))])) == 1
    assert outlook.foresee([batch(21, put(b"b")), batch(22, put(b"b"))]) == []


def test_a_batch_that_was_applied_before_takes_no_revision(machine: StateMachine) -> None:
    machine.apply([batch(1, put(b"a"), sequence=1)])

    told = foreseen(
        machine,
        batch(2, put(b"a"), sequence=1),
        batch(3, put(b"b"), sequence=2),
        batch(4, put(b"b"), sequence=2),
        batch(5, put(b"c"), incarnation=US[1] + 1, sequence=1),
        batch(6, put(b"c"), sequence=3),
        batch(7, put(b"c"), origin=0),
        noop(8),
    )

    assert [one.sequence for one in told] == [2]
    assert machine.revision == 5


def test_a_write_of_a_session_is_foreseen_once(machine: StateMachine) -> None:
    session = opened(machine)

    told = foreseen(
        machine,
        batch(2, numbered(session, 1), numbered(session, 3, settled_below=2), put(b"b")),
        batch(3, numbered(session, 2), numbered(session, 4)),
    )
    assert revisions(told) == [[2, 3, 4], [5, 6]]
    for sequence in (1, 3, 4):  # Settled, known from before the commit, and known from within it.
        index = machine.applied_index + 1
        assert foreseen(machine, batch(index, numbered(session, sequence))) == []
        told = foreseen(
            machine, batch(index + 1, numbered(session, 10 + index)), batch(index + 2, numbered(session, 10 + index))
        )
        assert len(told) == 1


def test_a_session_that_is_full_is_not_foreseen_to_take_more(
    machine: StateMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "ANSWERS_MAX", 3)
    session = opened(machine)
    machine.apply([batch(2, numbered(session, 1))])

    told = foreseen(machine, *(batch(index, numbered(session, index)) for index in range(3, 7)))

    assert len(told) == 2


@pytest.mark.parametrize("seed", range(200))
def test_whatever_comes_it_is_answered_as_foreseen(machine: StateMachine, seed: int) -> None:
    rng = random.Random(seed)
    ours = [opened(machine), opened(machine)]
    told = 0

    def command() -> store_pb2.Command:
        kind = rng.random()
        if kind < 0.03:
            return rng.choice([delete(b"1"), put(b"2", prev_kv=True), txn(), put(b"", b""), put(b"3", lease=1)])
        if kind < 0.5:
            return put(b"%d" % rng.randrange(5))
        settled_below = rng.choice([0, 0, rng.randrange(30)])
        return numbered(rng.choice(ours), rng.randrange(60), settled_below=settled_below)

    def entry(index: int) -> Entry:
        if rng.random() < 0.1:
            return noop(index)
        origin, incarnation = rng.choice([US, US, US, THEM, (US[0], US[1] + rng.choice([-1, 0, 0]))])
        commands = [command() for _ in range(rng.randrange(1, 4))]
        sequence = rng.choice([index, index, index, rng.randrange(1, 40)])
        return batch(
            index,
            *commands,
            origin=origin,
            incarnation=incarnation,
            sequence=sequence,
            settled_below=rng.choice([0, max(0, sequence - 5)]),
        )

    for _ in range(20):
        first = machine.applied_index + 1
        told += len(foreseen(machine, *(entry(first + n) for n in range(rng.randrange(1, 8)))))

    assert told > 0

"""Writes of clients' sessions: applied once, answered as often as asked, remembered through crashes and in snapshots."""

from __future__ import annotations

from pathlib import Path

import pytest

from raftkv.errors import (
    ANSWER_NOT_KEPT,
    KEY_NOT_FOUND,
    SESSION_FULL,
    SESSION_SETTLED,
    SESSION_SHARED,
    TOO_MANY_SESSIONS,
    CorruptionError,
    InvalidArgument,
    Outcome,
    RequestError,
    SessionExpired,
)
from raftkv.mvcc import allowance
from raftkv.pb import rpc_pb2 as rpc
from raftkv.pb import store_pb2
from raftkv.statemachine import StateMachine, sessions
from raftkv.statemachine.sessions import SESSION_TTL_MS, Session, Sessions
from tests.statemachine.support import (
    CLUSTER,
    apply,
    batch,
    crash_and_reopen,
    delete,
    everything,
    get,
    open_machine,
    put,
    txn,
)


def opened(machine: StateMachine) -> int:
    (answer,) = apply(machine, store_pb2.Command(open_session=store_pb2.OpenSessionRequest()))
    session: int = answer.session
    return session


def numbered(command: store_pb2.Command, session: int, sequence: int, *, settled_below: int = 0) -> store_pb2.Command:
    command.session, command.sequence, command.settled_below = session, sequence, settled_below
    return command


def advance(machine: StateMachine, now_ms: int, *, coarse: bool = True) -> None:
    """Have the log say what time it is."""
    said = store_pb2.Command(clock_advance=store_pb2.ClockAdvance(term=1, now_ms=now_ms, coarse=coarse))
    machine.apply([batch(machine.applied_index + 1, said, origin=0)])


def message(answer: object) -> str:
    assert isinstance(answer, RequestError), answer
    return answer.message


def test_a_write_that_comes_again_is_answered_as_the_first_time_and_not_applied(tmp_path: Path) -> None:
    machine = open_machine(tmp_path)
    session = opened(machine)
    write = numbered(put(b"a", b"1"), session, 1)

    (first,) = apply(machine, write)
    apply(machine, put(b"a", b"2"))
    again = apply(machine, write, write)

    assert again == [first, first]
    assert first.header.revision == 2
    assert (machine.revision, get(machine, b"a")) == (3, b"2")
    machine.close()


@pytest.mark.parametrize(
    "command",
    [
        put(b"a", b"3", prev_kv=True),
        delete(b"a"),
        txn(
            rpc.RequestOp(request_range=rpc.RangeRequest(key=b"a")),
            rpc.RequestOp(request_put=rpc.PutRequest(key=b"b")),
        ),
    ],
    ids=["previous", "delete", "txn"],
)
def test_answers_of_every_kind_are_kept_whole(tmp_path: Path, command: store_pb2.Command) -> None:
    machine = open_machine(tmp_path / "state")
    session = opened(machine)
    apply(machine, put(b"a", b"1"))
    write = numbered(command, session, 7)

    (first,) = apply(machine, write)
    machine.close()
    machine = open_machine(tmp_path / "state")

    assert apply(machine, write) == [first]
    assert first.ByteSize() > 0
    machine.close()


def test_a_refusal_is_an_answer_too(tmp_path: Path) -> None:
    """What failed once has failed, though it might succeed now."""
    machine = open_machine(tmp_path)
    session = opened(machine)
    write = numbered(put(b"a", b"", ignore_value=True), session, 1)

    (first,) = apply(machine, write)
    apply(machine, put(b"a", b"1"))
    (again,) = apply(machine, write)

    assert isinstance(again, InvalidArgument)
    assert message(first) == message(again) == KEY_NOT_FOUND
    machine.close()


def test_a_node_that_has_no_caller_waiting_keeps_the_answer_as_well(tmp_path: Path) -> None:
    machine = open_machine(tmp_path)
    session = opened(machine)
    write = numbered(put(b"a", b"1", prev_kv=True), session, 1)
    machine.apply([batch(machine.applied_index + 1, write, origin=9)])

    (answer,) = apply(machine, write)

    assert answer.header.revision == 2
    assert machine.revision == 2
    machine.close()


def test_answers_are_kept_until_the_client_settles_them(tmp_path: Path) -> None:
    machine = open_machine(tmp_path)
    session = opened(machine)
    apply(machine, *(numbered(put(b"a", b"%d" % n), session, n) for n in (1, 2, 3)))

    apply(machine, numbered(put(b"a", b"4"), session, 4, settled_below=3))

    late, kept = apply(machine, numbered(put(b"a", b"2"), session, 2), numbered(put(b"a", b"3"), session, 3))
    assert message(late) == SESSION_SETTLED
    assert kept.header.revision == 4
    assert get(machine, b"a") == b"4"
    machine.close()


def test_a_session_survives_a_crash_with_what_was_committed_and_replayed(tmp_path: Path) -> None:
    path = tmp_path / "state"
    machine = open_machine(path)
    session = opened(machine)
    committed, replayed = numbered(put(b"a", b"1"), session, 1), numbered(put(b"b", b"2"), session, 2)
    (first,) = apply(machine, committed)
    machine.commit()
    entry = batch(machine.applied_index + 1, replayed)
    machine.apply([entry])

    machine = crash_and_reopen(machine, path)
    machine.apply([entry])

    one, two = apply(machine, committed, replayed)
    assert (one, two.header.revision) == (first, 3)
    assert machine.revision == 3
    machine.close()


def test_a_session_travels_in_snapshots(tmp_path: Path) -> None:
    giver, taker = open_machine(tmp_path / "giver"), open_machine(tmp_path / "taker")
    session = opened(giver)
    write = numbered(put(b"a", b"1"), session, 1)
    (first,) = apply(giver, write)
    meta = giver.snapshot_to(tmp_path / "snapshot")
    giver.close()

    taker.install(tmp_path / "snapshot", meta)

    assert apply(taker, write) == [first]
    assert everything(taker) == {b"a": b"1"}
    taker.close()


def test_an_unused_session_ends_by_the_clock_of_the_log_alone(tmp_path: Path) -> None:
    path = tmp_path / "state"
    machine = open_machine(path)
    idle, busy = opened(machine), opened(machine)
    advance(machine, SESSION_TTL_MS - 1)
    (answer,) = apply(machine, numbered(put(b"a"), busy, 1))
    assert answer.header.revision == 2

    advance(machine, SESSION_TTL_MS)
    machine.close()
    machine = open_machine(path)

    gone, there = apply(machine, numbered(put(b"b"), idle, 1), numbered(put(b"b"), busy, 2))
    assert isinstance(gone, SessionExpired)
    assert there.header.revision == 3
    machine.close()


def test_a_coarse_advance_means_nothing_where_there_is_a_lease(tmp_path: Path) -> None:
    machine = open_machine(tmp_path)
    apply(machine, store_pb2.Command(lease_grant=rpc.LeaseGrantRequest(ID=5, TTL=60)))

    advance(machine, 3_600_000)

    assert [lease.ID for lease in machine.leases.list().leases] == [5]
    assert machine.clock.clock_ms == 0
    machine.close()


def test_two_clients_of_one_session_are_told_apart(tmp_path: Path) -> None:
    machine = open_machine(tmp_path)
    session = opened(machine)
    apply(machine, numbered(put(b"a", b"1"), session, 1), numbered(delete(b"a"), session, 2))

    answers = apply(machine, numbered(put(b"a", b"other"), session, 1), numbered(delete(b"b"), session, 2))

    assert [message(answer) for answer in answers] == [SESSION_SHARED, SESSION_SHARED]
    machine.close()


def test_a_session_of_another_cluster_is_unknown() -> None:
    ours, theirs = Sessions(CLUSTER), Sessions(CLUSTER + 1)
    ours.open(0)
    session = theirs.open(0)

    assert isinstance(session, int)
    assert ours.used(session, 0) is None


def test_a_client_that_settles_nothing_is_refused_and_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "ANSWERS_MAX", 2)
    machine = open_machine(tmp_path)
    greedy, modest = opened(machine), opened(machine)

    *_, refused = apply(machine, *(numbered(put(b"a", b"%d" % n), greedy, n) for n in (1, 2, 3)))
    fine, settled = apply(machine, numbered(put(b"b"), modest, 1), numbered(put(b"a"), greedy, 3, settled_below=2))

    assert message(refused) == SESSION_FULL
    assert (fine.header.revision, settled.header.revision) == (4, 5)
    machine.close()


def test_large_answers_are_bounded_in_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "ANSWER_BYTES_MAX", 1000)
    machine = open_machine(tmp_path)
    session = opened(machine)
    apply(machine, put(b"a", b"x" * 1000))

    first, refused = apply(machine, *(numbered(put(b"a", b"v", prev_kv=True), session, n) for n in (1, 2)))
    (settled,) = apply(machine, numbered(put(b"a", b"v", prev_kv=True), session, 2, settled_below=2))

    assert first.prev_kv.value == b"x" * 1000
    assert message(refused) == SESSION_FULL
    assert settled.header.revision == 4
    machine.close()


def test_sessions_are_bounded_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "SESSIONS_MAX", 1)
    held = Sessions(CLUSTER)
    write_in(held, held.open(0), now_ms=0)

    assert message(held.open(0)) == TOO_MANY_SESSIONS
    held.expire(SESSION_TTL_MS)
    assert isinstance(held.open(SESSION_TTL_MS), int)


def write_in(held: Sessions, session_id: int | RequestError, *, now_ms: int) -> None:
    assert isinstance(session_id, int)
    session = held.used(session_id, now_ms)
    assert session is not None
    answer = rpc.PutResponse(header=rpc.ResponseHeader(revision=2))
    held.keep(session, numbered(put(b"a"), session_id, 1), answer)


def test_a_flood_of_sessions_takes_the_place_of_those_in_which_nothing_was_written_the_oldest_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sessions, "SESSIONS_MAX", 3)
    held = Sessions(CLUSTER)
    used, idle, later = held.open(0), held.open(0), held.open(0)
    write_in(held, used, now_ms=0)
    assert isinstance(idle, int)
    assert isinstance(later, int)
    held.used(later, 5)  # A write that its session refused.

    flood = [held.open(7 + number) for number in range(20)]

    assert all(isinstance(one, int) for one in flood)
    alive = [session_id for session_id, session in held.take_changed() if session is not None]
    assert sorted(alive) == sorted([used, *flood[-2:]])


def test_nodes_that_have_read_their_sessions_from_disk_make_the_same_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "SESSIONS_MAX", 50)
    held = Sessions(CLUSTER)
    opened_at = {held.open(now_ms): now_ms for now_ms in (3, 3, 3, 5, 5, 4, 6) * 7}
    written = sorted(opened_at)[::5]
    for session_id in written:
        write_in(held, session_id, now_ms=9)
    kept = {session_id: session for session_id, session in held.take_changed() if session is not None}
    read = Sessions(CLUSTER, held.opened, {id_: Session.decode(one.encode()) for id_, one in kept.items()})

    for _ in range(30):
        assert held.open(10) == read.open(10)

    assert [(id_, one is None) for id_, one in held.take_changed()] == [
        (id_, one is None) for id_, one in read.take_changed()
    ]


def test_a_record_reads_back_as_it_was_written_and_damage_is_named() -> None:
    session = Session(5, 3)
    session.keep(numbered(put(b"a"), 1, 4), rpc.PutResponse(header=rpc.ResponseHeader(revision=12)), room=100)
    session.keep(numbered(delete(b"a"), 1, 3), rpc.DeleteRangeResponse(deleted=2), room=100)

    assert Session.decode(session.encode()).encode() == session.encode()
    with pytest.raises(CorruptionError):
        Session.decode(session.encode()[:-3])


def gets(key: bytes) -> store_pb2.Command:
    """A txn that changes something, and answers what a key holds."""
    return txn(
        rpc.RequestOp(request_put=rpc.PutRequest(key=b"changed")),
        rpc.RequestOp(request_range=rpc.RangeRequest(key=key)),
    )


def test_an_answer_too_large_to_be_kept_is_given_once(tmp_path: Path) -> None:
    machine = open_machine(tmp_path)
    session = opened(machine)
    apply(machine, put(b"a", b"x" * sessions.KEPT_ANSWER_BYTES_MAX))
    write = numbered(gets(b"a"), session, 1)

    (first,) = apply(machine, write)
    revision = machine.revision
    (again,) = apply(machine, write)

    assert len(first.responses[1].response_range.kvs[0].value) == sessions.KEPT_ANSWER_BYTES_MAX
    assert message(again) == ANSWER_NOT_KEPT
    assert again.outcome is Outcome.UNKNOWN
    assert machine.revision == revision
    machine.close()


def test_all_sessions_share_the_room_for_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "ALL_ANSWER_BYTES_MAX", 3_000)
    machine = open_machine(tmp_path)
    one, two = opened(machine), opened(machine)
    apply(machine, put(b"a", b"x" * 2_000))
    kept, unkept = numbered(gets(b"a"), one, 1), numbered(gets(b"a"), two, 1)
    first = apply(machine, kept, unkept)

    machine.commit()
    machine = crash_and_reopen(machine, tmp_path)
    again = apply(machine, kept, unkept)

    assert again[0] == first[0]
    assert message(again[1]) == ANSWER_NOT_KEPT
    apply(machine, numbered(put(b"b"), one, 2, settled_below=2))
    later = numbered(gets(b"a"), two, 2)
    assert apply(machine, later) == apply(machine, later), "what was settled made room"
    machine.close()


def test_answers_that_are_kept_do_not_depend_on_who_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One node makes the answers of a batch, all make those that are kept: what fits must be the same on all."""
    monkeypatch.setattr(allowance, "BYTES_MAX", 3_000)
    answering, other = open_machine(tmp_path / "answering"), open_machine(tmp_path / "other")
    for machine in (answering, other):
        session = opened(machine)
        apply(machine, put(b"a", b"x" * 2_000))
    commands = [gets(b"a"), numbered(gets(b"a"), session, 1), gets(b"a"), put(b"b"), numbered(gets(b"a"), session, 2)]

    answers = apply(answering, *commands)
    other.apply([batch(other.applied_index + 1, *commands, origin=9)])

    too_large = [isinstance(answer, RequestError) for answer in answers]
    assert too_large == [False, False, True, False, True]
    assert (answering.revision, answering.hash_kv()) == (other.revision, other.hash_kv())
    for sequence in (1, 2):
        again = numbered(gets(b"a"), session, sequence)
        assert str(apply(answering, again)) == str(apply(other, again))
    answering.close()
    other.close()

"""Alarms in the state machine: what a command makes of them, and that they go wherever the state goes."""

from __future__ import annotations

from pathlib import Path

from raftkv.pb import rpc_pb2 as rpc
from raftkv.pb import store_pb2
from raftkv.statemachine import Alarm
from raftkv.statemachine.alarms import changed, listed
from tests.statemachine.support import apply, open_machine, put

GET, ACTIVATE, DEACTIVATE = 0, 1, 2
NOSPACE, CORRUPT = 1, 2


def change(action: int, member: int, kind: int, *, by_itself: bool = False) -> store_pb2.AlarmChange:
    request = rpc.AlarmRequest(action=action, memberID=member, alarm=kind)
    return store_pb2.AlarmChange(request=request, by_itself=by_itself)


def test_a_node_does_not_end_an_alarm_that_a_person_raised() -> None:
    by_hand, _ = changed((), change(ACTIVATE, 1, NOSPACE))

    assert changed(by_hand, change(DEACTIVATE, 1, NOSPACE, by_itself=True)) == (by_hand, rpc.AlarmResponse())
    assert changed(by_hand, change(ACTIVATE, 1, NOSPACE, by_itself=True))[0] == by_hand
    assert changed(by_hand, change(DEACTIVATE, 1, NOSPACE))[0] == ()


def test_a_person_ends_an_alarm_that_a_node_raised() -> None:
    by_node, _ = changed((), change(ACTIVATE, 1, NOSPACE, by_itself=True))

    assert by_node == (Alarm(NOSPACE, 1, by_itself=True),)
    assert changed(by_node, change(DEACTIVATE, 1, NOSPACE))[0] == ()
    assert changed(by_node, change(DEACTIVATE, 1, NOSPACE, by_itself=True))[0] == ()


def test_alarms_are_kept_in_one_order_whatever_the_order_they_were_raised_in() -> None:
    forwards = backwards = ()
    steps = [change(ACTIVATE, member, kind) for member in (3, 1, 2) for kind in (CORRUPT, NOSPACE)]
    for step in steps:
        forwards, _ = changed(forwards, step)
    for step in reversed(steps):
        backwards, _ = changed(backwards, step)

    assert forwards == backwards
    assert [one.memberID for one in listed(forwards, CORRUPT)] == [1, 2, 3]
    assert len(listed(forwards, 0)) == 6


def test_alarms_survive_a_restart_and_travel_with_a_snapshot(tmp_path: Path) -> None:
    machine = open_machine(tmp_path / "state")
    (answer,) = apply(machine, store_pb2.Command(alarm=change(ACTIVATE, 2, NOSPACE, by_itself=True)))
    assert answer == rpc.AlarmResponse(alarms=[rpc.AlarmMember(memberID=2, alarm=NOSPACE)])
    meta = machine.snapshot_to(tmp_path / "snapshot")
    machine.close()

    again, other = open_machine(tmp_path / "state"), open_machine(tmp_path / "other")
    other.install(tmp_path / "snapshot", meta)

    assert again.alarms == other.alarms == (Alarm(NOSPACE, 2, by_itself=True),)
    again.close()
    other.close()


def test_an_alarm_that_was_not_committed_comes_back_with_its_entry(tmp_path: Path) -> None:
    """A full map loses the open transaction; what was applied is applied again."""
    machine = open_machine(tmp_path / "state", map_bytes=1 << 20)
    apply(machine, store_pb2.Command(alarm=change(ACTIVATE, 2, NOSPACE)))
    for number in range(40):
        apply(machine, put(b"k%d" % number, b"x" * 100_000))

    assert machine.alarms == (Alarm(NOSPACE, 2),)
    machine.close()


def test_a_defragmented_state_is_smaller_and_the_same(tmp_path: Path) -> None:
    machine = open_machine(tmp_path / "state")
    apply(machine, *(put(b"k%d" % number, b"x" * 100_000) for number in range(50)))
    apply(machine, store_pb2.Command(delete_range=rpc.DeleteRangeRequest(key=b"k", range_end=b"l")), put(b"left", b"v"))
    apply(machine, store_pb2.Command(compaction=rpc.CompactionRequest(revision=machine.revision - 1)))
    machine.commit()
    while machine.compact_some():
        pass
    machine.commit()
    wanted = (machine.hash_kv(), machine.revision, machine.compact_revision, machine.applied_index)
    before = machine.bytes_on_disk
    apply(machine, put(b"uncommitted", b"v"))

    machine.defragment()

    assert machine.bytes_on_disk < before / 4
    assert machine.range(rpc.RangeRequest(key=b"uncommitted")).count == 1
    apply(machine, store_pb2.Command(delete_range=rpc.DeleteRangeRequest(key=b"uncommitted")))
    assert machine.hash_kv(wanted[1]) == wanted[0]
    assert machine.compact_revision == wanted[2]
    assert machine.applied_index == machine.durable_index + 1 == wanted[3] + 2
    machine.close()
    again = open_machine(tmp_path / "state")
    assert again.hash_kv(wanted[1]) == wanted[0]
    assert not list((tmp_path / "state").glob("incoming*"))
    again.close()

"""Alarms in the state machine: what a command makes of them, and that they go wherever the state goes."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from raftkv.errors import TOO_MANY_ALARMS, ResourceExhausted
from raftkv.pb import rpc_pb2 as rpc
from raftkv.pb import store_pb2
from raftkv.statemachine import Alarm
from raftkv.statemachine import alarms as module
from raftkv.statemachine.alarms import STRANGERS_MAX, listed
from tests.statemachine.support import BOOTSTRAP, apply, open_machine, put

GET, ACTIVATE, DEACTIVATE = 0, 1, 2
NONE, NOSPACE, CORRUPT = 0, 1, 2
MEMBERS = [member.ID for member in BOOTSTRAP.members]
changed = partial(module.changed, members=MEMBERS)


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


def test_alarms_of_ids_that_are_no_members_have_a_bound_and_members_have_always_room(tmp_path: Path) -> None:
    """Anybody may raise them by hand, one for each of 2^64 ids, and the table is looked through with each write."""
    machine = open_machine(tmp_path / "state")
    strangers = [0, *range(100, 99 + STRANGERS_MAX)]
    raised = apply(machine, *(store_pb2.Command(alarm=change(ACTIVATE, one, NONE)) for one in strangers))
    assert [answer.alarms[0].memberID for answer in raised] == strangers

    refused, known, *of_members, ended, after = apply(
        machine,
        store_pb2.Command(alarm=change(ACTIVATE, 99, NOSPACE)),
        store_pb2.Command(alarm=change(ACTIVATE, 100, NONE)),
        *(store_pb2.Command(alarm=change(ACTIVATE, one, kind)) for one in MEMBERS for kind in (NOSPACE, CORRUPT)),
        store_pb2.Command(alarm=change(DEACTIVATE, 0, NONE)),
        store_pb2.Command(alarm=change(ACTIVATE, 99, NOSPACE)),
    )

    assert isinstance(refused, ResourceExhausted)
    assert refused.message == TOO_MANY_ALARMS
    assert known.alarms[0].memberID == 100
    assert [answer.alarms[0].memberID for answer in of_members] == [one for one in MEMBERS for _ in range(2)]
    assert len(ended.alarms) == len(after.alarms) == 1
    assert len(machine.alarms) == STRANGERS_MAX + 2 * len(MEMBERS)
    machine.close()


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

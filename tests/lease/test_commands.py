"""lease.commands: grant, renew, revoke and the passing of time, entry by entry."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import lmdb
import pytest

from raftkv.errors import FailedPrecondition, NotFound
from raftkv.lease.clock import LEAD_MAX_MS
from raftkv.lease.commands import KEYS_DELETED_MAX, LEASES_ENDED_MAX
from raftkv.mvcc.environment import DATA_FILE
from raftkv.pb import rpc_pb2 as rpc
from raftkv.statemachine import StateMachine
from tests.lease.support import grant, ids, keys, left, one, pass_time, renew, revoke
from tests.statemachine.support import apply, crash_and_reopen, delete, everything, open_machine, put, txn

END_MS = 10_000 + LEAD_MAX_MS
"""When a lease of ten seconds ends that was granted at 0."""


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[StateMachine]:
    machine = open_machine(tmp_path / "state", map_bytes=1 << 27)
    yield machine
    machine.close()


# --- a life ----------------------------------------------------------------------------------------------------------


def test_a_lease_is_granted_once(machine: StateMachine) -> None:
    granted = one(machine, grant(7, 10))

    assert (granted.ID, granted.TTL, granted.header.revision) == (7, 10, 1)
    refused = one(machine, grant(7, 20))
    assert isinstance(refused, FailedPrecondition)
    assert refused.message == "etcdserver: lease already exists"
    assert left(machine, 7).grantedTTL == 10


@pytest.mark.parametrize("lease", [1, -1, 2**63 - 1, -(2**63)])
def test_any_id_but_0_will_do(machine: StateMachine, lease: int) -> None:
    apply(machine, grant(lease), put(b"k", lease=lease))

    assert (ids(machine), keys(machine, lease)) == ([lease], [b"k"])
    one(machine, revoke(lease))
    assert (ids(machine), everything(machine)) == ([], {})


def test_a_lease_ends_at_its_deadline_and_not_before(machine: StateMachine) -> None:
    apply(machine, grant(7, 10), put(b"k", lease=7))

    pass_time(machine, END_MS - 1)
    assert everything(machine) == {b"k": b"v"}
    pass_time(machine, END_MS)

    assert (ids(machine), everything(machine), machine.revision) == ([], {}, 3)


def test_a_renewal_begins_the_ttl_anew(machine: StateMachine) -> None:
    apply(machine, grant(7, 10))
    pass_time(machine, 9000)

    assert one(machine, renew(7)).TTL == 10

    pass_time(machine, 9000 + END_MS - 1)
    assert ids(machine) == [7]
    pass_time(machine, 9000 + END_MS)
    assert ids(machine) == []


def test_a_renewal_of_none_is_answered_with_0(machine: StateMachine) -> None:
    answer = one(machine, renew(99))

    assert (answer.ID, answer.TTL) == (99, 0)


def test_revoking_deletes_the_keys_in_one_revision(machine: StateMachine) -> None:
    apply(machine, grant(7), put(b"b", lease=7), put(b"a", lease=7), put(b"c"))
    before = machine.revision

    answer = one(machine, revoke(7))

    assert answer.header.revision == machine.revision == before + 1
    assert everything(machine) == {b"c": b"v"}
    assert everything(machine, before) == {b"a": b"v", b"b": b"v", b"c": b"v"}


def test_revoking_a_lease_without_keys_makes_no_revision(machine: StateMachine) -> None:
    apply(machine, grant(7))

    assert one(machine, revoke(7)).header.revision == 1


def test_revoking_none_is_an_error(machine: StateMachine) -> None:
    refused = one(machine, revoke(7))

    assert isinstance(refused, NotFound)
    assert refused.message == "etcdserver: requested lease not found"


# --- keys -------------------------------------------------------------------------------------------------------------


def test_a_put_without_the_lease_takes_the_key_off_it(machine: StateMachine) -> None:
    apply(machine, grant(7), put(b"k", lease=7), put(b"k"))

    assert keys(machine, 7) == []
    one(machine, revoke(7))
    assert everything(machine) == {b"k": b"v"}


def test_a_put_moves_the_key_to_another_lease(machine: StateMachine) -> None:
    apply(machine, grant(7), grant(8), put(b"k", lease=7), put(b"k", lease=8), put(b"k", lease=8))

    assert (keys(machine, 7), keys(machine, 8)) == ([], [b"k"])


def test_a_put_may_leave_the_lease_as_it_is(machine: StateMachine) -> None:
    apply(machine, grant(7), put(b"k", lease=7), put(b"k", b"2", ignore_lease=True))

    assert keys(machine, 7) == [b"k"]


def test_deleting_a_key_takes_it_off_its_lease(machine: StateMachine) -> None:
    apply(machine, grant(7), put(b"a", lease=7), put(b"b", lease=7), delete(b"a"), put(b"a"))

    assert keys(machine, 7) == [b"b"]
    one(machine, revoke(7))
    assert everything(machine) == {b"a": b"v"}


def test_a_txn_may_do_all_of_it(machine: StateMachine) -> None:
    apply(machine, grant(7), grant(8), put(b"a", lease=7), put(b"b", lease=7), put(b"c", lease=7))

    one(
        machine,
        txn(
            rpc.RequestOp(request_put=rpc.PutRequest(key=b"a", lease=8)),
            rpc.RequestOp(request_put=rpc.PutRequest(key=b"b")),
            rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=b"c")),
            rpc.RequestOp(request_put=rpc.PutRequest(key=b"d", lease=7)),
        ),
    )

    assert (keys(machine, 7), keys(machine, 8)) == ([b"d"], [b"a"])


def test_a_put_on_no_such_lease_changes_nothing(machine: StateMachine) -> None:
    apply(machine, grant(7), put(b"k", lease=7))

    answers = apply(
        machine,
        put(b"k", b"2", lease=8),
        txn(
            rpc.RequestOp(request_put=rpc.PutRequest(key=b"x")),
            rpc.RequestOp(request_put=rpc.PutRequest(key=b"k", lease=8)),
        ),
    )

    assert all(isinstance(answer, NotFound) for answer in answers)
    assert (everything(machine), keys(machine, 7)) == ({b"k": b"v"}, [b"k"])


def test_the_longest_key_can_hang_on_a_lease(machine: StateMachine) -> None:
    apply(machine, grant(7), put(b"k" * 511, lease=7))

    assert keys(machine, 7) == [b"k" * 511]


# --- time -------------------------------------------------------------------------------------------------------------


def test_an_advance_of_another_term_moves_nothing(machine: StateMachine) -> None:
    apply(machine, grant(7))

    pass_time(machine, END_MS, term=1, entry_term=2)

    assert (machine.clock.clock_ms, ids(machine)) == (0, [7])


def test_the_clock_never_goes_back(machine: StateMachine) -> None:
    pass_time(machine, 5000)
    pass_time(machine, 4000)

    assert machine.clock.clock_ms == 5000


def test_leases_end_in_the_order_of_their_deadlines_each_in_a_revision_of_its_own(machine: StateMachine) -> None:
    apply(machine, grant(9, 2), grant(3, 2), grant(5, 1), put(b"c", lease=9), put(b"b", lease=3), put(b"a", lease=5))
    before = machine.revision

    pass_time(machine, 60_000)

    assert machine.revision == before + 3
    assert list(everything(machine, before + 1)) == [b"b", b"c"]
    assert list(everything(machine, before + 2)) == [b"c"]


def test_what_is_left_is_told_in_whole_seconds(machine: StateMachine) -> None:
    apply(machine, grant(7, 10))
    told = []
    for now_ms in (0, 1, 1000, 9999, 10_000, END_MS - 1):
        pass_time(machine, now_ms)
        told.append(left(machine, 7).TTL)

    assert told == [10, 9, 9, 0, 0, 0]
    pass_time(machine, END_MS)
    assert left(machine, 7) == rpc.LeaseTimeToLiveResponse(header={"revision": 1}, ID=7, TTL=-1)


def test_time_and_leases_survive_a_restart_and_a_snapshot(tmp_path: Path) -> None:
    machine = open_machine(tmp_path / "one")
    apply(machine, grant(7), grant(8, 20), put(b"a", lease=7), put(b"b", lease=8))
    pass_time(machine, 3000)
    machine.commit()
    apply(machine, revoke(8))

    machine = crash_and_reopen(machine, tmp_path / "one")
    assert (ids(machine), machine.clock.clock_ms, keys(machine, 8)) == ([7, 8], 3000, [b"b"])

    meta = machine.snapshot_to(tmp_path / "snapshot")
    other = open_machine(tmp_path / "other")
    apply(other, grant(70), put(b"x", lease=70))
    other.apply([])
    other.install(tmp_path / "snapshot", meta)
    for one_of_two in (machine, other):
        pass_time(one_of_two, END_MS)
        assert (ids(one_of_two), everything(one_of_two)) == ([8], {b"b": b"v"})
    machine.close()
    other.close()


def test_a_map_that_fills_up_in_between_changes_nothing(tmp_path: Path) -> None:
    """What was not committed is applied again from the start, leases too."""
    small, large = (open_machine(tmp_path / name, map_bytes=size) for name, size in (("s", 1 << 20), ("l", 1 << 26)))
    for machine in (small, large):
        for lease in range(1, 301):
            apply(machine, grant(lease, lease), *(put(b"%d/%d" % (lease, number), lease=lease) for number in range(40)))
            pass_time(machine, lease * 400)
    assert (tmp_path / "s" / DATA_FILE).stat().st_size > 1 << 20, "it never filled up"
    assert (ids(small), small.clock, small.hash_kv()) == (ids(large), large.clock, large.hash_kv())
    assert [keys(small, lease) for lease in ids(small)] == [keys(large, lease) for lease in ids(large)]
    for machine in (small, large):
        machine.close()
    open_machine(tmp_path / "s").close()  # The sums are right.


# --- many -------------------------------------------------------------------------------------------------------------


def test_one_advance_ends_a_bounded_number_of_leases(machine: StateMachine) -> None:
    count = 2 * LEASES_ENDED_MAX + 1
    apply(machine, *(grant(number, 10) for number in range(1, count + 1)))

    remaining = []
    while ids(machine):
        pass_time(machine, END_MS)
        remaining.append(len(ids(machine)))

    assert remaining == [LEASES_ENDED_MAX + 1, 1, 0]


def test_one_advance_deletes_a_bounded_number_of_keys(machine: StateMachine) -> None:
    for lease in (1, 2, 3):
        many = [put(b"%d/%05d" % (lease, number), b"", lease=lease) for number in range(KEYS_DELETED_MAX // 2 + 1)]
        apply(machine, grant(lease, 10), *many)

    pass_time(machine, END_MS)
    assert ids(machine) == [3]
    pass_time(machine, END_MS)
    assert ids(machine) == []


def test_a_hundred_thousand_leases_are_not_looked_through(machine: StateMachine) -> None:
    """To end one, or to renew one, takes as many steps in LMDB as with one alone."""
    apply(machine, grant(1, 10), grant(2, 11))
    pass_time(machine, 1)
    few = [steps(lambda: one(machine, renew(2))), steps(lambda: pass_time(machine, END_MS))]
    now_ms = machine.clock.clock_ms
    for start in range(0, 100_000, 5_000):
        apply(machine, *(grant(number, 100) for number in range(start + 10, start + 5_010)))
    apply(machine, grant(1, 10))

    many = [steps(lambda: one(machine, renew(2))), steps(lambda: pass_time(machine, now_ms + END_MS))]

    assert len(ids(machine)) == 100_001
    assert many == few
    assert 0 < max(many) < 40


def steps(work: Callable[[], object]) -> int:
    """How often LMDB's cursors are asked for something meanwhile."""
    count = 0

    def look(_frame: object, event: str, function: object) -> None:
        nonlocal count
        if event == "c_call" and isinstance(getattr(function, "__self__", None), lmdb.Cursor):
            count += 1

    sys.setprofile(look)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def test_a_list_begins_with_the_first_lease_whatever_was_changed_before(machine: StateMachine) -> None:
    for lease in (1, 2, 3):
        one(machine, grant(lease, 10 * lease))

    one(machine, revoke(2))

    assert ids(machine) == [1, 3]

"""Applying, answering, committing, and coming back after a crash."""

from __future__ import annotations

from pathlib import Path

import pytest

from raftkv.errors import (
    KEY_TOO_LONG,
    LEASE_NOT_FOUND,
    Compacted,
    CorruptionError,
    DataDirError,
    FutureRevision,
    InvalidArgument,
    NotFound,
)
from raftkv.pb import rpc_pb2 as rpc
from raftkv.pb import store_pb2
from raftkv.raft.types import Entry, EntryKind, Membership
from raftkv.statemachine import StateMachine
from tests.statemachine.support import (
    BOOTSTRAP,
    CLUSTER,
    US,
    Clock,
    apply,
    batch,
    compact,
    crash_and_reopen,
    delete,
    everything,
    get,
    open_machine,
    put,
    txn,
)


def test_a_new_state_is_the_bootstrap_at_index_zero(tmp_path: Path) -> None:
    machine = open_machine(tmp_path / "state")

    assert (machine.applied_index, machine.applied_term, machine.durable_index) == (0, 0, 0)
    assert (machine.revision, machine.compact_revision) == (1, -1)
    assert machine.cluster_id == CLUSTER
    assert machine.membership == BOOTSTRAP.membership
    assert [member.name for member in machine.members] == ["n1", "n2", "n3"]
    machine.close()


def test_a_state_that_does_not_exist_is_not_made_up(tmp_path: Path) -> None:
    with pytest.raises(DataDirError, match="holds no state"):
        StateMachine.open(tmp_path / "state")
    assert not (tmp_path / "state").exists()


def test_bootstrap_leaves_an_existing_state_alone(tmp_path: Path) -> None:
    machine = open_machine(tmp_path)
    apply(machine, put(b"a"))
    machine.close()

    machine = open_machine(tmp_path)

    assert machine.applied_index == 1
    assert get(machine, b"a") == b"v"
    machine.close()


def test_every_command_of_a_batch_makes_its_own_revision(tmp_path: Path) -> None:
    machine = open_machine(tmp_path)

    answers = apply(machine, put(b"a"), put(b"b"), delete(b"none"), delete(b"a"))

    assert [answer.header.revision for answer in answers] == [2, 3, 3, 4]
    assert machine.revision == 4
    machine.close()


def test_reads_see_what_is_applied_before_it_is_committed(tmp_path: Path) -> None:
    machine = open_machine(tmp_path)
    apply(machine, put(b"a", b"1"))

    assert get(machine, b"a") == b"1"
    assert (machine.applied_index, machine.durable_index) == (1, 0)
    machine.close(commit=False)


def test_a_header_appended_behind_range_bytes_is_merged(tmp_path: Path) -> None:
    machine = open_machine(tmp_path)
    apply(machine, put(b"a", b"1"))
    header = rpc.RangeResponse(header=rpc.ResponseHeader(cluster_id=5, member_id=6, raft_term=7))

    answer = rpc.RangeResponse.FromString(machine.range_bytes(rpc.RangeRequest(key=b"a")) + header.SerializeToString())

    assert answer.header == rpc.ResponseHeader(cluster_id=5, member_id=6, revision=2, raft_term=7)
    assert answer.count == 1
    machine.close()


def test_errors_are_answers_and_change_nothing(tmp_path: Path) -> None:
    machine = open_machine(tmp_path)

    answers = apply(
        machine,
        put(b"k" * 512),
        put(b""),
        put(b"a", lease=9),
        put(b"a", b"", ignore_value=True),
        compact(5),
        compact(-1),
        put(b"k" * 511),
    )

    assert [type(answer) for answer in answers] == [
        InvalidArgument,
        InvalidArgument,
        NotFound,
        InvalidArgument,
        FutureRevision,
        Compacted,
        rpc.PutResponse,
    ]
    assert answers[0].message == KEY_TOO_LONG.format(limit=511)
    assert answers[2].message == LEASE_NOT_FOUND
    assert machine.revision == 2
    machine.close()


def test_reads_of_keys_longer_than_any_stored_one_are_right(tmp_path: Path) -> None:
    machine = open_machine(tmp_path)
    apply(machine, put(b"k" * 511), put(b"l"))

    def count(key: bytes, range_end: bytes = b"") -> int:
        return machine.range(rpc.RangeRequest(key=key, range_end=range_end)).count

    assert count(b"k" * 512) == 0
    assert count(b"k" * 511) == 1
    assert count(b"k" * 512, b"\0") == 1
    assert count(b"k" * 511, b"k" * 512) == 1
    assert count(b"", b"\0") == 2
    assert apply(machine, delete(b"k" * 600))[0].deleted == 0
    machine.close()


def test_only_wanted_batches_are_answered(tmp_path: Path) -> None:
    machine = open_machine(tmp_path)
    entries = [
        batch(1, put(b"a")),
        batch(2, put(b"b"), origin=2),
        batch(3, put(b"c"), incarnation=2),
        Entry(4, 1),
        batch(5, put(b"d"), origin=2, sequence=9),
    ]

    answered = machine.apply(entries, wanted=US)

    assert [(one.sequence, len(one.answers)) for one in answered] == [(1, 1)]
    assert set(everything(machine)) == {b"a", b"b", b"c", b"d"}
    machine.close()


def test_a_gap_in_the_log_is_never_applied(tmp_path: Path) -> None:
    machine = open_machine(tmp_path)

    with pytest.raises(AssertionError, match="entry 2@1 where 1"):
        machine.apply([batch(2, put(b"a"))])
    machine.close()


@pytest.mark.parametrize(
    "entry",
    [
        Entry(1, 1, 7),  # type: ignore[arg-type]
        Entry(1, 1, EntryKind.COMMANDS, b"\xff\xff"),
        batch(1, store_pb2.Command()),
        batch(1, store_pb2.Command.FromString(b"\xfa\x01\x00")),
        Entry(1, 1, EntryKind.MEMBERSHIP),
        Entry(1, 1, EntryKind.MEMBERSHIP, b"\xff", Membership(voters=frozenset({1}))),
    ],
    ids=["kind", "garbage", "empty command", "newer command", "no membership", "garbled members"],
)
def test_what_this_version_does_not_know_stops_the_node(tmp_path: Path, entry: Entry) -> None:
    """Skipping it would let this node's state drift from the others'."""
    machine = open_machine(tmp_path)

    with pytest.raises(CorruptionError):
        machine.apply([entry])
    machine.close(commit=False)


def test_a_crash_loses_what_is_not_committed_and_replay_brings_it_back(tmp_path: Path) -> None:
    entries = [batch(index, put(b"k%d" % index), put(b"same", b"%d" % index)) for index in range(1, 9)]
    machine = open_machine(tmp_path)
    machine.apply(entries[:5])
    machine.commit()
    machine.apply(entries[5:])
    expected = machine.hash_kv()

    machine = crash_and_reopen(machine, tmp_path)

    assert (machine.applied_index, machine.durable_index, machine.revision) == (5, 5, 11)
    assert b"k6" not in everything(machine)
    machine.apply(entries[5:])
    assert machine.hash_kv() == expected
    machine.close()


def test_membership_and_members_are_committed_with_the_data(tmp_path: Path) -> None:
    machine = open_machine(tmp_path)
    version = machine.members_version
    grown = Membership(voters=frozenset({1, 2, 3}), learners=frozenset({4}))
    new = rpc.Member(ID=4, isLearner=True)
    table = [*BOOTSTRAP.members, new]
    added = store_pb2.MemberChange(add=new).SerializeToString()
    machine.apply([Entry(1, 1, EntryKind.MEMBERSHIP, added, grown)])

    assert machine.membership == grown
    assert machine.members == table
    assert machine.members_version > version
    machine = crash_and_reopen(machine, tmp_path)
    assert machine.membership == BOOTSTRAP.membership
    machine.apply([Entry(1, 1, EntryKind.MEMBERSHIP, added, grown)])
    machine.close()
    machine = open_machine(tmp_path)
    assert machine.membership == grown
    assert machine.members == table
    machine.close()


def test_leaving_a_joint_configuration_keeps_the_member_table(tmp_path: Path) -> None:
    machine = open_machine(tmp_path)
    smaller = Membership(voters=frozenset({1, 2}))

    machine.apply([Entry(1, 1, EntryKind.MEMBERSHIP, b"", smaller)])

    assert machine.membership == smaller
    assert machine.members == BOOTSTRAP.members
    machine.close()


def test_a_member_publishes_its_name_and_client_urls(tmp_path: Path) -> None:
    machine = open_machine(tmp_path)
    version = machine.members_version

    known, unknown = apply(
        machine,
        store_pb2.Command(publish=rpc.Member(ID=2, name="two", clientURLs=["http://n2:2379"])),
        store_pb2.Command(publish=rpc.Member(ID=9, name="nobody")),
    )

    assert isinstance(unknown, NotFound)
    assert list(known.members) == machine.members
    assert machine.members[1].name == "two"
    assert machine.members[1].clientURLs == ["http://n2:2379"]
    assert machine.members[1].peerURLs == ["http://n2:2380"]
    assert machine.members_version > version
    machine.close()
    machine = open_machine(tmp_path)
    assert machine.members[1].name == "two"
    machine.close()


def test_a_commit_is_due_by_time_operations_and_bytes(tmp_path: Path) -> None:
    clock = Clock()
    machine = open_machine(tmp_path, clock=clock, commit_interval_s=1.0, commit_operations=3, commit_bytes=5000)
    assert not machine.commit_due()

    apply(machine, put(b"a"))
    assert not machine.commit_due()
    clock.now_s += 1.0
    assert machine.commit_due()
    machine.commit()
    assert not machine.commit_due()
    assert machine.durable_index == 1

    apply(machine, put(b"a"), put(b"a"), put(b"a"))
    assert machine.commit_due()
    machine.commit()

    apply(machine, put(b"a", b"x" * 5000))
    assert machine.commit_due()
    machine.commit()
    assert not machine.commit_due()
    machine.close()


def test_sizes_are_told(tmp_path: Path) -> None:
    machine = open_machine(tmp_path)
    before = machine.bytes_in_use
    apply(machine, *[put(b"k%d" % number, b"x" * 1000) for number in range(500)])
    machine.commit()

    assert machine.bytes_in_use > before + 500_000
    assert machine.bytes_on_disk >= machine.bytes_in_use
    machine.close()


def test_a_read_only_txn_needs_no_log_entry(tmp_path: Path) -> None:
    machine = open_machine(tmp_path)
    apply(machine, put(b"a", b"1"))
    request = rpc.TxnRequest(
        compare=[rpc.Compare(key=b"a", target=rpc.Compare.VALUE, value=b"1")],
        success=[rpc.RequestOp(request_range=rpc.RangeRequest(key=b"a"))],
    )

    answer = machine.read_txn(request)

    assert answer.succeeded
    assert answer.responses[0].response_range.kvs[0].value == b"1"
    assert (answer.header.revision, machine.applied_index) == (2, 1)
    machine.close()


def test_changes_of_one_txn_share_a_revision_and_see_each_other(tmp_path: Path) -> None:
    machine = open_machine(tmp_path)
    operations = [
        rpc.RequestOp(request_put=rpc.PutRequest(key=b"a", value=b"1")),
        rpc.RequestOp(request_range=rpc.RangeRequest(key=b"a")),
        rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=b"a", range_end=b"\0")),
        rpc.RequestOp(request_put=rpc.PutRequest(key=b"b")),
    ]

    (answer,) = apply(machine, txn(*operations))

    assert answer.responses[1].response_range.kvs[0].mod_revision == 2
    assert answer.responses[2].response_delete_range.deleted == 1
    assert answer.header.revision == machine.revision == 2
    assert set(everything(machine)) == {b"b"}
    machine.close()


def test_a_hash_made_on_another_thread_equals_the_one_made_here(tmp_path: Path) -> None:
    machine = open_machine(tmp_path)
    apply(machine, put(b"a"), put(b"b"), delete(b"a"))
    expected = machine.hash_kv()

    later = machine.prepare_hash()
    apply(machine, put(b"a"))

    assert later() == expected
    assert machine.hash_kv() != expected
    assert machine.hash_kv(expected.revision) == expected
    with pytest.raises(FutureRevision):
        machine.hash_kv(99)
    machine.close()


def test_pages_that_came_and_went_in_one_transaction_do_not_make_the_file_look_torn(tmp_path: Path) -> None:
    """LMDB never writes such pages; without care the file ends before the last page its header counts."""
    machine = open_machine(tmp_path)
    apply(machine, *[put(b"a", b"x" * 1_000_000) for _ in range(5)], delete(b"a"))
    apply(machine, compact(machine.revision))
    while machine.compact_some():
        pass
    machine = crash_and_reopen(machine, tmp_path)
    assert machine.applied_index == 0
    apply(machine, *[put(b"a", b"x" * 1_000_000) for _ in range(5)], delete(b"a"))
    apply(machine, compact(machine.revision))
    while machine.compact_some():
        pass
    machine.commit()

    machine = crash_and_reopen(machine, tmp_path)

    assert machine.applied_index == 2
    machine.close()


def test_a_compaction_at_revision_zero_leaves_nothing_to_remove(tmp_path: Path) -> None:
    """What is due is looked for before every job, and counts as a change to be committed."""
    machine = open_machine(tmp_path)

    apply(machine, compact(0))

    assert machine.compact_revision == 0
    assert not machine.compact_due()
    machine.close()

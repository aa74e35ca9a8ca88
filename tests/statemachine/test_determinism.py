"""Equal logs, equal state: whenever each node commits, compacts, crashes, or starts from a snapshot."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from raftkv.pb import rpc_pb2 as rpc
from raftkv.pb import store_pb2
from raftkv.raft.types import Entry
from raftkv.statemachine import StateMachine
from tests.lease.support import advance, grant, ids, left, renew, revoke
from tests.statemachine.support import (
    batch,
    compact,
    crash_and_reopen,
    delete,
    everything,
    open_machine,
    put,
    replay,
    txn,
)

LEASES = (1, 2, 3, 4)


def leases_of(machine: StateMachine) -> tuple[object, ...]:
    return machine.clock, ids(machine), [left(machine, lease) for lease in LEASES]


def random_log(seed: int, length: int) -> list[Entry]:
    """Puts, deletes, txns, compactions, leases and the time, from three origins, some of them proposed twice."""
    choose = random.Random(seed)
    clock_ms = 0

    def key() -> bytes:
        return b"k%d" % choose.randrange(12)

    def command(revision: int) -> store_pb2.Command:
        kind = choose.random()
        if kind < 0.2:
            return leasing()
        if kind < 0.6:
            lease = choose.choice([0, choose.choice(LEASES)])
            return put(key(), b"%d" % choose.randrange(1000), prev_kv=choose.random() < 0.2, lease=lease)
        if kind < 0.8:
            return delete(key(), choose.choice([b"", b"k3", b"\0"]))
        if kind < 0.9:
            operations = [
                rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=key(), range_end=b"\0")),
                rpc.RequestOp(request_put=rpc.PutRequest(key=key())),
            ]
            return txn(*operations)
        return compact(choose.randrange(revision))

    def leasing() -> store_pb2.Command:
        nonlocal clock_ms
        lease = choose.choice(LEASES)
        match choose.randrange(5):
            case 0 | 1:
                return grant(lease, choose.randrange(1, 4))
            case 2:
                return choose.choice([renew, revoke])(lease)
            case _:
                clock_ms += choose.randrange(1200)
                return advance(clock_ms, term=choose.choice([1, 1, 1, 2]))

    log: list[Entry] = []
    for index in range(1, length + 1):
        if log and choose.random() < 0.1:
            log.append(Entry(index, 1, log[-1].kind, log[-1].data))
        else:
            commands = [command(index) for _ in range(choose.randrange(4))]
            log.append(batch(index, *commands, origin=choose.randrange(1, 4), settled_below=max(0, index - 5)))
    return log


def live_through(machine: StateMachine, path: Path, log: list[Entry], choose: random.Random) -> StateMachine:
    """Apply a log in pieces, with commits, crashes and slices of compaction in between."""
    while machine.applied_index < len(log):
        at = machine.applied_index
        machine.apply(log[at : at + choose.randrange(1, 9)])
        match choose.randrange(5):
            case 0:
                machine.commit()
            case 1:
                machine = crash_and_reopen(machine, path, compact_records=3)
            case 2 | 3:
                for _ in range(choose.randrange(4)):
                    machine.compact_some()
    return machine


@pytest.mark.parametrize("seed", range(6))
def test_equal_logs_make_equal_states(tmp_path: Path, seed: int) -> None:
    log = random_log(seed, 150)
    choose = random.Random(seed)
    plain = open_machine(tmp_path / "plain")
    plain.apply(log)

    lived = live_through(open_machine(tmp_path / "a", compact_records=3), tmp_path / "a", log, choose)

    assert lived.hash_kv() == plain.hash_kv()
    assert lived.revision == plain.revision
    assert leases_of(lived) == leases_of(plain)
    assert (lived.membership, lived.members) == (plain.membership, plain.members)
    oldest = max(plain.compact_revision, 1)
    for revision in range(oldest, plain.revision + 1):
        assert everything(lived, revision) == everything(plain, revision), revision
        if revision > oldest:
            assert lived.hash_kv(revision) == plain.hash_kv(revision), revision
    plain.close()
    lived.close()


@pytest.mark.parametrize("seed", range(3))
def test_a_node_that_starts_from_a_snapshot_ends_up_equal(tmp_path: Path, seed: int) -> None:
    log = random_log(seed + 100, 120)
    machine = open_machine(tmp_path / "one", compact_records=3)
    machine.apply(log[:70])
    machine.compact_some()
    meta = machine.snapshot_to(tmp_path / "snapshot")
    machine.apply(log[70:])
    while machine.compact_some():
        pass
    other = open_machine(tmp_path / "two", compact_records=5)

    other.install(tmp_path / "snapshot", meta)
    replay(other, log)

    assert other.hash_kv() == machine.hash_kv()
    assert leases_of(other) == leases_of(machine)
    other.compact_some()
    other.commit()
    other = crash_and_reopen(other, tmp_path / "two")
    assert other.hash_kv() == machine.hash_kv()
    machine.close()
    other.close()


def test_a_lost_change_changes_the_hash(tmp_path: Path) -> None:
    """The hash is worth something: values, versions and history go into it."""
    logs = {
        "base": [put(b"a", b"1"), put(b"a", b"2")],
        "value": [put(b"a", b"1"), put(b"a", b"3")],
        "history": [put(b"a", b"0"), put(b"a", b"2")],
        "key": [put(b"a", b"1"), put(b"b", b"2")],
        "order": [put(b"a", b"2"), put(b"a", b"1")],
    }
    hashes = {}
    for name, commands in logs.items():
        machine = open_machine(tmp_path / name)
        machine.apply([batch(1, *commands)])
        hashes[name] = machine.hash_kv().hash
        machine.close()

    assert len(set(hashes.values())) == len(logs), hashes

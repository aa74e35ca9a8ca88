"""Snapshot files: made while applying goes on, checked from end to end, swapped in whole or not at all."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from raftkv.errors import CorruptionError
from raftkv.raft.types import Membership, SnapshotMeta
from raftkv.statemachine import Bootstrap, StateMachine, read_seal, verify_snapshot
from raftkv.statemachine.snapshot import INCOMING_FILE, stage
from tests.statemachine.support import BOOTSTRAP, apply, compact, delete, everything, get, open_machine, put


def filled(path: Path, count: int = 50) -> StateMachine:
    machine = open_machine(path)
    for number in range(count):
        apply(machine, put(b"k%d" % (number % 20), b"%d" % number), delete(b"k%d" % (number % 7)))
    return machine


def test_a_snapshot_carries_the_whole_state(tmp_path: Path) -> None:
    machine = filled(tmp_path / "one")
    apply(machine, compact(30))
    machine.compact_some()
    other = open_machine(tmp_path / "two")
    apply(other, put(b"old"))

    meta = machine.snapshot_to(tmp_path / "snapshot")
    other.install(tmp_path / "snapshot", meta)

    assert meta == SnapshotMeta(51, 1, BOOTSTRAP.membership)
    assert (other.applied_index, other.durable_index, other.revision) == (51, 51, machine.revision)
    assert other.hash_kv() == machine.hash_kv()
    assert other.compact_revision == 30
    assert everything(other, 40) == everything(machine, 40)
    assert not (tmp_path / "snapshot").exists()
    for one in (machine, other):
        apply(one, put(b"next"))
    assert other.hash_kv() == machine.hash_kv()
    machine.close()
    other.close()
    other = open_machine(tmp_path / "two")
    assert get(other, b"next") == b"v"
    other.close()


def test_a_snapshot_holds_still_while_applying_goes_on(tmp_path: Path) -> None:
    machine = filled(tmp_path / "one")
    expected = machine.hash_kv()

    snapshot = machine.prepare_snapshot()
    thread = threading.Thread(target=snapshot, args=[tmp_path / "snapshot"])
    thread.start()
    for number in range(500):
        apply(machine, put(b"k%d" % (number % 20), b"later"))
        if number % 100 == 0:
            machine.commit()
    thread.join()

    other = open_machine(tmp_path / "two")
    other.install(tmp_path / "snapshot", snapshot.meta)
    assert other.applied_index == 50
    assert other.hash_kv() == expected
    machine.close()
    other.close()


def test_the_map_waits_for_a_snapshot_before_it_grows(tmp_path: Path) -> None:
    """Enlarging the map under a reader would be undefined behaviour; the apply thread waits, and then goes on."""
    machine = open_machine(tmp_path / "one", map_bytes=1 << 20)
    apply(machine, put(b"a"))
    snapshot = machine.prepare_snapshot()
    filler = threading.Timer(0.2, snapshot, args=[tmp_path / "snapshot"])
    filler.start()

    for number in range(40):
        apply(machine, put(b"k%d" % number, b"x" * 100_000))

    filler.join()
    assert verify_snapshot(tmp_path / "snapshot").meta.index == 1
    assert len(everything(machine)) == 41
    machine.close()


def test_a_snapshot_that_is_not_wanted_any_more_can_be_closed(tmp_path: Path) -> None:
    machine = filled(tmp_path / "one", 1)

    machine.prepare_snapshot().close()

    machine.close()  # Would wait for ever for an open reader.


def test_the_seal_says_what_the_file_is(tmp_path: Path) -> None:
    machine = filled(tmp_path / "one", 3)
    meta = machine.snapshot_to(tmp_path / "snapshot")

    seal = verify_snapshot(tmp_path / "snapshot")

    assert (seal.cluster_id, seal.meta) == (BOOTSTRAP.cluster_id, meta)
    assert read_seal(tmp_path / "snapshot") == seal
    machine.close()


@pytest.mark.parametrize("keep", [0, 10, 0.3, 0.9, -1, -40, -64, -100])
def test_a_torn_snapshot_is_refused_and_the_old_state_goes_on(tmp_path: Path, keep: float) -> None:
    machine = filled(tmp_path / "one", 3)
    meta = machine.snapshot_to(tmp_path / "snapshot")
    size = (tmp_path / "snapshot").stat().st_size
    os.truncate(tmp_path / "snapshot", size + int(keep) if keep < 0 else int(keep * size) if keep < 1 else int(keep))
    other = open_machine(tmp_path / "two")
    apply(other, put(b"mine"))

    with pytest.raises(CorruptionError):
        other.install(tmp_path / "snapshot", meta)

    assert everything(other) == {b"mine": b"v"}
    apply(other, put(b"more"))
    machine.close()
    other.close()


@pytest.mark.parametrize("place", [0.0, 0.5, 0.999, 1.0])
def test_a_flipped_bit_is_found(tmp_path: Path, place: float) -> None:
    machine = filled(tmp_path / "one", 3)
    machine.snapshot_to(tmp_path / "snapshot")
    content = bytearray((tmp_path / "snapshot").read_bytes())
    content[int(place * (len(content) - 1))] ^= 4
    (tmp_path / "snapshot").write_bytes(content)

    with pytest.raises(CorruptionError):
        verify_snapshot(tmp_path / "snapshot")
    machine.close()


def test_a_snapshot_of_another_cluster_or_index_is_refused(tmp_path: Path) -> None:
    strangers = Bootstrap(cluster_id=9, members=[], membership=Membership(voters=frozenset({1})))
    stranger = StateMachine.open(tmp_path / "stranger", create=strangers)
    foreign = stranger.snapshot_to(tmp_path / "foreign")
    machine = filled(tmp_path / "one", 3)
    meta = machine.snapshot_to(tmp_path / "snapshot")
    other = open_machine(tmp_path / "two")

    with pytest.raises(CorruptionError, match="not cluster c1"):
        other.install(tmp_path / "foreign", foreign)
    with pytest.raises(CorruptionError, match="not cluster c1"):
        other.install(tmp_path / "snapshot", SnapshotMeta(meta.index + 1, meta.term, meta.membership))

    assert other.applied_index == 0
    for one in (stranger, machine, other):
        one.close()


def test_an_older_snapshot_never_replaces_a_newer_state(tmp_path: Path) -> None:
    machine = filled(tmp_path / "one", 3)
    meta = machine.snapshot_to(tmp_path / "snapshot")
    apply(machine, put(b"later"))

    with pytest.raises(AssertionError, match="snapshot at 3 behind applied 4"):
        machine.install(tmp_path / "snapshot", meta)
    machine.close()


def test_a_crash_before_the_swap_leaves_the_old_state(tmp_path: Path) -> None:
    machine = filled(tmp_path / "one", 3)
    machine.snapshot_to(tmp_path / "snapshot")
    other = open_machine(tmp_path / "two")
    apply(other, put(b"mine"))
    other.close()

    stage(tmp_path / "snapshot", tmp_path / "two", read_seal(tmp_path / "snapshot"))
    other = open_machine(tmp_path / "two")

    assert everything(other) == {b"mine": b"v"}
    assert not (tmp_path / "two" / INCOMING_FILE).exists()
    machine.close()
    other.close()


def test_a_crash_right_after_the_swap_leaves_the_new_state(tmp_path: Path) -> None:
    """What is left of the old environment (its lock file) does no harm to the new data file."""
    machine = filled(tmp_path / "one", 3)
    expected = machine.hash_kv()
    machine.snapshot_to(tmp_path / "snapshot")
    other = open_machine(tmp_path / "two")
    apply(other, put(b"mine"))
    other.close()
    stage(tmp_path / "snapshot", tmp_path / "two", read_seal(tmp_path / "snapshot"))
    (tmp_path / "two" / INCOMING_FILE).replace(tmp_path / "two" / "data.mdb")

    other = open_machine(tmp_path / "two")

    assert other.hash_kv() == expected
    machine.close()
    other.close()


def test_a_torn_state_file_is_named_and_not_touched(tmp_path: Path) -> None:
    machine = filled(tmp_path / "one", 3)
    apply(machine, put(b"big", b"x" * 100_000))
    machine.close()
    data = tmp_path / "one" / "data.mdb"
    os.truncate(data, 3 * 4096)

    with pytest.raises(CorruptionError, match="torn"):
        open_machine(tmp_path / "one")
    assert data.stat().st_size == 3 * 4096


def test_a_state_file_of_garbage_is_named(tmp_path: Path) -> None:
    machine = filled(tmp_path / "one", 3)
    machine.close()
    data = tmp_path / "one" / "data.mdb"
    data.write_bytes(b"\x07" * data.stat().st_size)

    with pytest.raises(CorruptionError):
        open_machine(tmp_path / "one")

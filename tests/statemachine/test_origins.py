"""A batch that was proposed twice takes effect once: whatever happened in between."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from raftkv.errors import CorruptionError
from raftkv.statemachine.origins import OriginRecord, Origins
from tests.statemachine.support import US, batch, crash_and_reopen, get, open_machine, put


def test_the_same_batch_is_applied_once(tmp_path: Path) -> None:
    machine = open_machine(tmp_path)

    first = machine.apply([batch(1, put(b"a", b"1"), sequence=1)], wanted=US)
    machine.apply([batch(2, put(b"a", b"2"), sequence=2)], wanted=US)
    again = machine.apply([batch(3, put(b"a", b"1"), sequence=1)], wanted=US)

    assert [one.sequence for one in first] == [1]
    assert again == []
    assert get(machine, b"a") == b"2"
    assert (machine.revision, machine.applied_index) == (3, 3)
    machine.close()


def test_a_duplicate_is_known_after_a_restart_and_after_a_crash(tmp_path: Path) -> None:
    machine = open_machine(tmp_path)
    entry = batch(1, put(b"a"), sequence=5)
    machine.apply([entry])
    machine.close()
    machine = open_machine(tmp_path)
    machine.apply([batch(2, put(b"a"), sequence=5)])
    assert machine.revision == 2

    machine.apply([batch(3, put(b"b"), sequence=6)])  # Lost in the crash, with its record: it must be applied again.
    machine = crash_and_reopen(machine, tmp_path)
    assert machine.applied_index == 1
    machine.apply([batch(2, put(b"a"), sequence=5), batch(3, put(b"b"), sequence=6)])
    assert machine.revision == 3
    machine.close()


def test_a_duplicate_is_known_after_a_snapshot(tmp_path: Path) -> None:
    machine = open_machine(tmp_path / "one")
    machine.apply([batch(1, put(b"a"), sequence=5)])
    meta = machine.snapshot_to(tmp_path / "snapshot")
    other = open_machine(tmp_path / "two")
    other.install(tmp_path / "snapshot", meta)

    other.apply([batch(2, put(b"a"), sequence=5)], wanted=US)

    assert other.revision == 2
    assert other.is_applied(*US, 5)
    assert not other.is_applied(*US, 6)
    machine.close()
    other.close()


def test_an_earlier_life_of_a_node_is_not_heard_any_more() -> None:
    origins = Origins()

    assert origins.admit(1, 2, sequence=1, settled_below=0)
    assert not origins.admit(1, 1, sequence=7, settled_below=0)
    assert origins.admit(1, 3, sequence=1, settled_below=0)
    assert not origins.is_applied(1, 2, 1)


def test_origins_do_not_disturb_each_other() -> None:
    origins = Origins()

    assert origins.admit(1, 1, sequence=1, settled_below=0)
    assert origins.admit(2, 1, sequence=1, settled_below=0)


def test_what_is_settled_is_not_remembered_one_by_one() -> None:
    origins = Origins()

    for sequence in range(1, 1000):
        assert origins.admit(1, 1, sequence, settled_below=max(0, sequence - 3))

    ((_, record),) = origins.take_changed()
    assert len(record.applied) <= 4
    assert not origins.admit(1, 1, 500, settled_below=0)


def test_batches_may_arrive_in_any_order() -> None:
    """A proposal that was forwarded may overtake another; each is applied once."""
    chooser = random.Random(4)
    arrivals = list(range(1, 60)) * 3
    chooser.shuffle(arrivals)
    origins = Origins()

    applied = [sequence for sequence in arrivals if origins.admit(1, 1, sequence, settled_below=0)]

    assert sorted(applied) == list(range(1, 60))


def test_a_record_survives_its_encoding() -> None:
    record = OriginRecord(3, 9, {2**64 - 1, 12, 10})

    assert OriginRecord.decode(record.encode()) == record
    assert OriginRecord(3, 9, {10, 12, 2**64 - 1}).encode() == record.encode()


@pytest.mark.parametrize("data", [b"", b"x" * 15, b"x" * 17])
def test_a_damaged_record_is_corruption(data: bytes) -> None:
    with pytest.raises(CorruptionError):
        OriginRecord.decode(data)

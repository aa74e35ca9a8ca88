"""pacing: jobs wait for little, and what is removed is more than what comes."""

from __future__ import annotations

from pathlib import Path

import pytest

from raftkv.statemachine import StateMachine
from raftkv.statemachine.pacing import OWED_SLICES_MAX, RECORDS_PER_RECORD
from tests.statemachine.support import batch, compact, open_machine, put

SLICE = 20
KEYS = 50


def write(machine: StateMachine, count: int) -> None:
    """One job that writes so many records, as the thread does it: what is owed comes first."""
    machine.compact_before_job()
    commands = [put(b"k%d" % (number % KEYS)) for number in range(count)]
    machine.apply([batch(machine.applied_index + 1, *commands)])


def compact_now(machine: StateMachine) -> None:
    machine.compact_before_job()
    machine.apply([batch(machine.applied_index + 1, compact(machine.revision))])


def not_removed(machine: StateMachine) -> int:
    """Records of history that the removal has not looked at; each write here is a revision."""
    return machine.revision - max(machine.removed_revision, 1)


@pytest.mark.parametrize("size", [1, 10, 500], ids=lambda size: f"jobs of {size}")
def test_removal_outruns_a_load_that_never_pauses(tmp_path: Path, size: int) -> None:
    """No job ever fails to come in time, and each compaction is through before so much more has been written."""
    machine = open_machine(tmp_path, compact_records=SLICE, map_bytes=1 << 26)
    slack = OWED_SLICES_MAX * SLICE + 2 * size  # The job before the slices, and the one after them.
    for _ in range(3):
        while not_removed(machine) < 2_000:
            write(machine, size)
        compact_now(machine)
        compacted, history = machine.revision, not_removed(machine)

        while machine.removed_revision < machine.compact_revision:
            assert not_removed(machine) <= history + slack
            write(machine, size)

        written = machine.revision - compacted
        assert written <= history / RECORDS_PER_RECORD + slack
    machine.close()


def test_a_job_waits_for_one_slice(tmp_path: Path) -> None:
    """As long as jobs write less than a slice makes up for."""
    machine = open_machine(tmp_path, compact_records=SLICE)
    write(machine, 1_000)
    compact_now(machine)
    while machine.removed_revision < machine.compact_revision:
        before = machine.removed_revision
        write(machine, 10)
        assert machine.removed_revision - max(before, 0) <= SLICE
    machine.close()


def test_what_was_written_before_the_compaction_is_not_owed(tmp_path: Path) -> None:
    """Else the clients would have to wait for most of it at once."""
    machine = open_machine(tmp_path, compact_records=SLICE)
    for _ in range(10):
        write(machine, 500)
    compact_now(machine)

    machine.compact_before_job()

    assert machine.removed_revision <= SLICE + 1
    assert machine.compact_due()
    machine.close()


def test_a_thread_that_is_busy_with_reads_alone_gets_it_done_too(tmp_path: Path) -> None:
    machine = open_machine(tmp_path, compact_records=SLICE)
    write(machine, 1_000)
    compact_now(machine)

    reads = 0
    while machine.compact_before_job():
        reads += 1

    assert machine.removed_revision == machine.compact_revision
    assert reads <= 1_000
    machine.close()


def test_removals_count_for_the_next_commit_apart_from_what_is_applied(tmp_path: Path) -> None:
    machine = open_machine(tmp_path, compact_records=SLICE, commit_operations=1_000)
    write(machine, 999)
    compact_now(machine)
    machine.commit()
    while machine.compact_some():
        assert not machine.commit_due()
    write(machine, 998)
    assert not machine.commit_due()

    compact_now(machine)
    while machine.compact_some():
        pass

    assert machine.commit_due()
    machine.close()

"""LMDB's map fills up, the disk fills up: nothing that was applied is lost, nobody is answered twice."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from raftkv.errors import DiskFullError
from tests.statemachine.support import US, apply, batch, compact, crash_and_reopen, everything, get, open_machine, put

TINY_MAP = 1 << 20


def test_the_map_grows_under_load(tmp_path: Path) -> None:
    """From one megabyte to thirty, committing now and then: mostly the map grows early, after a commit."""
    machine = open_machine(tmp_path, map_bytes=TINY_MAP)

    for number in range(300):
        apply(machine, *[put(b"k%d.%d" % (number, one), b"x" * 10_000) for one in range(10)])
        if number % 7 == 0:
            machine.commit()

    assert len(everything(machine)) == 3000
    machine.close()
    machine = open_machine(tmp_path, map_bytes=TINY_MAP)
    assert len(everything(machine)) == 3000
    machine.close()


def test_a_map_that_fills_in_the_middle_of_a_batch_costs_time_only(tmp_path: Path) -> None:
    machine = open_machine(tmp_path / "tiny", map_bytes=TINY_MAP)
    roomy = open_machine(tmp_path / "roomy", map_bytes=1 << 26)
    entries = [
        batch(index, *[put(b"k%d" % one, b"%d" % index * 3000) for one in range(20)], put(b"n%d" % index))
        for index in range(1, 60)
    ]
    answers = []

    for entry in entries:  # Never committed: each time the map fills, everything is applied again.
        answers += machine.apply([entry], wanted=US)

    assert answers == roomy.apply(entries, wanted=US)
    assert machine.hash_kv() == roomy.hash_kv()
    machine.commit()
    machine = crash_and_reopen(machine, tmp_path / "tiny", map_bytes=TINY_MAP)
    assert machine.hash_kv() == roomy.hash_kv()
    assert machine.is_applied(*US, 59)
    machine.close()
    roomy.close()


def test_a_map_that_fills_while_compacting_costs_time_only(tmp_path: Path) -> None:
    machine = open_machine(tmp_path, map_bytes=TINY_MAP, compact_records=50)
    for number in range(30):
        apply(machine, *[put(b"key%d" % one, b"%d" % number * 100) for one in range(100)])
    apply(machine, compact(machine.revision))
    expected = machine.hash_kv()

    while machine.compact_some():
        pass
    machine.commit()

    assert machine.removed_revision == machine.compact_revision
    assert machine.hash_kv() == expected
    machine.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of four megabytes."""
    mount_point = tmp_path / "disk"
    mount_point.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small tmpfs")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(mount_point)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("mounting a tmpfs is not allowed here")
    yield mount_point
    subprocess.run(["umount", "-l", str(mount_point)], check=True)


def test_a_full_disk_is_named_and_loses_nothing(small_disk: Path) -> None:
    """The commit fails, the state stays readable, and once there is space the same commit succeeds."""
    ballast = small_disk / "ballast"
    machine = open_machine(small_disk / "state", map_bytes=1 << 26)
    apply(machine, put(b"a", b"first"))
    machine.commit()
    ballast.write_bytes(b"\0" * (2 << 20))
    apply(machine, *[put(b"k%d" % number, b"x" * 100_000) for number in range(30)])

    with pytest.raises(DiskFullError):
        machine.commit()

    assert machine.durable_index == 1
    assert get(machine, b"k29") == b"x" * 100_000
    assert get(machine, b"a") == b"first"
    with pytest.raises(DiskFullError):
        machine.commit()
    ballast.unlink()
    machine.commit()
    assert machine.durable_index == 2
    machine = crash_and_reopen(machine, small_disk / "state", map_bytes=1 << 26)
    assert get(machine, b"k29") == b"x" * 100_000
    machine.close()


def test_a_crash_on_a_full_disk_leaves_the_last_commit(small_disk: Path) -> None:
    machine = open_machine(small_disk / "state", map_bytes=1 << 26)
    apply(machine, put(b"a", b"first"))
    machine.commit()
    apply(machine, *[put(b"k%d" % number, b"x" * 100_000) for number in range(60)])
    with pytest.raises(DiskFullError):
        machine.commit()

    machine = crash_and_reopen(machine, small_disk / "state", map_bytes=1 << 26)

    assert machine.applied_index == 1
    assert everything(machine) == {b"a": b"first"}
    machine.close()


def test_a_snapshot_that_does_not_fit_leaves_no_file(small_disk: Path, tmp_path: Path) -> None:
    machine = open_machine(tmp_path / "state", map_bytes=1 << 26)
    apply(machine, *[put(b"k%d" % number, b"x" * 100_000) for number in range(60)])

    with pytest.raises(DiskFullError):
        machine.snapshot_to(small_disk / "snapshot")

    assert not (small_disk / "snapshot").exists()
    apply(machine, put(b"more"))
    machine.close()


def test_a_defragmentation_that_does_not_fit_changes_nothing(small_disk: Path) -> None:
    machine = open_machine(small_disk / "state", map_bytes=1 << 26)
    apply(machine, *[put(b"k%d" % number, b"x" * 100_000) for number in range(25)])

    with pytest.raises(DiskFullError):
        machine.defragment()

    assert not list((small_disk / "state").glob("incoming*"))
    assert get(machine, b"k24") == b"x" * 100_000
    apply(machine, put(b"more"))
    machine.commit()
    machine = crash_and_reopen(machine, small_disk / "state", map_bytes=1 << 26)
    assert len(everything(machine)) == 26
    machine.close()

"""writer: groups, order, and silence after a failure."""

from __future__ import annotations

import errno
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import Queue

import pytest

from raftkv.errors import DiskFullError, StorageError
from raftkv.raft.types import HardState, SavedMark
from raftkv.storage import WalWriter
from tests.storage.faulty_files import FaultyFiles
from tests.storage.helpers import disk, entry, open_wal, save, snapshot

DEADLINE_S = 10.0


class Bench:
    """A writer on a disk whose syncs can be held up or fail."""

    def __init__(self) -> None:
        self.files = disk()
        wal, _ = open_wal(self.files, segment_bytes=64 * 1024)
        self.gate = threading.Event()
        self.gate.set()
        self.arrived: Queue[str] = Queue()  # Operations that wait at the gate.
        self.error: OSError | None = None
        self.files.fail = self._fail
        self.done: Queue[SavedMark] = Queue()
        self.failures: Queue[BaseException] = Queue()
        self.writer = WalWriter(wal, failed=self.failures.put)

    def _fail(self, operation: str, path: Path) -> None:
        if operation in ("sync", "write", "allocate") and not self.gate.is_set():
            self.arrived.put(operation)
            assert self.gate.wait(DEADLINE_S), "nobody opened the gate"
        if self.error is not None and operation == "sync":
            raise self.error

    def save(self, sequence: int, *, must_sync: bool = True) -> None:
        one = save(entry(sequence), sequence=sequence, must_sync=must_sync)
        self.writer.save(one, self.done.put)

    def acknowledged(self, count: int) -> list[int]:
        return [self.done.get(timeout=DEADLINE_S).sequence for _ in range(count)]


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.gate.set()
    assert bench.writer.close(DEADLINE_S)


def recovered_indexes(files: FaultyFiles) -> list[int]:
    _, recovered = open_wal(files)
    return [e.index for e in recovered.entries]


def test_a_save_is_acknowledged_when_it_is_durable(bench: Bench) -> None:
    bench.gate.clear()
    bench.save(1)
    assert bench.arrived.get(timeout=DEADLINE_S) == "write"
    assert bench.done.empty()

    bench.gate.set()

    assert bench.acknowledged(1) == [1]
    assert bench.files.log[-2:] == ["write 0000000000000001.wal", "sync 0000000000000001.wal"]


def test_what_queues_up_during_a_sync_goes_as_one_write_and_one_sync_in_order(bench: Bench) -> None:
    bench.gate.clear()
    bench.save(1)
    bench.arrived.get(timeout=DEADLINE_S)
    for sequence in range(2, 51):
        bench.save(sequence)
    assert bench.writer.backlog == 49
    before = bench.files.operations

    bench.gate.set()

    assert bench.acknowledged(50) == list(range(1, 51))
    assert bench.files.operations == before + 4
    assert bench.writer.stats.saves == 50
    assert bench.writer.stats.groups == 2
    assert bench.writer.stats.syncs == 2
    assert bench.writer.stats.sync_seconds_max >= bench.writer.stats.sync_seconds_last > 0


def test_a_group_has_a_bound(bench: Bench) -> None:
    bench.gate.clear()
    bench.save(1)
    bench.arrived.get(timeout=DEADLINE_S)
    for sequence in range(2, 6):
        bench.writer.save(save(entry(sequence, data=bytes(3 * 1024 * 1024)), sequence=sequence), bench.done.put)

    bench.gate.set()

    assert bench.acknowledged(5) == [1, 2, 3, 4, 5]
    assert bench.writer.stats.groups == 3


def test_a_group_in_which_nothing_must_sync_is_not_synced(bench: Bench) -> None:
    bench.save(1, must_sync=False)
    assert bench.acknowledged(1) == [1]
    assert bench.files.log[-1] == "write 0000000000000001.wal"
    assert bench.writer.stats.syncs == 0

    bench.save(2)

    assert bench.acknowledged(1) == [2]
    assert bench.writer.stats.syncs == 1


def test_an_empty_save_waits_its_turn(bench: Bench) -> None:
    bench.gate.clear()
    bench.save(1)
    bench.arrived.get(timeout=DEADLINE_S)
    bench.writer.save(save(sequence=2), bench.done.put)
    assert bench.done.empty()

    bench.gate.set()

    assert bench.acknowledged(2) == [1, 2]


def test_a_compaction_keeps_its_place_among_the_saves(bench: Bench) -> None:
    for sequence in range(1, 6):
        bench.save(sequence)
    bench.writer.compact(snapshot(5))
    bench.save(6)

    assert bench.acknowledged(6) == [1, 2, 3, 4, 5, 6]
    assert bench.writer.close(DEADLINE_S)
    _, recovered = open_wal(bench.files)
    assert recovered.base == snapshot(5)
    assert recovered.entries == [entry(6)]


def test_closing_carries_out_what_is_queued(bench: Bench) -> None:
    bench.gate.clear()
    for sequence in range(1, 11):
        bench.save(sequence)
    bench.arrived.get(timeout=DEADLINE_S)
    bench.gate.set()

    assert bench.writer.close(DEADLINE_S)

    assert bench.acknowledged(10) == list(range(1, 11))
    assert recovered_indexes(bench.files) == list(range(1, 11))
    assert bench.failures.empty()


def test_closing_a_hung_disk_gives_up_in_time(bench: Bench) -> None:
    bench.gate.clear()
    bench.save(1)
    bench.arrived.get(timeout=DEADLINE_S)

    assert not bench.writer.close(0.01)
    assert bench.done.empty()


def test_a_watchdog_sees_since_when_the_disk_has_been_silent() -> None:
    now = [100.0]
    bench = Bench()
    assert bench.writer.close(DEADLINE_S)
    wal, _ = open_wal(bench.files)
    bench.writer = WalWriter(wal, failed=bench.failures.put, clock=lambda: now[0])
    assert bench.writer.in_flight_since() is None
    bench.gate.clear()
    bench.save(1)
    bench.arrived.get(timeout=DEADLINE_S)
    now[0] = 103.5

    assert bench.writer.in_flight_since() == 100.0

    bench.gate.set()
    bench.acknowledged(1)
    assert bench.writer.in_flight_since() is None
    assert bench.writer.stats.sync_seconds_max == 3.5
    bench.writer.close(DEADLINE_S)


def test_after_a_failed_sync_nothing_is_ever_acknowledged(bench: Bench) -> None:
    """A retry that succeeds proves nothing: the kernel has marked the pages clean."""
    bench.save(1)
    assert bench.acknowledged(1) == [1]
    bench.error = OSError(errno.EIO, "Input/output error")
    bench.gate.clear()
    bench.save(2)
    bench.arrived.get(timeout=DEADLINE_S)
    bench.save(3)
    bench.gate.set()

    failure = bench.failures.get(timeout=DEADLINE_S)
    bench.error = None
    bench.save(4)
    operations = bench.files.operations
    assert bench.writer.close(DEADLINE_S)

    assert isinstance(failure, StorageError)
    assert "Input/output error" in str(failure)
    assert bench.done.empty()
    assert bench.failures.empty()
    assert bench.files.operations == operations


def test_a_full_disk_is_told_apart(bench: Bench) -> None:
    bench.error = OSError(errno.ENOSPC, "No space left on device")
    bench.save(1)

    assert isinstance(bench.failures.get(timeout=DEADLINE_S), DiskFullError)
    assert bench.done.empty()


def test_a_save_that_is_our_bug_fails_the_writer(bench: Bench) -> None:
    bench.save(1)
    bench.save(3)

    assert isinstance(bench.failures.get(timeout=DEADLINE_S), AssertionError)


def test_a_callback_that_raises_fails_the_writer_and_acknowledges_nothing_more(bench: Bench) -> None:
    def broken(mark: SavedMark) -> None:
        raise RuntimeError("no loop")

    bench.gate.clear()
    bench.save(1)
    bench.arrived.get(timeout=DEADLINE_S)
    bench.writer.save(save(entry(2), sequence=2), broken)
    bench.save(3)
    bench.gate.set()

    assert str(bench.failures.get(timeout=DEADLINE_S)) == "no loop"
    assert bench.acknowledged(1) == [1]
    assert bench.writer.close(DEADLINE_S)
    assert bench.done.empty()


def test_a_save_after_close_is_our_bug(bench: Bench) -> None:
    bench.writer.close(DEADLINE_S)

    with pytest.raises(AssertionError, match="after close"):
        bench.save(1)
    with pytest.raises(AssertionError, match="after close"):
        bench.writer.compact(snapshot(1))


def test_every_acknowledged_save_survives_a_power_cut() -> None:
    for seed in range(10):
        bench = Bench()
        rng = random.Random(seed)
        bench.files.crash_at = bench.files.operations + rng.randint(2, 30)
        for sequence in range(1, 40):
            one = save(entry(sequence), hard_state=HardState(1, 1, sequence - 1), sequence=sequence)
            bench.writer.save(one, bench.done.put)
        bench.failures.get(timeout=DEADLINE_S) if bench.writer.close(
            DEADLINE_S
        ) and not bench.failures.empty() else None
        acknowledged = bench.done.qsize()

        assert recovered_indexes(bench.files.after_crash(rng))[:acknowledged] == list(range(1, acknowledged + 1))

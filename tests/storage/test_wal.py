"""wal: what was saved is there after a restart; replacing, resetting, compacting, recycling."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from raftkv.errors import DiskFullError, StorageError
from raftkv.raft.ready import Save
from raftkv.raft.types import Entry, EntryKind, HardState, Membership, SnapshotMeta
from raftkv.storage import Recovered, Wal, WalOptions
from tests.storage.faulty_files import FaultyFiles
from tests.storage.helpers import WAL, Model, disk, entry, log_files, open_wal, salts, save, snapshot


def reopen(wal: Wal, files: FaultyFiles, **options: int) -> tuple[Wal, Recovered]:
    wal.close()
    return open_wal(files, **options)


def test_a_new_log_is_empty() -> None:
    _, recovered = open_wal(disk())

    assert recovered == Recovered(HardState(), SnapshotMeta(), [])


def test_saves_are_there_after_a_restart() -> None:
    files = disk()
    wal, _ = open_wal(files)
    membership = Membership(frozenset({1, 2}), frozenset({2, 3}), frozenset({4}), frozenset({3}))
    entries = [entry(1), Entry(2, 1, EntryKind.MEMBERSHIP, b"table", membership), Entry(3, 2)]
    wal.append([save(*entries, hard_state=HardState(2, 2**64 - 1, 1))])
    wal.sync()

    _, recovered = reopen(wal, files)

    assert recovered == Recovered(HardState(2, 2**64 - 1, 1), SnapshotMeta(), entries)


def test_the_log_lives_in_real_files_too(tmp_path: Path) -> None:
    model = Model()
    for round_ in range(5):
        wal, recovered = Wal.open(tmp_path / "wal", options=WalOptions(segment_bytes=4096))
        assert recovered == model.state
        for _ in range(20):
            saves = [save(entry(model.last_index + 1, data=bytes(100)), hard_state=HardState(1, 1, model.last_index))]
            wal.append(saves)
            model.append(saves)
        wal.sync()
        wal.compact(snapshot(round_ * 20))
        model.compact(snapshot(round_ * 20))
        wal.close()
    assert {path.suffix for path in (tmp_path / "wal").iterdir()} <= {".wal", ".spare"}


def test_entries_replace_everything_from_their_first_index_on() -> None:
    files = disk()
    wal, _ = open_wal(files)
    wal.append([save(*(entry(i) for i in range(1, 9)))])
    wal.append([save(entry(4, term=2), entry(5, term=2))])

    _, recovered = reopen(wal, files)

    assert [str(e) for e in recovered.entries] == ["1@1", "2@1", "3@1", "4@2", "5@2"]


def test_a_replacement_reaches_back_into_earlier_segments() -> None:
    files = disk()
    wal, _ = open_wal(files)
    for i in range(1, 40):
        wal.append([save(entry(i, data=bytes(60)))])
    assert wal.segment_count > 3
    wal.append([save(entry(2, term=2))])

    _, recovered = reopen(wal, files)

    assert [str(e) for e in recovered.entries] == ["1@1", "2@2"]


def test_several_saves_of_one_append_follow_each_other() -> None:
    files = disk()
    wal, _ = open_wal(files)
    wal.append([save(entry(1), entry(2)), save(entry(2, term=2), hard_state=HardState(2)), save(entry(3, term=2))])

    _, recovered = reopen(wal, files)

    assert recovered == Recovered(HardState(2), SnapshotMeta(), [entry(1), entry(2, term=2), entry(3, term=2)])


def test_a_reset_starts_the_log_anew_behind_the_snapshot() -> None:
    files = disk()
    wal, _ = open_wal(files)
    wal.append([save(entry(1), entry(2), hard_state=HardState(1, 1, 1))])
    wal.append([save(entry(101, term=3), reset_to=snapshot(100, term=3), hard_state=HardState(3, 0, 100))])

    _, recovered = reopen(wal, files)

    assert recovered == Recovered(HardState(3, 0, 100), snapshot(100, term=3), [entry(101, term=3)])


def test_a_reset_drops_the_segments_before_it() -> None:
    files = disk()
    wal, _ = open_wal(files)
    for i in range(1, 100):
        wal.append([save(entry(i, data=bytes(60)))])
    before = wal.segment_count
    wal.append([save(reset_to=snapshot(500))])
    assert wal.segment_count >= before  # Not before the reset is durable.

    wal.sync()

    assert wal.segment_count == 1
    _, recovered = reopen(wal, files)
    assert recovered == Recovered(HardState(), snapshot(500), [])


def test_a_compaction_moves_the_base_and_keeps_the_rest() -> None:
    files = disk()
    wal, _ = open_wal(files)
    wal.append([save(*(entry(i) for i in range(1, 9)), hard_state=HardState(1, 2, 5))])
    wal.compact(snapshot(5))

    _, recovered = reopen(wal, files)

    assert recovered == Recovered(HardState(1, 2, 5), snapshot(5), [entry(6), entry(7), entry(8)])


def test_a_compaction_up_to_the_last_entry_leaves_a_log_that_goes_on() -> None:
    files = disk()
    wal, _ = open_wal(files)
    wal.append([save(entry(1), entry(2))])
    wal.compact(snapshot(2))
    wal.append([save(entry(3))])

    _, recovered = reopen(wal, files)

    assert recovered == Recovered(HardState(), snapshot(2), [entry(3)])


def test_an_older_base_changes_nothing() -> None:
    files = disk()
    wal, _ = open_wal(files)
    wal.append([save(*(entry(i) for i in range(1, 9)))])
    wal.compact(snapshot(5))
    written = wal.bytes_written

    wal.compact(snapshot(4))

    assert wal.bytes_written == written
    assert wal.base == snapshot(5)


def test_the_disk_stays_bounded_while_the_log_is_compacted() -> None:
    files = disk()
    wal, _ = open_wal(files, segment_bytes=1024, spares=1)
    for i in range(1, 2000):
        wal.append([save(entry(i, data=bytes(60)), hard_state=HardState(1, 1, i))])
        wal.sync()
        if i % 20 == 0:
            wal.compact(snapshot(i - 5))
        assert wal.bytes_on_disk <= 6 * 1024
        assert sum(map(len, files.contents().values())) == wal.bytes_on_disk

    _, recovered = reopen(wal, files)

    assert recovered.base == snapshot(1975)
    assert recovered.hard_state == HardState(1, 1, 1999)
    assert [e.index for e in recovered.entries] == list(range(1976, 2000))


def test_hard_state_outlives_the_segment_it_was_written_in() -> None:
    files = disk()
    wal, _ = open_wal(files)
    wal.append([save(hard_state=HardState(7, 3, 0))])
    for i in range(1, 200):
        wal.append([save(entry(i, term=7, data=bytes(60)))])
    wal.compact(snapshot(199, term=7))
    assert wal.segment_count == 1

    _, recovered = reopen(wal, files)

    assert recovered.hard_state == HardState(7, 3, 0)


@pytest.mark.parametrize("count", range(12))
def test_old_records_in_a_recycled_segment_are_never_taken_for_new_ones(count: int) -> None:
    """Saves of one size: the old records lie exactly where the new ones would come next."""
    files = disk()
    wal, _ = open_wal(files)
    files.mkdir(WAL)
    index = 0
    while wal.segment_count < 2:
        index += 1
        wal.append([save(entry(index, data=b"old"))])
    wal.compact(snapshot(index))
    old_names = log_files(files)
    while log_files(files) == old_names:  # Until the spare is in use.
        index += 1
        wal.append([save(entry(index, data=b"new"))])
    assert b"old" in files.contents()[str(log_files(files)[-1])]
    for _ in range(count):
        index += 1
        wal.append([save(entry(index, data=b"new"))])
    wal.sync()

    twin = files.copy()  # As after a kill: no mark behind the last record.
    _, recovered = open_wal(twin)

    assert recovered.entries[-1].index == index
    assert {e.data for e in recovered.entries} <= {b"old", b"new"}
    assert [e.index for e in recovered.entries] == list(range(recovered.base.index + 1, index + 1))


def test_dropped_segments_are_reused_and_surplus_ones_removed() -> None:
    files = disk()
    wal, _ = open_wal(files, spares=2)
    for i in range(1, 100):
        wal.append([save(entry(i, data=bytes(60)))])
    wal.compact(snapshot(99))

    assert [name for name in files.listdir(WAL) if name.endswith(".spare")] == [
        "0000000000000001.spare",
        "0000000000000002.spare",
    ]
    created = files.log.count("allocate unfinished.tmp")
    for i in range(100, 110):
        wal.append([save(entry(i, data=bytes(60)))])
    assert wal.segment_count == 2
    assert files.log.count("allocate unfinished.tmp") == created


def test_a_save_larger_than_a_segment_gets_one_of_its_own() -> None:
    files = disk()
    wal, _ = open_wal(files, segment_bytes=1024)
    wal.append([save(entry(1))])
    wal.append([save(entry(2, data=bytes(10_000)))])
    wal.append([save(entry(3))])

    _, recovered = reopen(wal, files)

    assert [len(e.data) for e in recovered.entries] == [4, 10_000, 4]


def test_the_segment_size_may_change_between_runs() -> None:
    files = disk()
    model = Model()
    for size in (512, 4096, 1024):
        wal, recovered = open_wal(files, segment_bytes=size)
        assert recovered == model.state
        for _ in range(30):
            saves = [save(entry(model.last_index + 1, data=bytes(60)))]
            wal.append(saves)
            model.append(saves)
        wal.compact(snapshot(model.last_index - 5))
        model.compact(snapshot(model.last_index - 5))
        wal.close()


def test_what_a_killed_process_had_written_is_durable_once_the_log_is_open_again() -> None:
    """It was in the page cache only; acting on it before it is synced would promise what a power cut takes back."""
    files = disk()
    wal, _ = open_wal(files)
    wal.append([save(entry(1), hard_state=HardState(1, 1, 0))])

    _, recovered = open_wal(files)  # No close, no sync: the process was killed, the machine was not.

    assert recovered.entries == [entry(1)]
    file = files.directories[WAL].durable[log_files(files)[0].name]
    assert file.data == file.durable


def test_nothing_is_written_after_an_error() -> None:
    files = disk()
    wal, _ = open_wal(files)
    wal.append([save(entry(1))])

    def broken(operation: str, path: Path) -> None:
        if operation == "sync":
            raise OSError(errno.EIO, "Input/output error")

    files.fail = broken
    with pytest.raises(StorageError, match="/node/wal: Input/output error"):
        wal.sync()
    files.fail = lambda operation, path: None
    operations = files.operations

    for attempt in (wal.sync, lambda: wal.append([save(entry(2))]), lambda: wal.compact(snapshot(1))):
        with pytest.raises(StorageError, match="cannot be used any more: /node/wal: Input/output error"):
            attempt()
    wal.close()
    assert files.operations == operations


def test_a_full_disk_has_its_own_error_and_loses_nothing() -> None:
    files = disk()
    wal, _ = open_wal(files)
    model = Model()

    def full(operation: str, path: Path) -> None:
        if operation == "allocate":
            raise OSError(errno.ENOSPC, "No space left on device")

    files.fail = full

    def fill_up() -> None:
        for i in range(1, 100):
            wal.append([save(entry(i, data=bytes(60)))])
            wal.sync()
            model.append([save(entry(i, data=bytes(60)))])

    with pytest.raises(DiskFullError, match="No space left"):
        fill_up()
    wal.close()
    assert not files.handles

    files.fail = lambda operation, path: None
    _, recovered = open_wal(files)
    assert recovered == model.state
    assert len(model.entries) > 3


def test_closing_twice_is_once_and_a_closed_log_says_so() -> None:
    files = disk()
    wal, _ = open_wal(files)
    wal.close()
    wal.close()

    with pytest.raises(StorageError, match="closed"):
        wal.append([save(entry(1))])
    assert not files.handles


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(save(entry(3)), id="a gap"),
        pytest.param(save(entry(2), entry(4)), id="a gap inside"),
        pytest.param(save(hard_state=HardState(1, 1, 0)), id="a term taken back"),
        pytest.param(save(hard_state=HardState(2, 3, 0)), id="a vote taken back"),
        pytest.param(save(entry(10), reset_to=snapshot(10)), id="an entry the snapshot covers"),
    ],
)
def test_a_save_that_makes_no_sense_is_our_bug(bad: Save) -> None:
    wal, _ = open_wal(disk())
    wal.append([save(entry(1), hard_state=HardState(2, 1, 0))])

    with pytest.raises(AssertionError):
        wal.append([bad])


def test_a_segment_without_randomness_is_refused() -> None:
    with pytest.raises(AssertionError, match="salt"):
        Wal.open(WAL, files=disk(), new_salt=lambda: bytes(8))
    assert salts(1)() != salts(2)()


@pytest.mark.parametrize(("name", "value"), [("segment_bytes", 100), ("spare_segments_max", -1)])
def test_an_option_out_of_range_is_named(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{name} {value}"):
        WalOptions(**{name: value})

"""Damaged logs: what was proven to be synced is never cut off; what was never promised never stops a node.

The rule for the very last record: nothing on the disk says that it had been synced before the process died, so damage to
exactly that record looks like a torn tail. The record after it says so, and closing a log cleanly or opening it writes one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from raftkv.errors import CorruptionError, DataDirError
from raftkv.raft.types import HardState
from raftkv.storage import Recovered
from raftkv.storage import format as fmt
from tests.storage.faulty_files import FaultyFiles
from tests.storage.helpers import WAL, Model, disk, entry, log_files, open_wal, save, snapshot

SEGMENT_BYTES = 640
SAVES = [
    save(entry(1), hard_state=HardState(1, 1, 0)),
    save(entry(2), entry(3)),
    save(hard_state=HardState(2, 3, 2)),
    save(entry(3, term=2, data=b"last"), hard_state=HardState(2, 3, 3)),
]


class Written:
    """A log of one segment that holds `SAVES`, each synced, and where each record ends; its process was killed."""

    def __init__(self) -> None:
        self.files = disk()
        wal, _ = open_wal(self.files, segment_bytes=SEGMENT_BYTES)
        self.path = log_files(self.files)[0]
        model = Model()
        self.states = [model.state]
        lengths = [0]
        for one in SAVES:
            wal.append([one])
            wal.sync()
            model.append([one])
            self.states.append(model.state)
            lengths.append(wal.bytes_written)
        head = self.files.contents()[str(self.path)].index(self._first_record(wal.bytes_written))
        self.ends = [head + length for length in lengths]

    def _first_record(self, size: int) -> bytes:
        """All records but the head's, found by the salt each begins with; the head's record is the first."""
        data = self.files.contents()[str(self.path)]
        salt = fmt.decode_segment_header(data).salt
        head = fmt.decode_record(memoryview(data), fmt.SEGMENT_HEADER_BYTES, salt)
        assert head is not None
        return data[head.end : head.end + size]


def recover(files: FaultyFiles) -> Recovered:
    wal, recovered = open_wal(files, segment_bytes=SEGMENT_BYTES)
    wal.close()
    return recovered


def assert_corrupt(files: FaultyFiles, path: Path) -> str:
    before = files.contents()
    with pytest.raises(CorruptionError) as caught:
        open_wal(files, segment_bytes=SEGMENT_BYTES)
    assert str(caught.value).startswith(f"{path} at byte ")
    assert files.contents() == before, "a damaged log was changed"
    assert not files.handles
    return str(caught.value)


def flips(size: int) -> Iterator[tuple[int, int]]:
    return ((offset, 1 << bit) for offset in range(size) for bit in range(8))


def test_every_flipped_bit_in_front_of_the_last_record_is_corruption() -> None:
    log = Written()
    whole, before_last = log.ends[-1], log.ends[-2]
    for offset, bit in flips(SEGMENT_BYTES):
        files = log.files.copy()
        files.file(log.path)[offset] ^= bit
        if offset < before_last:
            assert_corrupt(files, log.path)
        else:
            assert recover(files) == (log.states[-2] if offset < whole else log.states[-1]), offset


def test_after_a_clean_stop_every_flipped_bit_is_corruption() -> None:
    log = Written()
    recover(log.files)  # Opened and closed: marks lie behind the last record.
    for offset, bit in flips(log.ends[-1]):
        files = log.files.copy()
        files.file(log.path)[offset] ^= bit
        assert_corrupt(files, log.path)


def test_a_flipped_bit_in_the_marks_or_behind_them_costs_nothing() -> None:
    log = Written()
    recover(log.files)
    for offset in range(log.ends[-1], SEGMENT_BYTES):
        files = log.files.copy()
        files.file(log.path)[offset] ^= 0x10
        try:
            assert recover(files) == log.states[-1]
        except CorruptionError:
            assert offset < log.ends[-1] + fmt.RECORD_HEADER_BYTES * 2  # The first mark is covered by the second.


def test_every_flipped_byte_in_a_segment_with_a_successor_is_corruption() -> None:
    """Even in its last record: the successor says where it ends."""
    files = disk()
    wal, _ = open_wal(files, segment_bytes=SEGMENT_BYTES)
    index = 0
    while wal.segment_count < 3:
        index += 1
        wal.append([save(entry(index, data=b"x" * 20), hard_state=HardState(1, 1, index))])
    wal.sync()
    expected = recover(files.copy())
    assert len(expected.entries) == index
    for path in log_files(files)[:-1]:
        data = files.contents()[str(path)]
        used = len(data.rstrip(b"\0"))
        for offset in range(SEGMENT_BYTES):
            twin = files.copy()
            twin.file(path)[offset] ^= 0xFF
            if offset < used:
                assert_corrupt(twin, path)
            elif offset > used + 8:  # The hard state's zero bytes end a record.
                assert recover(twin) == expected


def test_a_log_cut_at_any_byte_is_corruption() -> None:
    """A segment is preallocated: a shorter file was cut by somebody, whatever it still holds."""
    log = Written()
    for size in range(SEGMENT_BYTES):
        files = log.files.copy()
        del files.file(log.path)[size:]
        message = assert_corrupt(files, log.path)
        assert "cut" in message


def test_a_log_whose_end_was_never_written_is_a_shorter_log() -> None:
    """A torn last record is cut off at every byte; and whole records missing at the end leave what was before them."""
    log = Written()
    for torn_at in range(log.ends[0], SEGMENT_BYTES + 1):
        files = log.files.copy()
        data = files.file(log.path)
        data[torn_at:] = bytes(SEGMENT_BYTES - torn_at)
        intact = sum(end <= max(torn_at, len(data.rstrip(b"\0"))) for end in log.ends[1:])
        recovered = recover(files)
        assert recovered in (log.states[intact], log.states[min(intact + 1, len(SAVES))])
        assert recover(files) == recovered


def test_the_log_goes_on_behind_a_torn_tail() -> None:
    log = Written()
    log.files.file(log.path)[log.ends[-1] - 1] ^= 1
    model = Model()
    model.append(SAVES[:-1])

    for round_ in range(3):
        wal, recovered = open_wal(log.files, segment_bytes=SEGMENT_BYTES)
        assert recovered == model.state
        one = save(entry(4 + round_, term=5), hard_state=HardState(5, 1, round_))
        wal.append([one])
        wal.sync()
        model.append([one])


def lost_and_stale() -> FaultyFiles:
    """Entry 1 synced; entries 2 and 3 not, of which a power cut damaged the earlier and kept the later."""
    files = disk()
    wal, _ = open_wal(files)
    wal.append([save(entry(1))])
    wal.sync()
    wal.append([save(entry(2, data=b"first" * 20))])
    wal.append([save(entry(3, data=b"later" * 20))])
    file = files.file(log_files(files)[0])
    file[file.index(b"first")] ^= 1
    return files.copy()


def test_an_intact_record_behind_a_torn_one_is_not_corruption_if_neither_was_synced() -> None:
    _, recovered = open_wal(lost_and_stale())

    assert recovered.entries == [entry(1)]


def test_such_an_intact_record_never_comes_back() -> None:
    files = lost_and_stale()
    wal, _ = open_wal(files)
    # Together with the mark of the opening as long as the lost record: the stale one would be read next.
    wal.append([save(entry(2, data=b"x" * (100 - fmt.RECORD_HEADER_BYTES)))])
    wal.sync()

    _, recovered = open_wal(files.copy())

    assert [e.index for e in recovered.entries] == [1, 2]
    assert b"later" not in files.contents()[str(log_files(files)[0])]


def three_segments() -> FaultyFiles:
    files = disk()
    wal, _ = open_wal(files, segment_bytes=SEGMENT_BYTES)
    index = 0
    while wal.segment_count < 3:
        index += 1
        wal.append([save(entry(index, data=b"x" * 20), hard_state=HardState(1, 1, 0))])
    wal.close()
    return files


def remove(which: int) -> Callable[[FaultyFiles], None]:
    return lambda files: files.unlink(log_files(files)[which])


def swap(files: FaultyFiles) -> None:
    first, second, _ = log_files(files)
    files.file(first)[:], files.file(second)[:] = bytes(files.file(second)), bytes(files.file(first))


def swap_contents_and_headers(files: FaultyFiles) -> None:
    """The second segment's records under the third's name: another salt, so nothing of it counts."""
    _, second, third = log_files(files)
    header = fmt.SEGMENT_HEADER_BYTES
    files.file(third)[header:] = bytes(files.file(second)[header:])


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        pytest.param(remove(0), "entries 1 .. .* are missing", id="the first segment is gone"),
        pytest.param(remove(1), "entries 1 .. .* are missing", id="the middle segment is gone"),
        pytest.param(swap, "belongs to segment", id="two segments swapped"),
        pytest.param(swap_contents_and_headers, "first record is damaged", id="records of another segment"),
    ],
)
def test_a_missing_or_exchanged_segment_is_corruption(damage: Callable[[FaultyFiles], None], says: str) -> None:
    files = three_segments()
    damage(files)
    before = files.contents()

    with pytest.raises(CorruptionError, match=says):
        open_wal(files, segment_bytes=SEGMENT_BYTES)
    assert files.contents() == before


def test_an_older_copy_of_a_segment_is_corruption() -> None:
    files = disk()
    wal, _ = open_wal(files, segment_bytes=SEGMENT_BYTES)
    wal.append([save(entry(1))])
    wal.sync()
    path = log_files(files)[0]
    older = files.contents()[str(path)]
    index = 1
    while wal.segment_count < 2:
        index += 1
        wal.append([save(entry(index))])
    wal.sync()
    files.file(path)[:] = older

    assert_corrupt(files.copy(), path)


def test_a_log_of_a_newer_format_says_so() -> None:
    log = Written()
    data = log.files.file(log.path)
    header = fmt.decode_segment_header(bytes(data))
    newer = fmt.SegmentHeader(sequence=header.sequence, salt=header.salt, capacity=header.capacity, format=2)
    data[: fmt.SEGMENT_HEADER_BYTES] = fmt.encode_segment_header(newer)

    with pytest.raises(DataDirError, match="has log format 2; this version of raftkv reads up to 1"):
        recover(log.files)


def test_a_record_length_is_never_trusted() -> None:
    """A length of 4 GiB in a header reads nothing and allocates nothing."""
    data = bytearray(fmt.encode_record([b"abc"], salt=b"saltsalt", offset=0, durable=0))
    data[12:16] = b"\xff" * 4

    assert fmt.decode_record(memoryview(data), 0, b"saltsalt") is None


def test_an_item_of_an_unknown_kind_stops_the_node() -> None:
    """A newer version wrote it; it may be a vote."""
    files = disk()
    open_wal(files)
    path = log_files(files)[0]
    data = files.file(path)
    header = fmt.decode_segment_header(bytes(data))
    head = fmt.decode_record(memoryview(bytes(data)), fmt.SEGMENT_HEADER_BYTES, header.salt)
    assert head is not None
    strange = fmt.encode_record([b"\x63\0\0\0\0"], salt=header.salt, offset=head.end, durable=head.end)
    data[head.end : head.end + len(strange)] = strange

    with pytest.raises(CorruptionError, match=f"at byte {head.end}: item kind 99 is unknown to this version"):
        open_wal(files)


def test_garbage_in_the_directory_is_left_alone() -> None:
    files = disk()
    wal, _ = open_wal(files)
    wal.append([save(entry(1))])
    wal.close()
    for name in ("notes.txt", "0.wal", "zzzzzzzzzzzzzzzz.wal"):
        files.close(files.open(WAL / name, create=True))

    _, recovered = open_wal(files)

    assert recovered.entries == [entry(1)]
    assert "notes.txt" in files.listdir(WAL)


def test_leftovers_of_an_interrupted_drop_are_removed() -> None:
    """A crash may bring back some of the removed names: segments in front of a gap which nobody needs."""
    files = three_segments()
    first = log_files(files)[0]
    old = bytes(files.file(first))
    wal, recovered = open_wal(files, segment_bytes=SEGMENT_BYTES, spares=0)
    wal.compact(snapshot(recovered.entries[-1].index))
    wal.close()
    assert first not in log_files(files)
    handle = files.open(first, create=True)
    files.write(handle, old, 0)
    files.close(handle)

    _, recovered = open_wal(files, segment_bytes=SEGMENT_BYTES)

    assert recovered.entries == []
    assert first not in log_files(files)

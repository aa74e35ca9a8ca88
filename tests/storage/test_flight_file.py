"""The flight record's files: bounded, never in the way, readable after anything."""

from __future__ import annotations

import errno
import json
import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from raftkv.errors import StorageError
from raftkv.storage import flight_file
from raftkv.storage.files import OS_FILES, FileSystem
from raftkv.storage.flight_file import FlightFile, read_lines
from tests.server.process import wait_until
from tests.storage.faulty_files import FaultyFiles

HEAD = b'{"kind": "record", "name": "n1"}'


def opened(path: Path, files: FaultyFiles | None = None, **options: int) -> FlightFile:
    file = FlightFile(path, HEAD, **({"files": files} if files else {}), **options)
    file.open()
    return file


def numbered(*numbers: int) -> list[bytes]:
    return [json.dumps({"seq": number, "text": "x" * 80}).encode() for number in numbers]


def test_what_was_appended_is_there_for_the_next_run(tmp_path: Path) -> None:
    first = opened(tmp_path)
    for line in numbered(1, 2, 3):
        first.append(line)
    assert first.close(5.0)

    second = FlightFile(tmp_path, HEAD)
    earlier = second.open()
    second.append(numbered(4)[0])
    assert second.close(5.0)

    assert earlier == [HEAD, *numbered(1, 2, 3)]
    assert read_lines(tmp_path) == [HEAD, *numbered(1, 2, 3, 4)], "a run does not begin a segment of its own"


def test_lines_are_on_the_disk_without_a_close(tmp_path: Path) -> None:
    """What a SIGKILL leaves: nothing is kept back in the process."""
    file = opened(tmp_path)

    file.append(b"{}")

    wait_until(lambda: b"{}" in read_or_nothing(tmp_path))
    assert file.close(5.0)


def test_the_record_is_bounded_on_disk_and_in_memory(tmp_path: Path) -> None:
    file = opened(tmp_path, segment_bytes_max=4096)
    lines = numbered(*range(4000))

    for line in lines:
        file.append(line)
    assert file.close(5.0)

    sizes = [path.stat().st_size for path in (tmp_path / "flight").iterdir()]
    assert len(sizes) == flight_file.SEGMENTS_MAX
    assert sum(sizes) <= 2 * (4096 + flight_file.BATCH_BYTES_MAX)
    kept = file.lines(10**9)
    assert kept == lines[-len(kept) :]
    assert 4096 < sum(map(len, kept)) <= 2 * 4096
    assert read_lines(tmp_path)[-1] == lines[-1]


def test_every_segment_says_whose_record_it_is(tmp_path: Path) -> None:
    file = opened(tmp_path, segment_bytes_max=1024)
    for line in numbered(*range(2000)):
        file.append(line)
    assert file.close(5.0)

    for path in (tmp_path / "flight").iterdir():
        assert path.read_bytes().startswith(HEAD + b"\n")


def test_the_newest_lines_are_given_out_when_not_all_fit(tmp_path: Path) -> None:
    file = opened(tmp_path)
    for line in numbered(1, 2, 3):
        file.append(line)

    size = len(numbered(1)[0]) + 1

    assert file.lines(2 * size) == numbered(2, 3)
    assert file.lines(0) == []
    assert file.close(5.0)


@pytest.mark.parametrize("cut", [1, 40])
def test_a_torn_last_line_costs_that_line_only(tmp_path: Path, cut: int) -> None:
    file = opened(tmp_path)
    for line in numbered(1, 2):
        file.append(line)
    assert file.close(5.0)
    (segment,) = (tmp_path / "flight").iterdir()
    segment.write_bytes(segment.read_bytes()[:-cut])

    again = opened(tmp_path)
    again.append(numbered(3)[0])
    assert again.close(5.0)

    lines = read_lines(tmp_path)
    assert lines[:2] == [HEAD, numbered(1)[0]]
    assert lines[-1] == numbered(3)[0], "the next line begins on a line of its own"


def test_a_full_disk_costs_nothing_but_the_disks_copy_and_that_comes_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flight_file, "RETRY_S", 0.01)
    files, path = FaultyFiles(), Path("/data")
    files.mkdir(path)
    is_full = threading.Event()
    is_full.set()
    refused = threading.Event()
    files.fail = failing(is_full, refused, errno.ENOSPC)
    file = opened(path, files)

    for line in numbered(1, 2):
        file.append(line)
    assert refused.wait(5.0)

    assert file.lines(1000) == numbered(1, 2), "they are in memory"
    is_full.clear()
    wait_until(lambda: read_or_nothing(path, files)[-2:] == numbered(1, 2))
    assert file.close(5.0)
    assert read_lines(path, files) == [HEAD, *numbered(1, 2)]


def test_a_disk_that_stays_full_does_not_hold_up_the_end() -> None:
    files, path = FaultyFiles(), Path("/data")
    files.mkdir(path)
    is_full = threading.Event()
    is_full.set()
    files.fail = failing(is_full, threading.Event(), errno.ENOSPC)
    file = opened(path, files)

    file.append(b"{}")

    assert file.close(5.0)


def test_a_disk_that_hangs_holds_up_nobody_and_what_it_misses_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flight_file, "QUEUE_LINES_MAX", 4)
    files, path = FaultyFiles(), Path("/data")
    files.mkdir(path)
    hangs, goes_on = threading.Event(), threading.Event()

    def hang(operation: str, _: Path) -> None:
        if operation == "write":
            hangs.set()
            assert goes_on.wait(10.0)

    files.fail = hang
    file = opened(path, files)
    file.append(numbered(0)[0])
    assert hangs.wait(5.0)

    for line in numbered(1, 2, 3, 4, 5):
        file.append(line)

    assert file.lines(1000) == numbered(0, 1, 2, 3, 4, 5)
    assert not file.close(0.01), "the disk has not come back"
    goes_on.set()
    assert file.close(5.0)
    assert file.lost_count == 1, "the line that was being written was pushed out of the queue, and is not lost"
    assert read_lines(path, files) == [HEAD, *numbered(0, 2, 3, 4, 5)]


def test_a_directory_that_cannot_be_read_is_an_empty_record_and_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    files, path = FaultyFiles(), Path("/data")
    files.mkdir(path)
    is_broken = threading.Event()
    is_broken.set()

    def fail(operation: str, _: Path) -> None:
        if is_broken.is_set() and operation == "listdir":
            raise OSError(errno.EIO, "Input/output error")

    files.fail = fail
    file = FlightFile(path, HEAD, files=files)

    assert file.open() == []
    is_broken.clear()
    file.append(b"{}")

    assert file.close(5.0)
    assert read_lines(path, files) == [HEAD, b"{}"]
    assert "Input/output error" in caplog.text


@pytest.mark.parametrize("seed", range(20))
def test_after_a_power_cut_the_record_can_be_read_and_goes_on(seed: int) -> None:
    rng = random.Random(seed)
    files, path = FaultyFiles(), Path("/data")
    files.mkdir(path)
    file = opened(path, files, segment_bytes_max=300)
    for line in numbered(*range(rng.randrange(1, 30))):
        file.append(line)
    assert file.close(5.0)

    after = files.after_crash(rng)
    again = opened(path, after, segment_bytes_max=300)
    again.append(b'{"seq": 99}')
    assert again.close(5.0)

    assert b'{"seq": 99}' in read_lines(path, after)


def test_a_data_directory_without_a_record_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=f"{tmp_path} holds no flight record"):
        read_lines(tmp_path)
    (tmp_path / "flight").mkdir()
    with pytest.raises(StorageError, match="holds no flight record"):
        read_lines(tmp_path)


def failing(while_set: threading.Event, refused: threading.Event, number: int) -> Callable[[str, Path], None]:
    def fail(operation: str, _: Path) -> None:
        if while_set.is_set() and operation in ("write", "create"):
            refused.set()
            raise OSError(number, "No space left on device")

    return fail


def read_or_nothing(path: Path, files: FileSystem = OS_FILES) -> list[bytes]:
    try:
        return read_lines(path, files)
    except StorageError:
        return []

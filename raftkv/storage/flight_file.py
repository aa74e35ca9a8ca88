"""The flight record's files: lines, in segments that are few and bounded, written by a thread of their own.

    <data-dir>/flight/0000000000000004.jsonl     the older half
                      0000000000000005.jsonl     the one that is written to; a full one makes the oldest go

A record explains a failure afterwards, so it has to be there when everything else goes wrong, and must never be what goes
wrong. Whoever appends never waits: a disk that hangs holds up this thread alone, one that is full or broken is asked again
with later lines, and the newest lines are in memory in any case. A line is written at once, so that it survives the death of
the process, and synced a second later: a sync in the very moment of a failover would compete with the log's.

Reading tolerates whatever a crash leaves: a line that was cut is the reader's to skip.

May not live here: what a line says (`raftkv.node.flight_record`).
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from raftkv.errors import StorageError
from raftkv.storage.files import OS_FILES, FileSystem, disk_errors

DIRECTORY: Final = "flight"
SEGMENT_BYTES_MAX: Final = 1024 * 1024
SEGMENTS_MAX: Final = 2
LINE_BYTES_MAX: Final = 8192
QUEUE_LINES_MAX: Final = 8192
"""Lines that wait for a disk which hangs or is full; beyond it the oldest of them never reach it."""
BATCH_BYTES_MAX: Final = 64 * 1024
"""Written at once: a segment is never longer than its bound and this."""
SYNC_AFTER_S: Final = 1.0
RETRY_S: Final = 5.0
"""After an error of the disk, before it is asked again without a new line."""
SEGMENT_NAME: Final = re.compile(r"(\d{16})\.jsonl")

log = logging.getLogger("raftkv.storage")


def read_lines(data_dir: Path, files: FileSystem = OS_FILES) -> list[bytes]:
    """Every line of the flight record in a data directory, oldest first, whether or not its node runs. Changes nothing.

    The last one may be cut; so may others, where a machine lost its power.

    Raises:
        StorageError: there is no flight record, or it cannot be read.
    """
    directory = data_dir / DIRECTORY
    with disk_errors(directory):
        try:
            numbers = _segments(directory, files)
        except FileNotFoundError:
            numbers = []
        if not numbers:
            raise StorageError(f"{data_dir} holds no flight record: is it a node's data directory?")
        lines: list[bytes] = []
        for number in numbers:
            with suppress(FileNotFoundError):  # Its node runs, and has just removed it.
                lines += _read(directory, number, files).splitlines()
        return lines


class FlightFile:
    """Appends to the flight record of one data directory, and keeps its newest lines in memory.

    Args:
        data_dir: of this node; nobody else writes there.
        head: the line with which every segment begins: whose record it is.
        segment_bytes_max: a segment that has reached this is not added to.
    """

    def __init__(
        self,
        data_dir: Path,
        head: bytes,
        *,
        segment_bytes_max: int = SEGMENT_BYTES_MAX,
        files: FileSystem = OS_FILES,
    ) -> None:
        assert 0 < len(head) <= LINE_BYTES_MAX, f"a head of {len(head)} bytes"
        self._directory = data_dir / DIRECTORY
        self._head = head
        self._segment_bytes_max = segment_bytes_max
        self._files = files
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self._queue: deque[bytes] = deque()
        self._news = threading.Condition()
        self._is_closing = False
        self._handle: int | None = None
        self._number: int | None = None
        """Of the segment that is written to; None until the directory has been read."""
        self._offset = 0
        self._is_torn = False
        self._sync_at: float | None = None
        self._lost_before = 0
        self._error: str | None = None
        self.lost_count = 0
        """Lines that never reached the disk, because it had not taken those before them."""
        self._thread = threading.Thread(target=self._run, name="flight-record", daemon=True)

    def open(self) -> list[bytes]:
        """Read what earlier runs left, and start the thread. A disk that cannot be read is an empty record, and a warning.

        Returns:
            The lines of earlier runs, oldest first.
        """
        try:
            self._files.mkdir(self._directory)
            self._begin_after(_segments(self._directory, self._files))
            self._read_earlier()
        except OSError as error:
            self._say(error)
        earlier = list(self._lines)
        self._thread.start()
        return earlier

    def append(self, line: bytes) -> None:
        """Record a line; returns at once. It must hold no newline and at most LINE_BYTES_MAX bytes."""
        assert b"\n" not in line, "a record of two lines"
        assert len(line) <= LINE_BYTES_MAX, f"a line of {len(line)} bytes"
        with self._news:
            self._remember(line)
            if len(self._queue) >= QUEUE_LINES_MAX:
                self._queue.popleft()
                self.lost_count += 1
            self._queue.append(line)
            self._news.notify()

    def lines(self, bytes_max: int) -> list[bytes]:
        """The newest lines, oldest first, of this run and earlier ones. From memory: works whatever ails the disk."""
        with self._news:
            taken: list[bytes] = []
            for line in reversed(self._lines):
                bytes_max -= len(line) + 1
                if bytes_max < 0:
                    break
                taken.append(line)
        return taken[::-1]

    def close(self, timeout_s: float) -> bool:
        """Write and sync what is queued. False when the disk does not come back within `timeout_s`: the thread is a daemon."""
        with self._news:
            self._is_closing = True
            self._news.notify()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _begin_after(self, numbers: Sequence[int]) -> None:
        """Go on behind these segments, unless the last one turns out to have room."""
        self._number = max(numbers, default=0)
        self._offset = self._segment_bytes_max

    def _read_earlier(self) -> None:
        text = b"\n"
        for number in _segments(self._directory, self._files):
            text = _read(self._directory, number, self._files)
            for line in text.splitlines():
                self._remember(line)
        if self._number:
            self._offset = len(text)
            self._is_torn = not text.endswith(b"\n")

    def _remember(self, line: bytes) -> None:
        self._lines.append(line)
        self._bytes += len(line) + 1
        while self._bytes > SEGMENTS_MAX * self._segment_bytes_max:
            self._bytes -= len(self._lines.popleft()) + 1

    # --- on the thread ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            batch, is_closing = self._next_batch()
            try:
                if batch:
                    self._write(batch)
                    self._forget(len(batch))
                if self._sync_at is not None and (is_closing or time.monotonic() >= self._sync_at):
                    self._sync()
                self._error = None
            except OSError as error:
                self._say(error)
                self._give_up_handle()
                if is_closing:
                    return
                self._pause()
            if is_closing and not batch:
                self._give_up_handle()
                return

    def _next_batch(self) -> tuple[list[bytes], bool]:
        """Wait for lines, for the time of a sync, or for the end. What is returned stays queued until it is written."""
        with self._news:
            while not self._queue and not self._is_closing:
                wait_s = None if self._sync_at is None else self._sync_at - time.monotonic()
                if wait_s is not None and wait_s <= 0:
                    break
                self._news.wait(wait_s)
            self._lost_before = self.lost_count
            batch: list[bytes] = []
            size = 0
            for line in self._queue:
                size += len(line) + 1
                if size > BATCH_BYTES_MAX:
                    break
                batch.append(line)
            return batch, self._is_closing

    def _forget(self, written: int) -> None:
        """These are on the disk. Some may have been pushed out of the queue meanwhile, and are not lost after all."""
        with self._news:
            pushed_out = min(written, self.lost_count - self._lost_before)
            self.lost_count -= pushed_out
            for _ in range(written - pushed_out):
                self._queue.popleft()

    def _pause(self) -> None:
        with self._news:
            if not self._is_closing:
                self._news.wait(RETRY_S)

    def _write(self, batch: Sequence[bytes]) -> None:
        if self._handle is None or self._offset >= self._segment_bytes_max:
            self._open_segment()
        assert self._handle is not None
        data = b"".join([b"\n" if self._is_torn else b"", *(line + b"\n" for line in batch)])
        self._files.write(self._handle, data, self._offset)
        self._is_torn = False
        self._offset += len(data)
        if self._sync_at is None:
            self._sync_at = time.monotonic() + SYNC_AFTER_S

    def _open_segment(self) -> None:
        """Go on with the newest segment if it has room, else begin one and remove the oldest."""
        if self._number is None:
            self._files.mkdir(self._directory)
            self._begin_after(_segments(self._directory, self._files))
        assert self._number is not None
        if self._offset < self._segment_bytes_max:
            self._handle = self._files.open(self._path(self._number))
            return
        if self._handle is not None:
            self._sync()
            self._give_up_handle()
        number = self._number + 1
        for old in _segments(self._directory, self._files):
            if old <= number - SEGMENTS_MAX:
                self._files.unlink(self._path(old))
        self._handle = self._files.open(self._path(number), create=True)
        self._files.write(self._handle, self._head + b"\n", 0)
        self._files.sync_dir(self._directory)
        self._number, self._offset, self._is_torn = number, len(self._head) + 1, False

    def _sync(self) -> None:
        self._sync_at = None
        if self._handle is not None:
            self._files.sync(self._handle)

    def _give_up_handle(self) -> None:
        """Also after an error: the next attempt opens the file anew. What a failed sync has lost, is lost."""
        handle, self._handle = self._handle, None
        if handle is not None:
            try:
                self._files.close(handle)
            except OSError as error:
                self._say(error)

    def _path(self, number: int) -> Path:
        return self._directory / f"{number:016d}.jsonl"

    def _say(self, error: OSError) -> None:
        text = error.strerror or str(error)
        if text != self._error:
            self._error = text
            log.warning("the flight record cannot be kept on disk, and is in memory only: %s", text)


def _segments(directory: Path, files: FileSystem) -> list[int]:
    return sorted(int(found[1]) for name in files.listdir(directory) if (found := SEGMENT_NAME.fullmatch(name)))


def _read(directory: Path, number: int, files: FileSystem) -> bytes:
    handle = files.open(directory / f"{number:016d}.jsonl")
    try:
        return files.read(handle, files.size(handle), 0)
    finally:
        files.close(handle)

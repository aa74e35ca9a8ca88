"""The write-ahead log of one node: append, sync, compact. Synchronous, used by one thread at a time (`WalWriter`'s).

Responsible for the order of what happens on the disk: what was promised is synced, a segment gets its name only when its
head is synced, a segment is dropped only when what replaces it is synced.

May not live here: threads, callbacks, clocks; how bytes look (`format`); reading them back (`recovery`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from raftkv.errors import StorageError
from raftkv.raft.ready import Save
from raftkv.raft.types import Entry, HardState, SnapshotMeta
from raftkv.storage import format as fmt
from raftkv.storage.files import OS_FILES, FileSystem, disk_errors
from raftkv.storage.recovery import Segment, replay, segment_path

_SPARE_SUFFIX: Final = ".spare"
_UNFINISHED_NAME: Final = "unfinished.tmp"


@dataclass(frozen=True, kw_only=True, slots=True)
class WalOptions:
    """Raises ValueError when a value is out of range."""

    segment_bytes: int = 16 * 1024 * 1024
    """Size of a segment file. A single larger save gets a segment of its own size."""
    spare_segments_max: int = 1
    """Dropped segments kept for reuse: overwriting old blocks costs no metadata. More only hold space."""

    def __post_init__(self) -> None:
        if self.segment_bytes < 512:
            raise ValueError(f"segment_bytes {self.segment_bytes} is below 512")
        if self.spare_segments_max < 0:
            raise ValueError(f"spare_segments_max {self.spare_segments_max} is negative")


@dataclass(frozen=True, slots=True)
class Recovered:
    """What the log said when it was opened: `entries` are the ones behind `base`, without a gap."""

    hard_state: HardState
    base: SnapshotMeta
    entries: list[Entry]


class Wal:
    """See the package docstring. After the first error nothing works any more: what reached the disk is unknown.

    Attributes:
        base, hard_state, last_index, last_term: what a restart would find if everything appended were synced.
        bytes_written: bytes appended since it was opened.
    """

    def __init__(self, path: Path, files: FileSystem, options: WalOptions, new_salt: Callable[[], bytes]) -> None:
        self._path = path
        self._files = files
        self._options = options
        self._new_salt = new_salt
        self._segments: list[Segment] = []  # Oldest first; the last one is written to.
        self._spares: list[tuple[Path, int]] = []  # with their sizes
        self._handle: int | None = None
        self._tail = 0  # Where the next record goes.
        self._durable = 0  # Everything before this offset of the active segment was synced.
        self._was_reset = False  # Segments may be dropped after the next sync.
        self._error: BaseException | None = None
        self.base = SnapshotMeta()
        self.hard_state = HardState()
        self.last_index = 0
        self.last_term = 0
        self.bytes_written = 0

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        options: WalOptions | None = None,
        files: FileSystem = OS_FILES,
        new_salt: Callable[[], bytes] = lambda: os.urandom(8),
    ) -> tuple[Wal, Recovered]:
        """Open the log in this directory; where there is none yet, begin an empty one.

        When it returns, everything recovered is durable: what a process wrote before it was killed may have been in the
        page cache only. A torn tail was cut off.

        Args:
            path: the directory; made if it is missing.
            options: sizes; may differ from one run to the next.
            files: the disk.
            new_salt: eight bytes that no segment had before.

        Raises:
            CorruptionError: stored bytes are not what was written; names file and offset; nothing was changed.
            DataDirError: a newer version wrote the log.
            DiskFullError: no space for a segment.
            StorageError: the disk failed.
        """
        wal = cls(path, files, options or WalOptions(), new_salt)
        with disk_errors(path):
            files.mkdir(path)
        found = replay(files, path)
        try:
            with wal._guard():
                if found is None:
                    wal._tidy()
                    wal._begin_segment(0)
                else:
                    state = found.state
                    wal.base, wal.hard_state = state.base, state.hard_state
                    wal.last_index, wal.last_term = state.last_index, state.last_term
                    wal._segments, wal._tail = found.segments, found.tail
                    wal._resume(found.stale_end, found.leftovers)
        except BaseException:
            wal._release()
            raise
        return wal, Recovered(wal.hard_state, wal.base, found.state.entries if found else [])

    @property
    def bytes_on_disk(self) -> int:
        return sum(segment.capacity for segment in self._segments) + sum(size for _, size in self._spares)

    @property
    def segment_count(self) -> int:
        return len(self._segments)

    def append(self, saves: Sequence[Save]) -> None:
        """Write these saves as one record: after a crash all of them are there or none. Durable after `sync`.

        Raises:
            DiskFullError: no space for a new segment.
            StorageError: the disk failed.
        """
        parts = [part for save in saves for part in fmt.save_items(save)]
        if parts:
            with self._guard():
                self._make_room(parts)  # A new segment's head tells the state before these saves.
                for save in saves:
                    self._note(save)
                self._write(parts)

    def sync(self) -> None:
        """Everything appended so far survives a power cut once this returns.

        Raises:
            StorageError: the disk failed. What reached it is unknown, and asking again would prove nothing: Linux marks
                pages clean after a failed sync.
        """
        with self._guard():
            self._sync()
            if self._was_reset:
                self._drop_segments()

    def compact(self, base: SnapshotMeta) -> None:
        """The log up to `base` is not needed any more: segments that hold nothing else are dropped or kept as spares.

        Durable when it returns. A base that is not newer than the present one changes nothing.

        Raises:
            DiskFullError: no space for a new segment.
            StorageError: the disk failed.
        """
        if base.index <= self.base.index:
            return
        assert base.index <= self.last_index, f"base {base.index} is beyond the last entry {self.last_index}"
        with self._guard():
            parts = fmt.base_item(base)
            self._make_room(parts)
            self.base = base
            self._write(parts)
            self._sync()
            self._drop_segments()

    def close(self) -> None:
        """Sync, leave a mark that everything was synced, and let go of the file. Closing twice is once.

        Raises:
            StorageError: the disk failed now; after an earlier failure closing is silent.
        """
        if self._handle is None:
            return
        try:
            if self._error is None:
                with self._guard():
                    self._sync()
                    self._leave_mark()
        finally:
            self._release()

    # --- what is in the log -------------------------------------------------------------------------------------------

    def _note(self, save: Save) -> None:
        active = self._segments[-1]
        if save.reset_to is not None:
            self.base = save.reset_to
            self.last_index, self.last_term = save.reset_to.index, save.reset_to.term
            self._was_reset = True
            for segment in self._segments:
                segment.last_index = 0
        if save.entries:
            first, last = save.entries[0].index, save.entries[-1]
            assert self.base.index < first, f"entry {first} is not behind the base {self.base.index}"
            assert first <= self.last_index + 1, f"entry {first} leaves a gap behind {self.last_index}"
            assert last.index - first + 1 == len(save.entries), (
                f"{len(save.entries)} entries from {first} to {last.index}"
            )
            self.last_index, self.last_term = last.index, last.term
            active.last_index = max(active.last_index, last.index)
        if save.hard_state is not None:
            new, old = save.hard_state, self.hard_state
            assert new.term >= old.term, f"{new} follows {old}: the term went back"
            assert new.term > old.term or old.vote in (0, new.vote), f"{new} follows {old}: a vote was taken back"
            self.hard_state = new

    # --- the active segment -------------------------------------------------------------------------------------------

    def _make_room(self, parts: Sequence[bytes]) -> None:
        size = fmt.RECORD_HEADER_BYTES + sum(map(len, parts))
        if self._tail + size > self._segments[-1].capacity:
            self._sync()  # The new segment's head will say that this one ends here.
            self._begin_segment(size)

    def _write(self, parts: Sequence[bytes]) -> None:
        assert self._handle is not None
        active = self._segments[-1]
        record = fmt.encode_record(parts, salt=active.salt, offset=self._tail, durable=self._durable)
        assert self._tail + len(record) <= active.capacity, f"{len(record)} bytes at {self._tail} of {active.capacity}"
        self._files.write(self._handle, record, self._tail)
        self._tail += len(record)
        self.bytes_written += len(record)

    def _sync(self) -> None:
        assert self._handle is not None
        if self._durable < self._tail:
            self._files.sync(self._handle)
            self._durable = self._tail

    def _leave_mark(self) -> None:
        """An empty record. It says that everything before it was synced, so damage to that is not a torn tail."""
        self._make_room(())
        self._write(())
        self._sync()

    def _begin_segment(self, first_record_bytes: int) -> None:
        """The segment before it is synced; this one gets its name when its head is synced too."""
        sequence = self._segments[-1].sequence + 1 if self._segments else 1
        salt = self._new_salt()
        assert len(salt) == 8, f"a salt of {len(salt)} bytes"
        assert any(salt), "a salt of zeros is no salt"
        head = (
            *fmt.head_item(fmt.Head(self._tail, self.last_index, self.last_term)),
            *fmt.base_item(self.base),
            *fmt.hard_state_item(self.hard_state),
        )
        record = fmt.encode_record(head, salt=salt, offset=fmt.SEGMENT_HEADER_BYTES, durable=0)
        used = fmt.SEGMENT_HEADER_BYTES + len(record)
        capacity = max(self._options.segment_bytes, used + first_record_bytes)
        segment = Segment(segment_path(self._path, sequence), sequence, salt, capacity)
        header = fmt.SegmentHeader(sequence=sequence, salt=salt, capacity=capacity)

        source, handle = self._take_file(capacity)
        try:
            self._files.write(handle, fmt.encode_segment_header(header) + record, 0)
            self._files.sync(handle)
            self._files.rename(source, segment.path)
            self._files.sync_dir(self._path)
        except BaseException:
            self._files.close(handle)
            raise
        if self._handle is not None:
            self._files.close(self._handle)
        self._handle = handle
        self._segments.append(segment)
        self._tail = self._durable = used

    def _take_file(self, capacity: int) -> tuple[Path, int]:
        """An open file of this size that is no part of the log: a spare one, or a new one."""
        for spare, size in self._spares:
            if size == capacity:
                self._spares.remove((spare, size))
                return spare, self._files.open(spare)
        path = self._path / _UNFINISHED_NAME
        handle = self._files.open(path, create=True)
        try:
            self._files.allocate(handle, capacity)
        except BaseException:
            self._files.close(handle)
            raise
        return path, handle

    # --- the directory ------------------------------------------------------------------------------------------------

    def _resume(self, stale_end: int, leftovers: Sequence[Path]) -> None:
        """Make durable what was read, overwrite what must never be read again, tidy up, and mark the place."""
        self._handle = self._files.open(self._segments[-1].path)
        if stale_end > self._tail:
            self._files.write(self._handle, bytes(stale_end - self._tail), self._tail)
        self._sync()
        for path in leftovers:
            self._files.unlink(path)
        self._tidy()
        self._drop_segments()
        self._leave_mark()

    def _tidy(self) -> None:
        """Remove what an interrupted start of a segment left behind; find the spare files."""
        for name in self._files.listdir(self._path):
            path = self._path / name
            if name == _UNFINISHED_NAME:
                self._files.unlink(path)
            elif name.endswith(_SPARE_SUFFIX):
                handle = self._files.open(path)
                size = self._files.size(handle)
                self._files.close(handle)
                self._keep_or_unlink(path, path, size)

    def _drop_segments(self) -> None:
        """Drop the oldest segments that hold nothing behind the base. What supersedes them was synced before."""
        assert self._durable == self._tail, f"synced to {self._durable} of {self._tail}"
        self._was_reset = False
        dropped = False
        while len(self._segments) > 1 and self._segments[0].last_index <= self.base.index:
            old = self._segments.pop(0)
            self._keep_or_unlink(old.path, old.path.with_suffix(_SPARE_SUFFIX), old.capacity)
            dropped = True
        if dropped:
            # Before a spare is written to: else a crash could show its new bytes under its old name.
            self._files.sync_dir(self._path)

    def _keep_or_unlink(self, path: Path, spare: Path, size: int) -> None:
        if size == self._options.segment_bytes and len(self._spares) < self._options.spare_segments_max:
            if path != spare:
                self._files.rename(path, spare)
            self._spares.append((spare, size))
        else:
            self._files.unlink(path)

    @contextmanager
    def _guard(self) -> Iterator[None]:
        """The first error is the last: afterwards nobody knows what the disk holds."""
        if self._error is not None:
            raise StorageError(f"{self._path}: the log cannot be used any more: {self._error}") from self._error
        try:
            with disk_errors(self._path):
                yield
        except BaseException as error:
            self._error = error
            raise

    def _release(self) -> None:
        self._error = self._error or StorageError(f"{self._path}: the log is closed")
        handle, self._handle = self._handle, None
        if handle is not None:
            self._files.close(handle)

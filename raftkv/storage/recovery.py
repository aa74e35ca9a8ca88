"""Reading a write-ahead log back: what it says, where its tail is, and whether it can be believed. Changes nothing.

The verdict on a record that is not intact:

    in a segment that has a successor                                      corruption: the successor says where it ended
    a later record of the segment says that this place had been synced     corruption
    otherwise                                                              the torn tail of a write that was never synced

May not live here: anything that writes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from raftkv.errors import CorruptionError, DataDirError
from raftkv.raft.types import Entry, HardState, SnapshotMeta
from raftkv.storage.files import FileSystem, disk_errors
from raftkv.storage.format import (
    FORMAT,
    SEGMENT_HEADER_BYTES,
    Head,
    Item,
    ItemKind,
    SegmentHeader,
    decode_items,
    decode_record,
    decode_segment_header,
)

SEGMENT_NAME: Final = re.compile(r"([0-9a-f]{16})\.wal")


def segment_path(directory: Path, sequence: int) -> Path:
    return directory / f"{sequence:016x}.wal"


@dataclass(slots=True)
class Segment:
    """One file of the log."""

    path: Path
    sequence: int
    salt: bytes
    capacity: int
    last_index: int = 0
    """The highest index of an entry in it that may still count; 0: none does."""


@dataclass(slots=True)
class LogState:
    """What the log says so far. `missing_to`: entries up to here were in segments that are gone; a base must cover them."""

    base: SnapshotMeta = field(default_factory=SnapshotMeta)
    hard_state: HardState = field(default_factory=HardState)
    entries: list[Entry] = field(default_factory=list)
    last_index: int = 0
    last_term: int = 0
    missing_to: int = 0

    def begin(self, head: Head) -> None:
        self.last_index, self.last_term, self.missing_to = head.last_index, head.last_term, head.last_index

    def rebase(self, meta: SnapshotMeta) -> None:
        if not self.base.index <= meta.index <= self.last_index:
            raise ValueError(f"base {meta.index} is not in {self.base.index} .. {self.last_index}")
        if self.entries:
            del self.entries[: max(0, meta.index + 1 - self.entries[0].index)]
        self.base = meta

    def reset(self, meta: SnapshotMeta) -> None:
        self.base, self.last_index, self.last_term, self.missing_to = meta, meta.index, meta.term, 0
        self.entries.clear()

    def put(self, entry: Entry) -> None:
        if not self.base.index < entry.index <= self.last_index + 1:
            raise ValueError(f"entry {entry} is not in {self.base.index + 1} .. {self.last_index + 1}")
        if self.entries and entry.index <= self.last_index:
            del self.entries[max(0, entry.index - self.entries[0].index) :]
        self.missing_to = min(self.missing_to, entry.index - 1)
        if self.entries and entry.term < self.entries[-1].term:
            raise ValueError(f"entry {entry} follows {self.entries[-1]}")
        self.entries.append(entry)
        self.last_index, self.last_term = entry.index, entry.term

    def remember(self, state: HardState) -> None:
        old = self.hard_state
        if state.term < old.term or (state.term == old.term and old.vote not in (0, state.vote)):
            raise ValueError(f"{state} follows {old}: a vote or a term was taken back")
        self.hard_state = state


@dataclass(slots=True)
class Replay:
    """A log that was read and believed.

    `tail` is where the last segment's next record belongs. Up to `stale_end` behind it lie intact records of writes that
    were torn in front of them: they must be overwritten before anything new is written.
    """

    state: LogState
    segments: list[Segment]
    tail: int
    stale_end: int
    leftovers: list[Path]


def replay(files: FileSystem, directory: Path) -> Replay | None:
    """Read the whole log. None: the directory holds no segment.

    Raises:
        CorruptionError: stored bytes are not what was written; names the file and the offset.
        DataDirError: a newer version wrote the log.
        StorageError: the disk could not be read.
    """
    with disk_errors(directory):
        names = files.listdir(directory)
    sequences = sorted(int(match[1], 16) for name in names if (match := SEGMENT_NAME.fullmatch(name)))
    if not sequences:
        return None
    # A crash while old segments were dropped may leave some of them: the log is the last unbroken run. Whether it needed
    # what is missing, the bases in it tell.
    first = next(i for i in reversed(range(len(sequences))) if i == 0 or sequences[i - 1] != sequences[i] - 1)
    replayer = _Replayer(files, directory)
    for sequence in sequences[first:]:
        replayer.read_segment(sequence)
    return replayer.finish([segment_path(directory, sequence) for sequence in sequences[:first]])


class _Replayer:
    def __init__(self, files: FileSystem, directory: Path) -> None:
        self.files = files
        self.directory = directory
        self.state = LogState()
        self.segments: list[Segment] = []
        # Of the segment read last: its bytes, where its intact records end.
        self.data = memoryview(b"")
        self.end = 0

    def read_segment(self, sequence: int) -> None:
        path = segment_path(self.directory, sequence)
        data = self._read(path)
        header = self._header(path, data, sequence)
        record = decode_record(data, SEGMENT_HEADER_BYTES, header.salt)
        if record is None:  # It was synced before the segment got its name.
            raise _corrupt(path, SEGMENT_HEADER_BYTES, "the segment's first record is damaged")
        self._enter(path, list(self._items(path, SEGMENT_HEADER_BYTES, record.payload)))
        self.segments.append(Segment(path, sequence, header.salt, header.capacity))
        self.data, self.end = data, record.end
        while (record := decode_record(data, self.end, header.salt)) is not None:
            for kind, value in self._items(path, self.end, record.payload):
                self._apply(path, kind, value)
            self.end = record.end

    def finish(self, leftovers: list[Path]) -> Replay:
        last, state = self.segments[-1], self.state
        stale_end = self.end
        for offset, durable, end in self._later_records(last.salt):
            if durable > self.end:
                raise _corrupt(
                    last.path, self.end, f"a damaged record: the intact one at {offset} was written after it was synced"
                )
            stale_end = end
        if state.missing_to > state.base.index:
            raise _corrupt(
                self.segments[0].path, 0, f"entries {state.base.index + 1} .. {state.missing_to} are missing before it"
            )
        assert not state.entries or state.entries[0].index == state.base.index + 1, "entries do not follow the base"
        return Replay(state, self.segments, self.end, stale_end, leftovers)

    def _later_records(self, salt: bytes) -> list[tuple[int, int, int]]:
        """Intact records somewhere behind the end. Old bytes of a recycled file carry another salt."""
        found = []
        whole = bytes(self.data)
        offset = whole.find(salt, self.end + 1)
        while offset >= 0:
            record = decode_record(self.data, offset, salt)
            if record is not None:
                found.append((offset, record.durable, record.end))
            offset = whole.find(salt, offset + 1 if record is None else record.end)
        return found

    def _read(self, path: Path) -> memoryview:
        with disk_errors(path):
            handle = self.files.open(path)
            try:
                return memoryview(self.files.read(handle, self.files.size(handle), 0))
            finally:
                self.files.close(handle)

    def _header(self, path: Path, data: memoryview, sequence: int) -> SegmentHeader:
        try:
            header = decode_segment_header(bytes(data[:SEGMENT_HEADER_BYTES]))
        except ValueError as error:
            raise _corrupt(path, 0, str(error)) from error
        if header.format > FORMAT:
            raise DataDirError(f"{path} has log format {header.format}; this version of raftkv reads up to {FORMAT}")
        if header.sequence != sequence:
            raise _corrupt(path, 0, f"the header belongs to segment {header.sequence:016x}")
        if len(data) < header.capacity:
            raise _corrupt(path, len(data), f"the file was cut: it had {header.capacity} bytes")
        return header

    def _items(self, path: Path, offset: int, payload: memoryview) -> list[Item]:
        try:
            return list(decode_items(payload))
        except ValueError as error:
            raise _corrupt(path, offset, str(error)) from error

    def _enter(self, path: Path, items: list[Item]) -> None:
        """The first record repeats what the log said when the segment began."""
        match items:
            case [
                (ItemKind.HEAD, Head() as head),
                (ItemKind.BASE, SnapshotMeta() as base),
                (ItemKind.HARD_STATE, HardState() as hard_state),
            ]:
                pass
            case _:
                raise _corrupt(path, SEGMENT_HEADER_BYTES, "the segment's first record is no head")
        state = self.state
        if not self.segments:
            state.begin(head)
            state.base, state.hard_state = base, hard_state
            return
        if head.previous_end != self.end:
            raise _corrupt(
                self.segments[-1].path, self.end, f"a damaged record: the log goes on up to {head.previous_end}"
            )
        said = (state.last_index, state.last_term, state.base, state.hard_state)
        if said != (head.last_index, head.last_term, base, hard_state):
            raise _corrupt(path, SEGMENT_HEADER_BYTES, "the segment does not continue the one before it")

    def _apply(self, path: Path, kind: ItemKind, value: Head | SnapshotMeta | Entry | HardState) -> None:
        state = self.state
        try:
            match kind, value:
                case ItemKind.ENTRY, Entry() as entry:
                    state.put(entry)
                    self.segments[-1].last_index = max(self.segments[-1].last_index, entry.index)
                case ItemKind.HARD_STATE, HardState() as hard_state:
                    state.remember(hard_state)
                case ItemKind.BASE, SnapshotMeta() as meta:
                    state.rebase(meta)
                case ItemKind.RESET, SnapshotMeta() as meta:
                    state.reset(meta)
                    for segment in self.segments:
                        segment.last_index = 0
                case _:
                    raise ValueError(f"a {kind.name} item in the middle of a segment")
        except ValueError as error:
            raise _corrupt(path, self.end, str(error)) from error


def _corrupt(path: Path, offset: int, what: str) -> CorruptionError:
    return CorruptionError(f"{path} at byte {offset}: {what}; nothing was changed")

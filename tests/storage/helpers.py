"""What the storage tests share: short ways to write a save, and the log as a plain list."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from pathlib import Path

from raftkv.raft.ready import Save
from raftkv.raft.types import Entry, EntryKind, HardState, Membership, SavedMark, SnapshotMeta
from raftkv.storage import Recovered, Wal, WalOptions
from tests.storage.faulty_files import FaultyFiles

WAL = Path("/node/wal")
MEMBERSHIP = Membership(voters=frozenset({1, 2, 3}))


def entry(index: int, term: int = 1, data: bytes = b"data") -> Entry:
    return Entry(index, term, EntryKind.COMMANDS, data)


def snapshot(index: int, term: int = 1) -> SnapshotMeta:
    return SnapshotMeta(index, term, MEMBERSHIP)


def save(
    *entries: Entry,
    hard_state: HardState | None = None,
    reset_to: SnapshotMeta | None = None,
    must_sync: bool = True,
    sequence: int = 1,
) -> Save:
    last = entries[-1] if entries else entry(0, 0)
    mark = SavedMark(sequence, last.index, last.term, hard_state)
    return Save(mark, entries, hard_state, reset_to, must_sync)


def salts(seed: int = 0) -> Callable[[], bytes]:
    rng = random.Random(seed)
    return lambda: rng.randbytes(8)


def disk() -> FaultyFiles:
    files = FaultyFiles()
    files.mkdir(WAL)
    return files


def open_wal(
    files: FaultyFiles, *, segment_bytes: int = 1024, spares: int = 1, seed: int | None = None
) -> tuple[Wal, Recovered]:
    options = WalOptions(segment_bytes=segment_bytes, spare_segments_max=spares)
    return Wal.open(WAL, options=options, files=files, new_salt=salts(files.operations if seed is None else seed))


def log_files(files: FaultyFiles) -> list[Path]:
    return [WAL / name for name in files.listdir(WAL) if name.endswith(".wal")]


class Model:
    """What a log means, in the plainest way."""

    def __init__(self) -> None:
        self.base = SnapshotMeta()
        self.hard_state = HardState()
        self.entries: list[Entry] = []

    @property
    def last_index(self) -> int:
        return self.entries[-1].index if self.entries else self.base.index

    @property
    def last_term(self) -> int:
        return self.entries[-1].term if self.entries else self.base.term

    def append(self, saves: Iterable[Save]) -> None:
        for one in saves:
            if one.reset_to is not None:
                self.base, self.entries = one.reset_to, []
            for added in one.entries:
                self.entries = [kept for kept in self.entries if kept.index < added.index] + [added]
            if one.hard_state is not None:
                self.hard_state = one.hard_state

    def compact(self, base: SnapshotMeta) -> None:
        if base.index > self.base.index:
            self.base = base
            self.entries = [kept for kept in self.entries if kept.index > base.index]

    @property
    def state(self) -> Recovered:
        return Recovered(self.hard_state, self.base, list(self.entries))

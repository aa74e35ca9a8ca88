"""Crash at every disk operation: what was promised is there, and nothing that was never saved."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from raftkv.raft.ready import Save
from raftkv.raft.types import HardState
from raftkv.storage import Recovered, Wal
from tests.storage.faulty_files import Crash, FaultyFiles
from tests.storage.helpers import WAL, Model, disk, entry, open_wal, save, snapshot

SEGMENT_BYTES = 512
CRASHES_PER_OPERATION = 6


@dataclass
class Run:
    """One life of a node's log, step by step, beside the model. `states[i]` is the log after step i."""

    files: FaultyFiles
    model: Model = field(default_factory=Model)
    states: list[Recovered] = field(default_factory=lambda: [Model().state])
    promised: int = 0
    wal: Wal | None = None

    def open(self) -> None:
        self.wal, recovered = open_wal(self.files, segment_bytes=SEGMENT_BYTES)
        assert recovered == self.model.state

    def append(self, *saves: Save) -> None:
        assert self.wal is not None
        self.model.append(saves)
        self.states.append(self.model.state)
        self.wal.append(saves)

    def sync(self) -> None:
        assert self.wal is not None
        self.wal.sync()
        self.promised = len(self.states) - 1

    def compact(self, index: int) -> None:
        assert self.wal is not None
        self.model.compact(snapshot(index))
        self.states.append(self.model.state)
        self.wal.compact(snapshot(index))
        self.promised = len(self.states) - 1

    def close(self) -> None:
        assert self.wal is not None
        self.wal.close()
        self.promised = len(self.states) - 1


def steps() -> Iterator[Callable[[Run], None]]:
    """Appends, unsynced appends, replacements, rotations, compactions with recycling, a reset, a restart."""
    yield Run.open
    for i in range(1, 7):
        yield lambda run, i=i: run.append(save(entry(i, data=bytes(70)), hard_state=HardState(1, 1, i - 1)))
        yield Run.sync
    yield lambda run: run.append(save(entry(5, term=2), entry(6, term=2), hard_state=HardState(2, 3, 4)))
    yield lambda run: run.append(save(entry(7, term=2)), save(hard_state=HardState(2, 3, 5), must_sync=False))
    yield Run.sync
    yield lambda run: run.compact(5)
    for i in range(8, 14):
        yield lambda run, i=i: run.append(save(entry(i, term=2, data=bytes(70))))
        if i % 2:
            yield Run.sync
    yield lambda run: run.compact(11)
    yield lambda run: run.append(save(entry(51, term=4), reset_to=snapshot(50, term=4), hard_state=HardState(4, 0, 50)))
    yield Run.sync
    for i in range(52, 57):
        yield lambda run, i=i: run.append(save(entry(i, term=4, data=bytes(70))))
    yield Run.close
    yield Run.open
    for i in range(57, 60):
        yield lambda run, i=i: run.append(save(entry(i, term=5, data=bytes(70)), hard_state=HardState(5, 5, i - 3)))
        yield Run.sync
    yield lambda run: run.compact(58)
    yield Run.close


def live(crash_at: int | None) -> Run:
    run = Run(disk())
    run.files.crash_at = crash_at
    try:
        for step in steps():
            step(run)
    except Crash:
        return run
    assert crash_at is None
    return run


OPERATIONS = live(None).files.operations


def test_the_run_has_everything_in_it() -> None:
    log = live(None).files.log

    assert OPERATIONS > 100
    assert log.count("rename unfinished.tmp") > 2
    assert sum(line.startswith("rename") and line.endswith(".spare") for line in log) > 1
    assert sum(line.startswith("unlink") for line in log) > 1


@pytest.mark.parametrize("crash_at", range(1, OPERATIONS + 1))
def test_a_power_cut_at_any_operation_loses_nothing_promised(crash_at: int) -> None:
    run = live(crash_at)
    for dice in range(CRASHES_PER_OPERATION):
        rng = random.Random(crash_at * 1000 + dice)
        files = run.files.after_crash(rng)
        _, recovered = open_wal(files, segment_bytes=SEGMENT_BYTES, seed=dice)

        assert recovered in run.states[run.promised :]
        check_it_lives_on(files.after_crash(rng), recovered)


def test_a_power_cut_during_the_recovery_from_a_power_cut_loses_nothing_promised() -> None:
    for crash_at in range(1, OPERATIONS + 1):
        run = live(crash_at)
        rng = random.Random(crash_at)
        broken = run.files.after_crash(rng)
        second = 0
        while True:
            second += 1
            files = broken.copy()
            files.crash_at = second
            try:
                open_wal(files, segment_bytes=SEGMENT_BYTES)
            except Crash:
                _, recovered = open_wal(files.after_crash(rng), segment_bytes=SEGMENT_BYTES, seed=second)
                assert recovered in run.states[run.promised :]
                continue
            break


def test_a_killed_process_loses_nothing_it_wrote() -> None:
    """Without a power cut the page cache survives: every append that came back is there, synced or not."""
    for crash_at in range(1, OPERATIONS + 1):
        run = live(crash_at)
        _, recovered = open_wal(run.files.copy(), segment_bytes=SEGMENT_BYTES, seed=crash_at)

        assert recovered in run.states[-2:]


def check_it_lives_on(files: FaultyFiles, recovered: Recovered) -> None:
    """What one start has shown, the next one finds after another power cut, and the log goes on from there."""
    wal, again = open_wal(files, segment_bytes=SEGMENT_BYTES, seed=77)
    assert again == recovered
    model = Model()
    model.base, model.hard_state, model.entries = again.base, again.hard_state, again.entries
    term = max(model.last_term, model.hard_state.term) + 1
    for _ in range(8):
        one = save(entry(model.last_index + 1, term, bytes(70)), hard_state=HardState(term, 2, 0))
        wal.append([one])
        model.append([one])
    wal.sync()
    _, final = open_wal(files.after_crash(random.Random(1)), segment_bytes=SEGMENT_BYTES, seed=78)
    assert final == model.state


def test_a_log_that_acknowledges_before_the_sync_is_caught_here() -> None:
    """The control: a disk whose sync does nothing loses promises, and this suite notices."""

    class LyingFiles(FaultyFiles):
        def sync(self, handle: int) -> None:
            _, path = self.handles[handle]
            self._change("sync", path)

    lost = 0
    for crash_at in range(1, OPERATIONS + 1, 3):
        run = Run(LyingFiles())
        run.files.mkdir(WAL)
        run.files.crash_at = crash_at
        try:
            for step in steps():
                step(run)
        except Crash:
            pass
        for dice in range(4):
            try:
                _, recovered = open_wal(
                    run.files.after_crash(random.Random(dice)), segment_bytes=SEGMENT_BYTES, seed=dice
                )
            except Exception:
                lost += 1
            else:
                lost += recovered not in run.states[run.promised :]
    assert lost > 10

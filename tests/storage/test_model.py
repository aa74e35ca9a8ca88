"""Random lives of a log against a plain list: appends, truncations, resets, compactions, restarts, kills, power cuts."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from raftkv.raft.ready import Save
from raftkv.raft.types import HardState
from raftkv.storage import Wal
from tests.storage.helpers import Model, disk, entry, open_wal, save, snapshot

STEPS = ("append", "append", "append", "replace", "vote", "reset", "sync", "compact", "restart", "kill", "power cut")

lives = st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 2**32)), max_size=60)


class Life:
    def __init__(self, segment_bytes: int, spares: int) -> None:
        self.files = disk()
        self.sizes = {"segment_bytes": segment_bytes, "spares": spares}
        self.opened = 0
        self.model = Model()
        self.states = [self.model.state]  # The ones a power cut may leave; the first was promised.
        self.wal = self.open()

    def open(self) -> Wal:
        self.opened += 1
        wal, recovered = open_wal(self.files, **self.sizes, seed=self.opened)
        assert recovered in self.states
        self.model.base, self.model.hard_state = recovered.base, recovered.hard_state
        self.model.entries = list(recovered.entries)
        self.promise()
        return wal

    def promise(self) -> None:
        self.states = [self.model.state]

    def step(self, name: str, rng: random.Random) -> None:
        model = self.model
        term = max(model.last_term, model.hard_state.term)
        if name == "append":
            self.save(rng, first=model.last_index + 1, term=max(1, term))
        elif name == "replace":
            self.save(rng, first=rng.randint(model.base.index + 1, model.last_index + 1), term=term + 1)
        elif name == "vote":
            self.append(save(hard_state=HardState(term + 1, rng.randint(0, 3), rng.randint(0, 9))))
        elif name == "reset":
            meta = snapshot(model.last_index + rng.randint(1, 50), term=max(1, term))
            self.append(save(entry(meta.index + 1, meta.term), reset_to=meta))
        elif name == "sync":
            self.wal.sync()
            self.promise()
        elif name == "compact" and model.entries:
            base = rng.choice(model.entries)
            model.compact(snapshot(base.index, base.term))
            self.wal.compact(snapshot(base.index, base.term))
            self.promise()
        elif name == "restart":
            self.wal.close()
            self.promise()
            self.wal = self.open()
        elif name == "kill":
            self.promise()
            self.wal = self.open()
        elif name == "power cut":
            self.files = self.files.after_crash(rng)
            self.wal = self.open()

    def save(self, rng: random.Random, *, first: int, term: int) -> None:
        entries = [entry(first + i, term, rng.randbytes(rng.randint(0, 90))) for i in range(rng.randint(1, 4))]
        hard_state = HardState(term, self.model.hard_state.vote if term == self.model.hard_state.term else 0, first - 1)
        self.append(save(*entries, hard_state=rng.choice((None, hard_state))))

    def append(self, one: Save) -> None:
        self.model.append([one])
        self.states.append(self.model.state)
        self.wal.append([one])
        assert (self.wal.last_index, self.wal.last_term) == (self.model.last_index, self.model.last_term)


@settings(max_examples=250, deadline=None, database=None)
@given(lives, st.sampled_from((512, 700, 4096)), st.integers(0, 2))
def test_a_log_is_a_list(steps: list[tuple[str, int]], segment_bytes: int, spares: int) -> None:
    life = Life(segment_bytes, spares)
    for name, seed in steps:
        life.step(name, random.Random(seed))
    life.step("restart", random.Random(0))


def test_long_lives_keep_the_disk_bounded() -> None:
    for seed in range(3):
        rng = random.Random(seed)
        life = Life(1024, 1)
        for _ in range(600):
            life.step(rng.choice(STEPS), rng)
            life.step("compact", rng)
        life.step("append", rng)
        kept = sum(e.size + 64 for e in life.model.entries)
        assert life.wal.bytes_on_disk <= 5 * 1024 + 2 * kept

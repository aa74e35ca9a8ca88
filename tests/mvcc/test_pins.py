"""A pin keeps its revision from the physical removal, until it is let go: on whichever thread, and at whatever moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from raftkv.mvcc.store import Store
from tests.mvcc.test_compaction import compact, put


@pytest.fixture
def compacted(tmp_path: Path) -> Iterator[Store]:
    """A store at revision 6, compacted to 5 and not cleaned up yet."""
    store = Store(tmp_path, map_bytes=1 << 20)
    for _ in range(5):
        put(store, b"key")
    compact(store, 5)
    yield store
    store.close()


def test_the_oldest_pin_says_how_far_the_removal_may_go(compacted: Store) -> None:
    with compacted.pinned(4):
        with compacted.pinned(3), compacted.pinned(3):
            assert compacted.removable_revision == 3
        assert compacted.removable_revision == 4
    assert compacted.removable_revision == 5


class Interrupted(int):
    """A revision, at whose second look-up another thread gets its turn: when something was read, and is to be written back."""

    looks = 0
    turn: Callable[[], object]

    def __hash__(self) -> int:
        self.looks += 1
        if self.looks == 2:
            self.turn()
        return hash(int(self))


def test_a_pin_let_go_while_another_is_set_is_gone(compacted: Store) -> None:
    """An answer that nobody waits for any more is dropped by the loop, while the state machine's thread reads the next."""
    dropped = ExitStack()
    dropped.enter_context(compacted.pinned(3))
    revision = Interrupted(3)
    revision.turn = dropped.close

    with compacted.pinned(revision):
        dropped.close()
        assert compacted.removable_revision == 3

    assert compacted.removable_revision == 5

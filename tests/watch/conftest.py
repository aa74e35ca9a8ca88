"""A store, and a hub on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from raftkv.mvcc.store import Store
from tests.watch.support import Driver


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path, map_bytes=16 << 20)
    yield store
    store.close()


@pytest.fixture
def driver(store: Store) -> Driver:
    return Driver(store)

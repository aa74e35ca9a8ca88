"""LMDB's rules: readers, growth, other processes that die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from raftkv.errors import CorruptionError
from raftkv.mvcc.environment import Environment
from raftkv.mvcc.store import Store


def test_growing_waits_for_readers(tmp_path: Path) -> None:
    environment = Environment(tmp_path, map_bytes=1 << 20)
    reader = environment.reader()
    grown = threading.Event()

    def grow() -> None:
        environment.grow()
        grown.set()

    thread = threading.Thread(target=grow)
    thread.start()
    assert not environment.grow_if_half_full()
    assert not grown.wait(0.05)
    reader.close()
    thread.join()

    assert environment.map_bytes == 2 << 20
    environment.close()


def test_a_map_is_at_least_twice_the_file(tmp_path: Path) -> None:
    store = Store(tmp_path, map_bytes=1 << 26)
    store.put_meta(b"big", b"x" * (5 << 20))
    store.commit()
    store.close()

    store = Store(tmp_path, map_bytes=1 << 20)

    assert store.environment.map_bytes >= 10 << 20
    assert store.meta(b"big") == b"x" * (5 << 20)
    store.close()


def test_a_reader_closed_twice_is_closed_once(tmp_path: Path) -> None:
    environment = Environment(tmp_path, map_bytes=1 << 20)
    first, second = environment.reader(), environment.reader()

    first.close()
    first.close()

    assert not environment.grow_if_half_full()
    second.close()
    environment.close()


CHILD = """
import lmdb, sys, time
environment = lmdb.open(sys.argv[1], map_size=1 << 20, max_dbs=8)
transaction = environment.begin()
print("reading", flush=True)
time.sleep(60)
"""


def test_the_slot_of_a_killed_reader_is_cleared_by_the_next_commit(tmp_path: Path) -> None:
    """A stale slot would keep every page freed since, for ever."""
    store = Store(tmp_path, map_bytes=1 << 20)
    store.put_meta(b"a", b"1")
    store.commit()
    with subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"reading\n"
        child.send_signal(signal.SIGKILL)

    store.put_meta(b"a", b"2")
    store.commit()

    assert store.environment.clear_stale_readers() == 0
    store.close()


WRITER = """
import os, sys
from pathlib import Path
from raftkv.mvcc import commands
from raftkv.mvcc.store import Store
from raftkv.pb import rpc_pb2 as rpc

store = Store(Path(sys.argv[1]), map_bytes=1 << 24)
while True:
    commands.put(store, rpc.PutRequest(key=b"k%d" % (store.revision % 50), value=b"v" * 500), wanted=False)
    if store.revision % 20 == 0:
        store.put_meta(b"applied", b"%d" % store.revision)
        store.commit()
        os.write(1, b"%d\\n" % store.revision)
"""


def test_a_killed_writer_leaves_a_whole_commit(tmp_path: Path) -> None:
    """kill -9, again and again: data and records are of one commit, and none that was reported is lost."""
    reported = 0
    for _ in range(4):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            for line in (child.stdout.readline() for _ in range(15)):
                reported = int(line)
            child.send_signal(signal.SIGKILL)
        store = Store(tmp_path, map_bytes=1 << 24)
        assert store.revision >= reported
        assert store.meta(b"applied") == b"%d" % store.revision
        assert store.txn.stat(store.environment.revisions)["entries"] == store.revision - 1
        assert store.latest(b"k%d" % ((store.revision - 1) % 50)) is not None
        store.close()


def test_a_file_shorter_than_its_header_says_is_never_mapped(tmp_path: Path) -> None:
    store = Store(tmp_path, map_bytes=1 << 24)
    store.put_meta(b"big", b"x" * (1 << 20))
    store.commit()
    store.close()
    os.truncate(tmp_path / "data.mdb", 5 * 4096)

    with pytest.raises(CorruptionError, match="torn"):
        Store(tmp_path, map_bytes=1 << 24)

"""Watches of the client: against etcd and against raftkv, through failures, forks and slow readers."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import raftkv
from raftkv.lab.cluster import LocalCluster
from tests.client.watch_failovers import follow_through_kills
from tests.server.process import Servers, servers_in

KILLS = 3
"""`python -m tests.client.watch_failovers --kills 100` for more."""


def test_one_batch_a_revision_in_order(endpoint: str) -> None:
    with raftkv.connect(endpoint) as kv, kv.watch(prefix="order/", previous=True) as events:
        first = kv.put("order/a", "1").revision
        kv.txn().then(kv.op.put("order/a", "2"), kv.op.put("order/b", "3"), kv.op.put("elsewhere", "")).commit()
        kv.delete(prefix="order/")
        batches = [events.next(timeout=10) for _ in range(3)]

    seen = [(batch.revision - first, [(e.kind, e.key, e.value) for e in batch]) for batch in batches]
    assert seen == [
        (0, [("put", b"order/a", b"1")]),
        (1, [("put", b"order/a", b"2"), ("put", b"order/b", b"3")]),
        (2, [("delete", b"order/a", b""), ("delete", b"order/b", b"")]),
    ]
    before = [event.previous and event.previous.value for batch in batches for event in batch]
    assert before == [None, b"1", None, b"2", b"3"]


async def test_the_async_face_iterates_from_an_old_revision(endpoint: str) -> None:
    async with raftkv.aio.connect(endpoint) as kv:
        first = (await kv.put("old/a", "1")).revision
        await kv.delete("old/a")
        await kv.put("old/a", "2")
        seen = []
        async with kv.watch("old/a", revision=first, only="put") as events:
            async for batch in events:
                seen += [event.value for event in batch]
                if len(seen) == 2:
                    break

    assert seen == [b"1", b"2"]


def test_a_compacted_start_names_the_revision_that_is_left(endpoint: str) -> None:
    with raftkv.connect(endpoint) as kv:
        kv.put("compacted", "1")
        revision = kv.put("compacted", "2").revision
        kv.compact(revision)
        with kv.watch("compacted", revision=revision - 1) as events:
            with pytest.raises(raftkv.Compacted) as raised:
                events.next(timeout=10)
            assert raised.value.compact_revision == revision
            with pytest.raises(raftkv.Compacted):
                events.next(timeout=10)


def test_progress_is_told_where_it_is_asked_for(endpoint: str) -> None:
    with raftkv.connect(endpoint) as kv, kv.watch("quiet", progress=True) as events:
        revision = kv.put("noise", "").revision
        events.request_progress()
        batch = events.next(timeout=10)

    assert (len(batch), batch.revision >= revision) == (0, True)


def test_a_wait_given_up_loses_nothing(endpoint: str) -> None:
    with raftkv.connect(endpoint) as kv, kv.watch("patience") as events:
        with pytest.raises(raftkv.DeadlineExceeded):
            events.next(timeout=0.05)
        kv.put("patience", "1")
        assert events.next(timeout=10).events[0].value == b"1"


def test_a_watch_closed_by_another_thread_ends_its_iteration(endpoint: str) -> None:
    with raftkv.connect(endpoint) as kv, kv.watch("closing") as events:
        kv.put("closing", "1")
        closer = threading.Timer(0.2, events.close)
        closer.start()
        assert [len(batch) for batch in events] == [1]
        closer.join()
        with pytest.raises(raftkv.Cancelled):
            events.next()


async def test_a_closed_client_ends_its_watches(endpoint: str) -> None:
    kv = raftkv.aio.connect(endpoint)
    events = kv.watch("closing")
    await events.start()
    waiting = asyncio.create_task(events.next())
    await kv.close()
    with pytest.raises(raftkv.Cancelled):
        await waiting


def test_without_a_server_the_deadline_ends_the_attempt() -> None:
    with (
        raftkv.connect("127.0.0.1:1", timeout=0.3) as kv,
        pytest.raises(raftkv.DeadlineExceeded, match="cannot connect"),
    ):
        kv.watch("a").next()


FORKING = """
import os, sys, raftkv
with raftkv.connect(sys.argv[1]) as kv, kv.watch("forked") as events:
    kv.put("forked", "before")
    child = os.fork()
    if child:
        kv.put("forked", "after")
    values = [events.next(timeout=20).events[0].value for _ in range(2)]
    assert values == [b"before", b"after"], values
    if not child:
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


def test_a_watch_goes_on_in_parent_and_child_after_a_fork(node: str) -> None:
    """In a process of its own: gRPC objects of other tests would not survive the fork."""
    done = subprocess.run(
        [sys.executable, "-c", FORKING, node], timeout=60, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


async def test_a_slow_reader_gets_everything_and_holds_up_nobody(node: str) -> None:
    async with raftkv.aio.connect(node) as kv, kv.watch(prefix="slow/") as slow:
        await asyncio.gather(*(kv.put(f"slow/{number}", bytes(1000)) for number in range(15_000)))
        keys = set()
        while len(keys) < 15_000:
            keys |= {event.key for event in await slow.next(timeout=20)}


def test_a_restarted_server_is_found_again(tmp_path: Path) -> None:
    with servers_in(tmp_path) as servers:
        ports = servers.ports(1)
        flags = ("--listen-client-urls", f"http://127.0.0.1:{ports[0]}")
        server = servers.start(*flags).ready()
        with raftkv.connect(server.endpoint) as kv, kv.watch(prefix="r/") as events:
            kv.put("r/1", "")
            server.stop()
            server = Servers.start(servers, *flags).ready()
            kv.put("r/2", "", timeout=20)
            assert [events.next(timeout=20).events[0].key for _ in range(2)] == [b"r/1", b"r/2"]


def test_a_watch_leaves_a_server_that_owes_answers_to_calls() -> None:
    """gRPC would find out after 8 s; the server hangs for as long as anybody waits."""
    with LocalCluster.temporary(nodes=3, proxy=False) as cluster:
        hung = cluster.up()
        endpoints = [cluster.endpoints[name] for name in sorted(cluster.names, key=lambda name: name != hung)]
        with raftkv.connect(endpoints, timeout=20) as kv, kv.watch("k") as events:
            kv.put("k", "before")
            assert events.next(timeout=20).events[0].value == b"before"
            cluster.pause(hung)
            kv.put("k", "after")
            acknowledged = time.monotonic()
            assert events.next(timeout=20).events[0].value == b"after"
            assert time.monotonic() - acknowledged < 5.0
            cluster.resume(hung)


def test_nothing_is_lost_doubled_or_reordered_through_leader_kills() -> None:
    with LocalCluster.temporary(nodes=3, proxy=False) as cluster:
        cluster.start()
        told = follow_through_kills(cluster, kills=KILLS)
    assert told.kills == KILLS
    assert told.batches > 100

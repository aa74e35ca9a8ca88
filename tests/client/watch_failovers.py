"""Watches through leader kills: `python -m tests.client.watch_failovers --kills 100`.

Writers put through the client while the leader is killed again and again. Two kinds of watchers follow: the client's, which
goes on by itself, and a plain etcd client, which goes on by hand from the last revision it has seen. In the end both must
have been told exactly what the store's history holds.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import threading
from dataclasses import dataclass, field
from itertools import cycle

import grpc

import raftkv
from raftkv.lab.cluster import LocalCluster
from raftkv.pb import rpc_pb2

PREFIX = "followed/"
BETWEEN_KILLS = 40
"""Puts that must be acknowledged between two kills."""
WAIT_S = 60.0


@dataclass
class Told:
    """What a watcher was told: (revision, keys) in order."""

    kills: int = 0
    revisions: list[tuple[int, tuple[bytes, ...]]] = field(default_factory=list)

    @property
    def batches(self) -> int:
        return len(self.revisions)


class PlainFollower:
    """A watch over bare gRPC that resumes by hand, as a simple etcd client does."""

    def __init__(self, endpoints: list[str], start: int) -> None:
        self.told = Told()
        self._endpoints = cycle(endpoints)
        self._next_revision = start
        self._until = 0
        self._call: grpc.Call | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def finish(self, revision: int) -> None:
        """Go on up to this revision and end."""
        self._until = revision
        if self._next_revision > revision and self._call is not None:
            self._call.cancel()
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive(), f"still waiting for {self._next_revision} of {revision}"

    def _run(self) -> None:
        while not self._until or self._next_revision <= self._until:
            with grpc.insecure_channel(next(self._endpoints)) as channel, contextlib.suppress(grpc.RpcError):
                self._follow(channel)

    def _follow(self, channel: grpc.Channel) -> None:
        method = channel.stream_stream(
            "/etcdserverpb.Watch/Watch", rpc_pb2.WatchRequest.SerializeToString, rpc_pb2.WatchResponse.FromString
        )
        create = rpc_pb2.WatchCreateRequest(
            key=PREFIX.encode(), range_end=PREFIX[:-1].encode() + b"0", start_revision=self._next_revision
        )
        self._call = method(iter([rpc_pb2.WatchRequest(create_request=create)]), metadata=(("hasleader", "true"),))
        for response in self._call:
            assert not response.canceled, response
            for event in response.events:
                self._take(event.kv.mod_revision, event.kv.key)
            if self._until and self._next_revision > self._until:
                self._call.cancel()

    def _take(self, revision: int, key: bytes) -> None:
        told = self.told.revisions
        if told and told[-1][0] == revision:
            told[-1] = (revision, (*told[-1][1], key))
        else:
            told.append((revision, (key,)))
        self._next_revision = revision + 1


class Writers:
    """Put without a pause, each key once, some two in a revision; a write of unknown outcome is left as it is."""

    def __init__(self, kv: raftkv.Client, count: int) -> None:
        self._kv = kv
        self._stopping = threading.Event()
        self._acknowledged = threading.Semaphore(0)
        self._threads = [threading.Thread(target=self._run, args=(number,), daemon=True) for number in range(count)]
        for thread in self._threads:
            thread.start()

    def wait_for(self, puts: int) -> None:
        for _ in range(puts):
            assert self._acknowledged.acquire(timeout=WAIT_S), "no put was acknowledged"

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(WAIT_S)

    def _run(self, number: int) -> None:
        at = 0
        kv = self._kv
        while not self._stopping.is_set():
            at += 1
            with contextlib.suppress(raftkv.Unavailable, raftkv.DeadlineExceeded):
                one, two = f"{PREFIX}{number}/{at}", f"{PREFIX}{number}/{at}/twin"
                if at % 5:
                    kv.put(one, "", timeout=WAIT_S)
                else:
                    kv.txn().then(kv.op.put(one, ""), kv.op.put(two, "")).commit(timeout=WAIT_S)
                self._acknowledged.release()


def follow_through_kills(cluster: LocalCluster, *, kills: int, writers: int = 4) -> Told:
    """Kill the leader so often, and assert that every watcher was told the history, no more and no less."""
    cluster.wait_for_leader()
    endpoints = list(cluster.endpoints.values())
    with raftkv.connect(endpoints) as kv, raftkv.connect(endpoints) as watching:
        start = kv.put("start", "").revision + 1
        plain = [PlainFollower(endpoints[at:] + endpoints[:at], start) for at in range(3)]
        told = Told()
        with watching.watch(prefix=PREFIX) as events:
            load = Writers(kv, writers)
            for _ in range(kills):
                load.wait_for(BETWEEN_KILLS)
                leader = cluster.wait_for_leader()
                cluster.kill(leader)
                told.kills += 1
                load.wait_for(BETWEEN_KILLS)
                cluster.restart(leader)
            load.stop()
            last = kv.put(f"{PREFIX}last", "", timeout=WAIT_S).revision
            while not told.revisions or told.revisions[-1][0] < last:
                batch = events.next(timeout=WAIT_S)
                told.revisions.append((batch.revision, tuple(event.key for event in batch)))
        for follower in plain:
            follower.finish(last)
        history = _history(kv, last)
    assert told.revisions == history, _difference(told.revisions, history)
    for follower in plain:
        assert follower.told.revisions == history, _difference(follower.told.revisions, history)
    return told


def _history(kv: raftkv.Client, last: int) -> list[tuple[int, tuple[bytes, ...]]]:
    """Every key was put once: what is there now, in the order of its revisions, is the history."""
    by_revision: dict[int, list[bytes]] = {}
    for item in kv.range(prefix=PREFIX, timeout=WAIT_S):
        by_revision.setdefault(item.mod_revision, []).append(item.key)
    return [(revision, tuple(sorted(keys))) for revision, keys in sorted(by_revision.items()) if revision <= last]


def _difference(told: list[tuple[int, tuple[bytes, ...]]], history: list[tuple[int, tuple[bytes, ...]]]) -> str:
    lost, extra = set(history) - set(told), set(told) - set(history)
    return f"lost {sorted(lost)[:5]}, too much {sorted(extra)[:5]}, {len(told)} of {len(history)} batches"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    arguments = parser.parse_args()
    with LocalCluster.temporary(nodes=3, proxy=False) as cluster:
        cluster.start()
        told = follow_through_kills(cluster, kills=arguments.kills)
    sys.stdout.write(
        f"{told.kills} leaders killed, {told.batches} revisions: 4 watchers were told each once and in order\n"
    )


if __name__ == "__main__":
    main()

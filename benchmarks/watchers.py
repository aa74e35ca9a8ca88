"""Watchers by plain gRPC, and a writer at a rate: what the watch benchmark puts on one node.

What may not live here: clusters, figures, printing.
"""

from __future__ import annotations

import asyncio
import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import grpc
import uvloop

from benchmarks.load import VALUE_BYTES, Load, Run
from benchmarks.stores import OwnStore, key_of
from raftkv.pb import rpc_pb2

WAIT_S = 30.0
_WRITERS = 128
_COMPACT_EVERY_S = 10.0
_REPORT_S = 0.5


class Watchers:
    """Any number of watches, each of a key of its own, on one stream to one node.

    With ``count_only`` what arrives is not kept: that would be the memory of this process.
    """

    def __init__(self, channel: grpc.Channel, count: int, *, count_only: bool = False) -> None:
        self._count_only = count_only
        self.arrivals: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
        self.count = 0
        self._requests: queue.SimpleQueue[rpc_pb2.WatchRequest | None] = queue.SimpleQueue()
        method = channel.stream_stream(
            "/etcdserverpb.Watch/Watch", rpc_pb2.WatchRequest.SerializeToString, rpc_pb2.WatchResponse.FromString
        )
        for number in range(count):
            create = rpc_pb2.WatchCreateRequest(key=key_of(number))
            self._requests.put(rpc_pb2.WatchRequest(create_request=create))
        self._responses = method(iter(self._requests.get, None))
        for _ in range(count):
            assert next(self._responses).created, "a watch was refused"
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._requests.put(None)
        self._responses.cancel()
        self._reader.join(WAIT_S)

    def wait_for(self, count: int) -> None:
        """Until so many events have arrived; in vain after a while."""
        end = time.monotonic() + WAIT_S
        while self.count < count and time.monotonic() < end:
            time.sleep(0.05)

    def _read(self) -> None:
        try:
            for response in self._responses:
                now = time.perf_counter()
                self.count += len(response.events)
                if not self._count_only:
                    for event in response.events:
                        self.arrivals.put((now, event.kv.key))
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.CANCELLED:  # type: ignore[attr-defined]
                raise


class Writing:
    """Puts in a process of their own, so that they do not take the interpreter from the watchers."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._reader = threading.Thread(target=self._read, daemon=True)
        self.acknowledged = 0
        self._reader.start()

    def stop(self) -> int:
        """End it; how many puts were acknowledged."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()
        self._reader.join(WAIT_S)
        if self._process.wait(WAIT_S) != 0:
            raise RuntimeError(f"the writer ended with status {self._process.returncode}")
        return self.acknowledged

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self.acknowledged = json.loads(line)


@contextmanager
def puts_at_rate(endpoint: str, watchers: int, rate: float) -> Iterator[Writing]:
    """Put the watched keys at a rate by raftkv's client, while this lasts; history is compacted every few seconds."""
    command = [sys.executable, "-m", "benchmarks.watchers", endpoint, str(watchers), str(rate)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Writing(process)
        finally:
            process.kill()


def put_request(number: int) -> rpc_pb2.PutRequest:
    return rpc_pb2.PutRequest(key=key_of(number), value=bytes(VALUE_BYTES))


def put_method(channel: grpc.Channel) -> Any:
    return channel.unary_unary(
        "/etcdserverpb.KV/Put", rpc_pb2.PutRequest.SerializeToString, rpc_pb2.PutResponse.FromString
    )


async def _write(endpoint: str, watchers: int, rate: float) -> None:
    """What the writer's process does until its standard input is closed."""
    loop = asyncio.get_running_loop()
    stopped = loop.create_future()

    def stop() -> None:
        loop.remove_reader(sys.stdin)
        stopped.set_result(None)

    loop.add_reader(sys.stdin, stop)  # Nothing is written to it: it can be read when it is closed.
    store = OwnStore([endpoint])
    try:
        async with Run([store], Load(callers=_WRITERS, keys=watchers, rate=rate)) as run:
            compacted_at = time.monotonic()
            while not stopped.done():
                await run.lap(_REPORT_S)
                print(run.writes, flush=True)
                if time.monotonic() - compacted_at > _COMPACT_EVERY_S:
                    await store.compact()
                    compacted_at = time.monotonic()
    finally:
        await store.close()
    if run.failures:
        raise SystemExit(f"{run.failures} puts failed")
    print(run.writes, flush=True)


if __name__ == "__main__":
    uvloop.run(_write(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))

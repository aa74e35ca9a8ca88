"""From a put to its event, on three nodes of this machine, beside etcd in the same run.

    python -m benchmarks.watch [--watchers 1,1000] [--puts 500] [--skip-etcd]

One caller puts, one after the other; the watchers have single keys of their own, and the put goes to each in turn. Measured is
from before the put to the arrival of its event at a plain gRPC client (not ours, so that both systems have the same), and the
put's own answer for comparison. Writer, watchers and three nodes share this machine: compare within one run only.
"""

from __future__ import annotations

import queue
import shutil
import statistics
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

import click
import grpc

from benchmarks import measure
from raftkv.lab.cluster import SERVE, LocalCluster
from raftkv.pb import rpc_pb2

WARM_UP_PUTS = 50
WAIT_S = 30.0


class Watchers:
    """Any number of watches on one stream to one node."""

    def __init__(self, channel: grpc.Channel, count: int) -> None:
        self.arrivals: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
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

    def _read(self) -> None:
        try:
            for response in self._responses:
                now = time.perf_counter()
                for event in response.events:
                    self.arrivals.put((now, event.kv.key))
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.CANCELLED:  # type: ignore[attr-defined]
                raise

    def close(self) -> None:
        self._requests.put(None)
        self._responses.cancel()
        self._reader.join(WAIT_S)


def key_of(number: int) -> bytes:
    return b"watched/%07d" % number


def one_run(endpoint: str, watchers: int, puts: int) -> dict[str, Any]:
    """The latencies of puts, and of their events, at one node."""
    with grpc.insecure_channel(endpoint) as writing, grpc.insecure_channel(endpoint) as watching:
        put = writing.unary_unary(
            "/etcdserverpb.KV/Put", rpc_pb2.PutRequest.SerializeToString, rpc_pb2.PutResponse.FromString
        )
        group = Watchers(watching, watchers)
        answered, arrived = [], []
        for number in range(WARM_UP_PUTS + puts):
            request = rpc_pb2.PutRequest(key=key_of(number % watchers), value=bytes(256))
            started = time.perf_counter()
            put(request, timeout=WAIT_S)
            answered.append(time.perf_counter() - started)
            at, key = group.arrivals.get(timeout=WAIT_S)
            assert key == request.key, f"{key!r} arrived instead of {request.key!r}"
            arrived.append(at - started)
        group.close()
    return {"watchers": watchers} | summary("event", arrived[WARM_UP_PUTS:]) | summary("put", answered[WARM_UP_PUTS:])


def summary(name: str, seconds: Sequence[float]) -> dict[str, float]:
    in_order = sorted(seconds)
    return {
        f"{name}_p50_ms": round(statistics.median(in_order) * 1000, 2),
        f"{name}_p99_ms": round(in_order[int(len(in_order) * 0.99)] * 1000, 2),
    }


def measure_system(name: str, command: Sequence[str], counts: Sequence[int], puts: int) -> list[dict[str, Any]]:
    runs = []
    with LocalCluster.temporary(command=command, proxy=False, parent=measure.scratch_directory()) as cluster:
        cluster.start()
        for watchers in counts:
            endpoint = measure.endpoints_leader_first(cluster)[0]
            runs.append(one_run(endpoint, watchers, puts))
            print(f"{name}: {runs[-1]}", file=sys.stderr, flush=True)
    return runs


@click.command()
@click.option("--watchers", default="1,1000", help="Numbers of watchers.")
@click.option("--puts", default=500, help="Puts measured in each run.")
@click.option("--skip-etcd", is_flag=True)
def main(watchers: str, puts: int, skip_etcd: bool) -> None:
    counts = [int(word) for word in watchers.split(",")]
    result: dict[str, Any] = {"machine": measure.machine()}
    result["raftkv"] = measure_system("raftkv", SERVE, counts, puts)
    if not skip_etcd and shutil.which("etcd"):
        result["etcd"] = measure_system("etcd", ["etcd"], counts, puts)
        for ours, theirs in zip(result["raftkv"], result["etcd"], strict=True):
            ratio = ours["event_p50_ms"] / theirs["event_p50_ms"]
            print(f"{ours['watchers']} watchers: raftkv / etcd put-to-event p50 {ratio:.2f}")
    print(f"kept in {measure.keep('watch', result)}")


if __name__ == "__main__":
    main()

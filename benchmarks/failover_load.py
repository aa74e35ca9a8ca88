"""The load beside the failover benchmark's writer, in a process of its own: the same plain etcd client, many callers.

    python -m benchmarks.failover_load RATE ENDPOINT …

RATE is puts a second, all callers together; 0: as many as they can. It goes on until its standard input is closed, and then prints
one JSON object: how many puts were acknowledged, how many failed, in how many seconds.

What may not live here: anything that is measured of the outage.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import grpc
import uvloop

from benchmarks.failover_client import EtcdClient

CALLERS = 64
CLIENTS = 4
KEYS = 1_000
VALUE = b"v" * 256
PUT_DEADLINE_S = 1.0
PAUSE_AFTER_FAILURE_S = 0.005


class BackgroundLoad:
    """Runs this module as a process, while it lasts."""

    def __init__(self, endpoints: Sequence[str], rate: float) -> None:
        command = [sys.executable, "-m", "benchmarks.failover_load", str(rate), *endpoints]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def stop(self) -> dict[str, Any]:
        """End it; what it did."""
        out, _ = self._process.communicate()
        found: dict[str, Any] = json.loads(out)
        return found


def full_rate(endpoints: Sequence[str], *, seconds: float = 5.0) -> float:
    """How many puts a second this load gets at most."""
    load = BackgroundLoad(endpoints, 0)
    time.sleep(seconds)
    found = load.stop()
    return float(found["acknowledged"]) / float(found["seconds"])


async def _main(rate: float, endpoints: Sequence[str]) -> None:
    clients = [EtcdClient(endpoints) for _ in range(CLIENTS)]
    for client in clients:
        await client.connect()
    counts = {"acknowledged": 0, "failed": 0}
    began = next_at = time.monotonic()

    async def call(client: EtcdClient) -> None:
        nonlocal next_at
        while True:
            if rate:
                now = time.monotonic()
                next_at = max(next_at + 1 / rate, now - 0.1)  # What an outage held up is not made up for.
                if next_at > now:
                    await asyncio.sleep(next_at - now)
            try:
                await client.put(b"failover-load/%04d" % random.randrange(KEYS), VALUE, timeout_s=PUT_DEADLINE_S)
            except grpc.aio.AioRpcError:
                counts["failed"] += 1
                await asyncio.sleep(PAUSE_AFTER_FAILURE_S)
            else:
                counts["acknowledged"] += 1

    work = [asyncio.create_task(call(clients[number % CLIENTS])) for number in range(CALLERS)]
    await asyncio.to_thread(sys.stdin.read)
    seconds = time.monotonic() - began
    for task in work:
        task.cancel()
    await asyncio.gather(*work, return_exceptions=True)
    for client in clients:
        await client.close()
    print(json.dumps(counts | {"seconds": seconds}))


if __name__ == "__main__":
    uvloop.run(_main(float(sys.argv[1]), sys.argv[2:]))

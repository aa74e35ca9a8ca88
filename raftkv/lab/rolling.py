"""A rolling restart: every node of a local cluster stopped with SIGTERM and started again, one by one, while clients go on.

Followers first, the leader last, so that leadership moves once. The next node is stopped when the last one is back, follows the
leader, and has applied what the others had when it came back. The clients are those of the drill, with the default deadline of
raftkv's client: not one of their requests may fail.

What may not live here: printing.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from raftkv import aio
from raftkv.client.synchronous import DEFAULT_TIMEOUT_S
from raftkv.lab import probe
from raftkv.lab.cluster import LocalCluster
from raftkv.lab.drill import measuring
from raftkv.lab.drill.canary import Canary
from raftkv.lab.drill.load import BackgroundLoad
from raftkv.lab.drill.lock import DrillLock
from raftkv.lab.drill.options import DrillError
from raftkv.lab.drill.run import CHECK_LIMITS, finish, in_thread, sweep
from raftkv.lab.drill.target import Target, discover, require_healthy, wait_until_healthy
from raftkv.lab.errors import LabError
from raftkv.lab.linearizability import check
from raftkv.lab.process import wait_until

PREFIX = "rolling-restart/"
WARM_OPERATIONS = 50
WARM_DEADLINE_S = 15.0
BACK_DEADLINE_S = 60.0


@dataclass(kw_only=True)
class Rolling:
    """What a rolling restart has shown.

    Attributes:
        nodes: in their order, each with the seconds from its SIGTERM until it was back and caught up.
        requests: of the recording clients.
        load_requests: of the load beside them.
        failed: requests that failed, by kind; nothing may be here.
        write_outage_s, read_outage_s: the longest time without a success.
        lost: acknowledged writes that are not there.
        linearizable: the judge's word.
    """

    nodes: dict[str, float] = field(default_factory=dict)
    requests: int = 0
    load_requests: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    write_outage_s: float = 0.0
    read_outage_s: float = 0.0
    lost: list[str] = field(default_factory=list)
    linearizable: str = ""

    @property
    def ok(self) -> bool:
        return not self.failed and not self.lost and self.linearizable == "linearizable"


async def rolling_restart(cluster: LocalCluster, *, load: float, tell: Callable[[str], None]) -> Rolling:
    """Restart every node.

    Args:
        cluster: three nodes or more, healthy.
        load: writes a second beside the recording clients; 0: none.
        tell: told what is done.

    Raises:
        LabError: the cluster is not healthy, is too small, is being drilled, or a node does not come back.
        RequestError: it does not answer.
    """
    target = await in_thread(discover, list(cluster.endpoints.values()))
    leader = await in_thread(require_healthy, target)
    endpoints = list(target.endpoints.values())
    async with aio.connect(endpoints) as client:
        if there := await client.count(prefix=PREFIX):
            raise DrillError(f"there are {there} keys under the prefix {PREFIX!r}: remove them first")
        lock = DrillLock(client)
        await lock.take()
        canary = Canary(endpoints, f"{PREFIX}canary/", timeout_s=DEFAULT_TIMEOUT_S)
        beside = BackgroundLoad(endpoints, f"{PREFIX}load/", timeout_s=DEFAULT_TIMEOUT_S)
        try:
            return await _restart_all(cluster, target, leader, canary, beside, load, tell)
        finally:
            await finish(_clean(client, lock, canary, beside))


async def _restart_all(
    cluster: LocalCluster,
    target: Target,
    leader: str,
    canary: Canary,
    beside: BackgroundLoad,
    load: float,
    tell: Callable[[str], None],
) -> Rolling:
    found = Rolling()
    canary.start()
    if load:
        beside.start(load)
    warm = await in_thread(
        wait_until, lambda: min(canary.succeeded["put"], canary.succeeded["get"]) >= WARM_OPERATIONS, WARM_DEADLINE_S
    )
    if not warm:
        raise DrillError("the cluster hardly answers, before any restart")
    began_at = time.monotonic()
    for name in sorted(target.names, key=lambda name: name == leader):
        tell(f"restarting {name}{', which leads' if name == leader else ''}")
        found.nodes[name] = await in_thread(_restart, cluster, target, name)
        canary.check()
        tell(f"{name} is back and caught up after {found.nodes[name]:.1f} s")
    await beside.stop()
    await canary.stop()
    await canary.read_everything()
    operations = canary.operations
    end = max(operation.returned for operation in operations if not operation.unknown)
    found.requests, found.load_requests = len(operations), beside.done + beside.failed.total()
    found.failed = canary.errors + beside.failed
    found.write_outage_s = measuring.outage(operations, "put", since=began_at, until=end).seconds
    found.read_outage_s = measuring.outage(operations, "get", since=began_at, until=end).seconds
    found.lost = await canary.lost_writes()
    verdict = await in_thread(lambda: check(operations, limits=CHECK_LIMITS))
    found.linearizable = verdict.judgement.value
    return found


def _restart(cluster: LocalCluster, target: Target, name: str) -> float:
    """Stop a node and start it, and wait until it has caught up; seconds. Raises LabError."""
    began = time.monotonic()
    cluster.stop(name)
    cluster.start([name])
    others = {other: at for other, at in target.endpoints.items() if other != name}
    had = max(answer.applied_index for answer in _answers(others))
    me = {name: target.endpoints[name]}
    if not wait_until(lambda: any(answer.applied_index >= had for answer in _answers(me)), BACK_DEADLINE_S):
        raise LabError(f"{name} has not caught up within {BACK_DEADLINE_S:g} s")
    wait_until_healthy(target, deadline_s=BACK_DEADLINE_S)
    return time.monotonic() - began


def _answers(endpoints: dict[str, str]) -> list[probe.NodeAnswer]:
    found = probe.statuses(endpoints).values()
    return [answer for answer in found if isinstance(answer, probe.NodeAnswer)]


async def _clean(client: aio.AsyncClient, lock: DrillLock, canary: Canary, beside: BackgroundLoad) -> None:
    await beside.close()
    await canary.close()
    try:
        await sweep(client, PREFIX)
    finally:
        await lock.give_back()

"""Locks and elections while leaders die: never two holders, and no holder that lives loses what it has."""

from __future__ import annotations

import threading

import raftkv
from raftkv.lab.cluster import LocalCluster
from tests.client.test_lease import is_renewed
from tests.failover.conftest import Start
from tests.failover.load import wait_until

KILLS = 3
CONTENDERS = 4
TTL_S = 20


class Contender(threading.Thread):
    """Takes the lock again and again, and under it adds 1 to a counter, in a step for the reading and one for the writing."""

    def __init__(self, cluster: LocalCluster, ends: threading.Event) -> None:
        super().__init__()
        self._endpoints = ",".join(cluster.endpoints.values())
        self._ends = ends
        self.tokens: list[int] = []
        self.written: list[int] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            with raftkv.connect(self._endpoints, timeout=30) as kv:
                while not self._ends.is_set():
                    with kv.lock("counter", ttl=TTL_S, timeout=60) as lock:
                        self._count(kv, lock)
        except BaseException as error:
            self.error = error
            raise

    def _count(self, kv: raftkv.Client, lock: raftkv.Lock) -> None:
        item = kv.get("counted")
        number = 1 + (0 if item is None else int(item.value))
        self.tokens.append(lock.fencing_token)
        try:
            assert kv.txn().when(lock.fence).then(kv.op.put("counted", str(number))).commit().succeeded
        except raftkv.Unavailable:
            return  # Whether that was written nobody knows; but nobody else was there.
        self.written.append(number)


def test_a_lock_has_one_holder_at_a_time_while_leaders_are_killed(start_cluster: Start) -> None:
    cluster = start_cluster()
    stop = threading.Event()
    contenders = [Contender(cluster, stop) for _ in range(CONTENDERS)]
    with raftkv.connect(",".join(cluster.endpoints.values()), timeout=30) as kv, kv.lease(TTL_S) as lease:
        kv.put("alive", "", lease=lease)
        for contender in contenders:
            contender.start()
        leader = ""
        for _ in range(KILLS):
            if leader:
                cluster.restart(leader)
            before = sum(len(contender.written) for contender in contenders)
            leader = cluster.wait_for_leader(deadline_s=60)
            cluster.kill(leader)
            cluster.wait_for_leader(other_than=leader, deadline_s=60)
            wait_until(
                lambda before=before: sum(len(c.written) for c in contenders) > before + CONTENDERS,  # type: ignore[misc]
                "the lock goes round",
            )
        stop.set()
        for contender in contenders:
            contender.join(120)
        assert [contender.error for contender in contenders] == [None] * CONTENDERS
        assert kv.get("alive") is not None
        lease.require()

    written = sorted(number for contender in contenders for number in contender.written)
    assert written == sorted(set(written)), "two wrote the same number: both held the lock"
    tokens = [token for contender in contenders for token in contender.tokens]
    assert len(tokens) == len(set(tokens))


def test_a_lease_is_renewed_elsewhere_while_the_leader_that_it_was_granted_by_hangs(start_cluster: Start) -> None:
    cluster = start_cluster()
    leader = cluster.wait_for_leader()
    endpoints = sorted(cluster.endpoints, key=lambda name: name != leader)
    with (
        raftkv.connect([cluster.endpoints[name] for name in endpoints], timeout=30) as kv,
        kv.lock("held", ttl=12) as lock,
        kv.lease(12) as lease,
    ):
        cluster.pause(leader)
        wait_until(is_renewed(lease.remaining), "it is renewed")
        assert kv.txn().when(lock.fence).commit().succeeded
        lease.require()
        cluster.resume(leader)

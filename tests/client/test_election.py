"""Elections of the client, on etcd and on raftkv, beside etcdctl's."""

from __future__ import annotations

import asyncio
import signal
import threading
import uuid

import pytest

import raftkv
from tests.client.test_lease import revoke, wait_for_count, wait_until
from tests.client.test_lock import etcdctl

WAIT_S = 30.0


@pytest.fixture
def name() -> str:
    return uuid.uuid4().hex


def test_a_leader_proclaims_and_resigns(kv: raftkv.Client, name: str) -> None:
    with kv.election(name) as election:
        assert election.leader() is None
        election.campaign("one")
        assert election.is_leader
        leader = election.leader()
        assert leader is not None
        assert (leader.key, leader.value, leader.create_revision) == (election.key, b"one", election.fencing_token)

        election.proclaim("two")
        election.campaign("three")
        assert kv.election(name).leader() == kv.get(election.key)
        assert kv.txn().when(election.fence, kv[election.key].value == b"three").commit().succeeded
        election.resign()
        assert not election.is_leader
        assert election.leader() is None
        with pytest.raises(RuntimeError, match="campaign first"):
            election.proclaim("four")
    assert kv.count(prefix=f"{name}/") == 0


def test_the_next_candidate_leads_when_the_leader_goes(kv: raftkv.Client, name: str) -> None:
    tokens: list[int] = []

    def stand() -> None:
        with kv.election(name) as second:
            second.campaign("second", timeout=WAIT_S)
            tokens.append(second.fencing_token)

    candidate = threading.Thread(target=stand)
    with kv.election(name) as first:
        first.campaign("first")
        candidate.start()
        wait_until(lambda: kv.count(prefix=f"{name}/") == 2, "it does not stand")
        assert tokens == []
        with pytest.raises(raftkv.DeadlineExceeded, match="not elected"):
            kv.election(name).campaign("third", timeout=0.2)
        assert kv.count(prefix=f"{name}/") == 2
    candidate.join(WAIT_S)

    assert tokens > [first.fencing_token]


def test_a_leader_whose_lease_is_gone_is_told(kv: raftkv.Client, endpoint: str, name: str) -> None:
    told: list[raftkv.Election] = []
    election = kv.election(name, ttl=2, on_lost=told.append)
    election.campaign("me")
    revoke(endpoint, int(election.key.rpartition(b"/")[2], 16))

    assert election.lost.wait(WAIT_S)
    wait_until(lambda: told == [election], "nobody was told")
    with pytest.raises(raftkv.LeaseLost):
        election.proclaim("still me")
    assert not kv.txn().when(election.fence).commit().succeeded
    election.campaign("me again")
    assert election.is_leader
    election.resign()


def test_an_audience_hears_of_every_leader_and_proclamation(kv: raftkv.Client, name: str) -> None:
    first, second = kv.election(name), kv.election(name)
    with kv.election(name).observe() as leaders:
        with pytest.raises(raftkv.DeadlineExceeded):
            leaders.next(timeout=0.1)
        first.campaign("one")
        heard = [next(leaders).text]
        first.proclaim("two")
        heard.append(next(leaders).text)
        first.resign()
        second.campaign("three")
        heard.append(leaders.next(timeout=WAIT_S).text)
        second.resign()
    assert heard == ["one", "two", "three"]
    assert list(leaders) == []


async def test_the_async_face_has_the_same_names(endpoint: str, name: str) -> None:
    async with raftkv.aio.connect(endpoint) as kv, kv.election(name) as election:
        await election.campaign("one")
        heard = []
        async with election.observe() as leaders, asyncio.timeout(WAIT_S):
            async for leader in leaders:
                heard.append(leader.text)
                if len(heard) == 2:
                    break
                await election.proclaim("two")
        assert heard == ["one", "two"]
        assert not election.lost.is_set()
        rival = asyncio.create_task(kv.election(name).campaign("rival"))
        await wait_for_count(kv, f"{name}/", 2)
        rival.cancel()
        await asyncio.gather(rival, return_exceptions=True)
        assert await kv.count(prefix=f"{name}/") == 1


def test_candidates_of_etcdctl_stand_in_the_same_queue(kv: raftkv.Client, endpoint: str, name: str) -> None:
    with etcdctl(endpoint, "elect", name, "theirs") as theirs:
        wait_until(lambda: kv.count(prefix=f"{name}/") == 1, "etcdctl does not lead")
        with kv.election(name) as ours:
            leader = ours.leader()
            assert leader is not None
            assert leader.text == "theirs"
            with pytest.raises(raftkv.DeadlineExceeded):
                ours.campaign("ours", timeout=0.2)
            theirs.send_signal(signal.SIGINT)
            ours.campaign("ours", timeout=WAIT_S)

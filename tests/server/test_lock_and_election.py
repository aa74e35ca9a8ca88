"""The Lock and Election services: every node's answers beside etcd's, and what a call leaves that ends without success."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from raftkv.pb import election_pb2, lock_pb2, rpc_pb2
from tests.server.beside_etcd import Beside
from tests.server.grpc_api import Api, Failed

pytestmark = pytest.mark.usefixtures("no_lease_stays")

WAIT_S = 20.0
TTL_S = 60
OPAQUE = re.compile(r"(cluster_id|member_id|revision|raft_term|rev|lease|ID): \d+")


class Contender:
    """A client of one server, with keys of its own, and leases by name."""

    def __init__(self, api: Api, prefix: bytes) -> None:
        self.api = api
        self.prefix = prefix
        self._leases: dict[str, int] = {}

    def lease(self, name: str) -> int:
        if name not in self._leases:
            request = rpc_pb2.LeaseGrantRequest(TTL=TTL_S)
            self._leases[name] = self.api.call("etcdserverpb.Lease", "LeaseGrant", request).ID
        return self._leases[name]

    def revoke(self, name: str) -> None:
        self.api.call("etcdserverpb.Lease", "LeaseRevoke", rpc_pb2.LeaseRevokeRequest(ID=self.lease(name)))

    def lock(self, lease: int, *, timeout_s: float = WAIT_S) -> Any:
        request = lock_pb2.LockRequest(name=self.prefix + b"lock", lease=lease)
        return self.api.call("v3lockpb.Lock", "Lock", request, timeout_s=timeout_s)

    def unlock(self, key: bytes) -> Any:
        return self.api.call("v3lockpb.Lock", "Unlock", lock_pb2.UnlockRequest(key=key))

    def campaign(self, lease: int, value: bytes, *, timeout_s: float = WAIT_S) -> Any:
        request = election_pb2.CampaignRequest(name=self.prefix + b"office", lease=lease, value=value)
        return self.api.call("v3electionpb.Election", "Campaign", request, timeout_s=timeout_s)

    def proclaim(self, leader: election_pb2.LeaderKey | None, value: bytes) -> Any:
        request = election_pb2.ProclaimRequest(leader=leader, value=value)
        return self.api.call("v3electionpb.Election", "Proclaim", request)

    def resign(self, leader: election_pb2.LeaderKey | None) -> Any:
        return self.api.call("v3electionpb.Election", "Resign", election_pb2.ResignRequest(leader=leader))

    def leader(self) -> Any:
        request = election_pb2.LeaderRequest(name=self.prefix + b"office")
        return self.api.call("v3electionpb.Election", "Leader", request)

    def keys(self) -> list[bytes]:
        request = rpc_pb2.RangeRequest(key=self.prefix, range_end=self.prefix[:-1] + b"0")
        return [pair.key for pair in self.api.kv(request).kvs]

    def wait_for_keys(self, count: int) -> list[bytes]:
        deadline = time.monotonic() + WAIT_S
        while len(keys := self.keys()) != count:
            assert time.monotonic() < deadline, keys
            time.sleep(0.01)
        return keys

    def plain(self, answer: Any) -> str:
        """An answer with what differs between two servers taken out: ids, and revisions but for which are equal."""
        text = repr(answer) if isinstance(answer, Failed) else f"{type(answer).__name__} {answer}"
        text = re.sub(r", outcome=[^)]*", "", text)
        for name, lease in self._leases.items():
            text = text.replace(f"/{lease:x}", f"/{name}").replace(str(lease), name)
        return OPAQUE.sub(r"\1: N", text)


@pytest.fixture
def ours(beside: Beside) -> Contender:
    return Contender(beside.ours, beside.prefix)


@pytest.fixture
def both(beside: Beside, ours: Contender) -> Callable[[Callable[[Contender], list[Any]]], None]:
    """Has a script run on both servers, and compares what was answered."""

    def compare(script: Callable[[Contender], list[Any]]) -> None:
        theirs = Contender(beside.theirs, beside.prefix)
        expected = [theirs.plain(answer) for answer in script(theirs)]
        assert [ours.plain(answer) for answer in script(ours)] == expected

    return compare


@pytest.fixture(scope="module")
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as executor:
        yield executor


def test_locks_and_unlocks_answer_as_etcd_does(both: Any, threads: ThreadPoolExecutor) -> None:
    def script(client: Contender) -> list[Any]:
        first = client.lock(client.lease("a"))
        again = client.lock(client.lease("a"))
        waiting = threads.submit(client.lock, client.lease("b"))
        client.wait_for_keys(2)
        unlocked = client.unlock(first.key)
        second = waiting.result(WAIT_S)
        return [
            first,
            again,
            unlocked,
            second,
            client.unlock(first.key),
            client.unlock(b""),
            client.lock(987654321),
            client.lock(-1),
            client.unlock(second.key),
            client.keys(),
        ]

    both(script)


def test_an_election_answers_as_etcd_does(both: Any, threads: ThreadPoolExecutor) -> None:
    def script(client: Contender) -> list[Any]:
        nobody = client.leader()
        elected = client.campaign(client.lease("a"), b"one")
        office = elected.leader
        answers = [
            nobody,
            elected,
            client.leader(),
            client.campaign(client.lease("a"), b"two"),
            client.leader(),
            client.proclaim(office, b"three"),
            client.leader(),
            client.proclaim(None, b"four"),
            client.resign(None),
        ]
        for changed in ({"rev": 1}, {"lease": 99}, {"key": b"elsewhere"}, {"key": b""}):
            wrong = election_pb2.LeaderKey()
            wrong.CopyFrom(office)
            for name, value in changed.items():
                setattr(wrong, name, value)
            answers.append(client.proclaim(wrong, b"five"))
        waiting = threads.submit(client.campaign, client.lease("b"), b"six")
        client.wait_for_keys(2)
        answers += [client.resign(office), waiting.result(WAIT_S), client.leader()]
        answers += [client.resign(office), client.proclaim(office, b"seven"), client.campaign(987654321, b"eight")]
        return [*answers, client.resign(waiting.result().leader), client.keys()]

    both(script)


def test_an_audience_hears_what_etcd_tells_it(both: Any) -> None:
    def script(client: Contender) -> list[Any]:
        observe = client.api.channel.unary_stream(
            "/v3electionpb.Election/Observe",
            request_serializer=election_pb2.LeaderRequest.SerializeToString,
            response_deserializer=election_pb2.LeaderResponse.FromString,
        )
        office = client.campaign(client.lease("a"), b"one").leader
        told = observe(election_pb2.LeaderRequest(name=client.prefix + b"office"), timeout=WAIT_S)
        heard = [next(told)]
        client.proclaim(office, b"two")
        heard.append(next(told))
        client.resign(office)
        client.campaign(client.lease("b"), b"three")
        heard.append(next(told))
        told.cancel()
        return heard

    both(script)


def test_without_a_lease_of_its_own_a_lock_gets_one_of_a_minute(ours: Contender) -> None:
    held = ours.lock(0)

    lease = int(held.key.rpartition(b"/")[2], 16)
    left = ours.api.call("etcdserverpb.Lease", "LeaseTimeToLive", rpc_pb2.LeaseTimeToLiveRequest(ID=lease, keys=True))
    assert (left.grantedTTL, list(left.keys)) == (60, [held.key])


def test_a_lock_that_was_not_free_in_time_leaves_no_key_behind(ours: Contender) -> None:
    held = ours.lock(ours.lease("a"))

    refused = ours.lock(ours.lease("b"), timeout_s=0.5)

    assert isinstance(refused, Failed)
    assert refused.code == "DEADLINE_EXCEEDED"
    assert ours.wait_for_keys(1) == [held.key]


def test_a_client_that_goes_away_leaves_no_key_behind(ours: Contender) -> None:
    held = ours.lock(ours.lease("a"))
    with grpc.insecure_channel(ours.api.endpoint) as channel:
        waiting = _lock_without_deadline(channel, ours)
        ours.wait_for_keys(2)
        waiting.cancel()

    assert ours.wait_for_keys(1) == [held.key]


@pytest.mark.parametrize("service", ["lock", "election"])
def test_a_call_whose_lease_goes_ends_at_once_and_holds_nothing(
    ours: Contender, threads: ThreadPoolExecutor, service: str
) -> None:
    """etcd's server waits on, and then returns a lock that nobody holds."""

    def contend(name: str) -> Any:
        return ours.lock(ours.lease(name)) if service == "lock" else ours.campaign(ours.lease(name), b"me")

    contend("a")
    (held,) = ours.keys()
    waiting: Future[Any] = threads.submit(contend, "b")
    ours.wait_for_keys(2)
    ours.revoke("b")

    assert waiting.result(WAIT_S) == Failed("UNKNOWN", "etcdserver: requested lease not found")
    assert ours.keys() == [held]


def test_a_call_without_a_deadline_is_answered_when_its_turn_comes(ours: Contender) -> None:
    held = ours.lock(ours.lease("a"))
    with grpc.insecure_channel(ours.api.endpoint) as channel:
        waiting = _lock_without_deadline(channel, ours)
        ours.wait_for_keys(2)
        ours.unlock(held.key)

        assert waiting.result(WAIT_S).key == ours.prefix + b"lock/%x" % ours.lease("b")


def _lock_without_deadline(channel: grpc.Channel, client: Contender) -> Any:
    lock = channel.unary_unary(
        "/v3lockpb.Lock/Lock",
        request_serializer=lock_pb2.LockRequest.SerializeToString,
        response_deserializer=lock_pb2.LockResponse.FromString,
    )
    return lock.future(lock_pb2.LockRequest(name=client.prefix + b"lock", lease=client.lease("b")))

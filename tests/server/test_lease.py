"""The Lease service on real nodes: what it answers beside etcd, and that a lease ends when its owner falls silent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import MessageToDict

from raftkv.lab.cluster import LocalCluster
from raftkv.node import Node
from raftkv.pb import rpc_pb2, store_pb2
from raftkv.server.lease import REQUESTS_WAITING_MAX, STREAMS_PER_CONNECTION_MAX, LeaseService
from raftkv.server.limits import Limits
from tests.node.support import member, settled
from tests.server.beside_etcd import Beside, delete_op, put_op
from tests.server.grpc_api import Api, Failed
from tests.server.leasing import KeepAlive, granted, keeping_alive, lease, new_id
from tests.server.process import Servers, servers_in, wait_until
from tests.server.watching import watching
from tests.support import eventually

pytestmark = pytest.mark.usefixtures("no_lease_stays")

Grant, Revoke = rpc_pb2.LeaseGrantRequest, rpc_pb2.LeaseRevokeRequest
TimeToLive, Leases = rpc_pb2.LeaseTimeToLiveRequest, rpc_pb2.LeaseLeasesRequest
NOT_FOUND = Failed("NOT_FOUND", "etcdserver: requested lease not found")
HOUR_S = 3600
HAS_LEADER = (("hasleader", "true"),)


# --- beside etcd ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A node with etcd's election timeout: the least TTL follows from it."""
    with servers_in(tmp_path_factory.mktemp("patient")) as servers:
        flags = ("--election-timeout", "1000", "--heartbeat-interval", "100")
        api = Api(servers.start(*flags).ready().endpoint)
        yield api
        api.close()


@pytest.mark.parametrize("ttl_s", [-(2**63), -1, 0, 1, 2, 3, HOUR_S, 9_000_000_000, 9_000_000_001, 2**63 - 1])
def test_any_ttl_is_granted_or_refused_as_by_etcd(patient: Api, etcd: Api, ttl_s: int) -> None:
    lease_id = new_id()

    answers = [lease(api, Grant(TTL=ttl_s, ID=lease_id)) for api in (patient, etcd)]

    ours, theirs = answers
    if isinstance(theirs, Failed):
        assert ours == theirs
        return
    assert (ours.ID, ours.TTL, ours.error) == (theirs.ID, theirs.TTL, theirs.error)
    assert ours.header.revision > 0
    assert ours.header.raft_term > 0
    for api in (patient, etcd):
        lease(api, Revoke(ID=lease_id))


@pytest.mark.parametrize("lease_id", [1, -1, -(2**63), 2**63 - 1])
def test_any_id_is_granted_once_as_by_etcd(patient: Api, etcd: Api, lease_id: int) -> None:
    for api in (patient, etcd):
        found = [lease(api, Grant(TTL=HOUR_S, ID=lease_id)) for _ in range(2)]
        assert found[0].ID == lease_id
        assert found[1] == Failed("FAILED_PRECONDITION", "etcdserver: lease already exists")
        assert not isinstance(lease(api, Revoke(ID=lease_id)), Failed)
        assert lease(api, Revoke(ID=lease_id)) == NOT_FOUND


def test_an_id_of_0_is_drawn(node: Api) -> None:
    first, second = granted(node, HOUR_S), granted(node, HOUR_S)

    assert 0 < min(first, second)
    assert first != second


@pytest.mark.parametrize("lease_id", [0, -1, 77, 2**63 - 1])
def test_what_nobody_granted_is_answered_as_by_etcd(node: Api, etcd: Api, lease_id: int) -> None:
    both = Beside(node, etcd)
    for request in (Revoke(ID=lease_id), TimeToLive(ID=lease_id), TimeToLive(ID=lease_id, keys=True)):
        ours, theirs = (both.plain(api, lease(api, request)) for api in (node, etcd))
        assert ours == theirs
    renewals = []
    for api in (node, etcd):
        with keeping_alive(api) as stream:
            stream.renew(lease_id)
            renewals.append(both.plain(api, stream.next()))
    assert renewals[0] == renewals[1]


def test_a_life_of_a_lease_is_answered_as_by_etcd(node: Api, etcd: Api) -> None:
    """Keys are hung on it and taken off in every way there is, and what is left goes with it in one event of a watch."""
    both = Beside(node, etcd)
    lease_id, other_id = new_id(), new_id()
    lives = {api: [both.plain(api, answer) for answer in a_life(both, api, lease_id, other_id)] for api in (node, etcd)}

    assert lives[node] == lives[etcd]


def a_life(both: Beside, api: Api, lease_id: int, other_id: int) -> Iterator[Any]:
    def asked(which: int, *, with_keys: bool) -> Any:
        answer = lease(api, TimeToLive(ID=which, keys=with_keys))
        if answer.TTL > 0:
            assert HOUR_S - 60 <= answer.TTL <= HOUR_S
            answer.TTL = HOUR_S
        assert api is both.theirs or list(answer.keys) == sorted(answer.keys)
        answer.keys.sort()  # etcd tells them as its map has them.
        return answer

    names = (b"a", b"b", b"c", b"d", b"e", b"f")
    yield lease(api, Grant(TTL=HOUR_S, ID=lease_id))
    yield lease(api, Grant(TTL=HOUR_S, ID=other_id))
    yield asked(lease_id, with_keys=True)
    for name in reversed(names):
        yield api.kv(both.put(name, b"1", lease=lease_id))
    yield asked(lease_id, with_keys=True)
    yield asked(lease_id, with_keys=False)
    yield api.kv(both.put(b"a", b"2"))
    yield api.kv(both.put(b"b", b"2", lease=other_id, prev_kv=True))
    yield api.kv(both.put(b"c", b"2", ignore_lease=True))
    yield api.kv(both.put(b"c", b"", ignore_value=True, lease=lease_id))
    yield api.kv(both.delete(b"d", prev_kv=True))
    yield api.kv(rpc_pb2.TxnRequest(success=[put_op(both.put(b"g", lease=lease_id)), delete_op(both.delete(b"e"))]))
    yield api.kv(rpc_pb2.TxnRequest(success=[put_op(both.put(b"h")), put_op(both.put(b"i", lease=7))]))
    yield api.kv(both.put(b"h", lease=7))
    compare = rpc_pb2.Compare(key=both.key(b"f"), target=rpc_pb2.Compare.LEASE, lease=lease_id)
    yield api.kv(rpc_pb2.TxnRequest(compare=[compare], success=[put_op(both.put(b"f", b"2", ignore_lease=True))]))
    yield asked(lease_id, with_keys=True)
    yield asked(other_id, with_keys=True)
    yield api.kv(both.all())
    with watching(api) as stream:
        yield stream.created(both.prefix, both.end, prev_kv=True)
        yield lease(api, Revoke(ID=lease_id))
        yield stream.next()
    yield api.kv(both.all())
    yield asked(lease_id, with_keys=True)
    yield api.kv(both.put(b"z", lease=lease_id))
    yield lease(api, Revoke(ID=other_id))
    yield api.kv(both.all())


def test_the_list_has_what_was_granted_on_every_node(nodes: dict[str, Api]) -> None:
    ids = {granted(api, HOUR_S) for api in nodes.values()}
    gone = granted(nodes["n1"], HOUR_S)
    lease(nodes["n2"], Revoke(ID=gone))

    for api in nodes.values():
        answer = lease(api, Leases())
        listed = {status.ID for status in answer.leases}
        assert ids <= listed
        assert gone not in listed
        assert answer.header.revision > 0


# --- renewals ---------------------------------------------------------------------------------------------------------


def test_renewals_are_answered_in_their_order(node: Api) -> None:
    ids = [granted(node, HOUR_S + number) for number in range(5)]
    asked = [*ids, 77, ids[0], 0, *reversed(ids)] * 40  # More than wait for an answer at a time.

    with keeping_alive(node) as stream:
        stream.renew(*asked)
        answers = [stream.next() for _ in asked]
        stream.stop_sending()
        assert stream.next() is None

    ttls = {lease_id: HOUR_S + number for number, lease_id in enumerate(ids)}
    assert [(answer.ID, answer.TTL) for answer in answers] == [(one, ttls.get(one, 0)) for one in asked]
    assert all(answer.header.revision > 0 for answer in answers)


def test_renewals_and_the_end_of_a_stream_look_as_etcds(node: Api, etcd: Api) -> None:
    both, lease_id, seen = Beside(node, etcd), new_id(), {}
    for api in (node, etcd):
        granted(api, HOUR_S, lease_id)
        with keeping_alive(api, HAS_LEADER) as stream:
            stream.renew(lease_id, lease_id, 77)
            seen[api] = [both.plain(api, stream.next()) for _ in range(3)]
            lease(api, Revoke(ID=lease_id))
            stream.renew(lease_id)
            seen[api].append(both.plain(api, stream.next()))
            stream.stop_sending()
            seen[api].append(stream.next())

    assert seen[node] == seen[etcd]
    assert seen[node][-1] is None


def test_bytes_that_are_no_request_end_the_stream(node: Api) -> None:
    with keeping_alive(node) as stream:
        stream.send(b"\xff\xff")
        failed = stream.next()

    assert isinstance(failed, Failed)
    assert (failed.code, failed.text.startswith("grpc: error unmarshalling request")) == ("INTERNAL", True)
    assert not isinstance(node.get(b"-"), Failed)


def test_who_wants_a_leader_is_told_that_there_is_none(servers: Servers) -> None:
    """At once, or when none has been known for long enough; and who waits patiently is told when the node stops."""
    serving = servers.alone_of_three("--election-timeout", "250")
    serving.wait_for("ready to serve")
    api = Api(serving.endpoint)

    with keeping_alive(api, HAS_LEADER) as stream:
        stream.renew(7)
        assert stream.next() == Failed("UNAVAILABLE", "etcdserver: no leader")
    with keeping_alive(api) as patient:
        patient.renew(7)
        serving.stop()
        assert patient.next() == Failed("UNAVAILABLE", "etcdserver: server stopped")
    api.close()


async def test_a_client_that_never_reads_is_bounded(tmp_path: Path) -> None:
    """Its answers wait with gRPC, and behind them a bounded number of requests; then nothing more is read."""
    async with member(tmp_path) as only:
        await only.leads()
        service = lease_service(only.node)
        client = Caller()
        serving = asyncio.create_task(service.keep_alive(client.flood(), client))

        await eventually(lambda: client.is_written_to and client.asked >= REQUESTS_WAITING_MAX)
        await only.put(b"k")
        await settled()

        assert client.asked <= 2 * REQUESTS_WAITING_MAX + 1
        serving.cancel()
        await asyncio.wait([serving])


def lease_service(node: Node) -> LeaseService:
    limits = Limits(request_bytes_max=1 << 20, txn_ops_max=128, quota_bytes=1 << 30)
    return LeaseService(node, limits, min_ttl_s=1, hold_s=10.0, election_timeout_s=1.0)


class Aborted(Exception):
    """As gRPC ends a call."""


class Caller:
    """gRPC's context for a call whose client takes no answer."""

    def __init__(self, peer: str = "ipv4:127.0.0.1:1") -> None:
        self.asked = 0
        self.is_written_to = False
        self._peer = peer

    async def flood(self) -> AsyncIterator[bytes]:
        """It sends as much as it may."""
        while True:
            self.asked += 1
            yield rpc_pb2.LeaseKeepAliveRequest(ID=7).SerializeToString()

    async def silence(self) -> AsyncIterator[bytes]:
        """It sends nothing, and does not end."""
        await asyncio.get_running_loop().create_future()
        yield b""

    async def write(self, _response: bytes) -> None:
        self.is_written_to = True
        await asyncio.get_running_loop().create_future()

    async def abort(self, code: grpc.StatusCode, text: str, _trailing: object) -> None:
        raise Aborted(f"{code.name}: {text}")

    def peer(self) -> str:
        return self._peer

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return ()


def test_clients_that_vanish_leave_nothing_behind(servers: Servers) -> None:
    """In the middle of their renewals, more of them than may be there at a time."""
    serving = servers.start().ready()
    for _ in range(4):
        api = Api(serving.endpoint)
        lease_id = granted(api, HOUR_S)
        streams = [KeepAlive(api) for _ in range(5)]
        for stream in streams:
            stream.renew(*[lease_id] * 300)
        assert streams[-1].next().TTL == HOUR_S
        api.close()
    api = Api(serving.endpoint)

    assert len(ids_of(api)) == 4
    assert serving.stop() == 0
    assert not serving.strange_lines, serving.lines
    api.close()


async def test_too_many_streams_of_one_connection_are_refused(tmp_path: Path) -> None:
    async with member(tmp_path) as only:
        service = lease_service(only.node)
        streams = [Caller() for _ in range(STREAMS_PER_CONNECTION_MAX)]
        calls = [asyncio.create_task(service.keep_alive(stream.silence(), stream)) for stream in streams]
        await settled()

        refused, other = Caller(), Caller(peer="ipv4:127.0.0.1:2")
        with pytest.raises(Aborted, match=r"RESOURCE_EXHAUSTED.*too many lease keep-alive streams.*has 1000"):
            await service.keep_alive(refused.silence(), refused)
        calls.append(asyncio.create_task(service.keep_alive(other.silence(), other)))
        await settled()
        assert not any(call.done() for call in calls)

        calls[0].cancel()
        await asyncio.wait(calls[:1])
        calls.append(asyncio.create_task(service.keep_alive(refused.silence(), refused)))
        await settled()
        assert not calls[-1].done(), "there is room again"
        service.stop()
        ends = await asyncio.gather(*calls[1:], return_exceptions=True)
        assert {str(end) for end in ends} == {"UNAVAILABLE: etcdserver: server stopped"}


async def test_streams_behind_the_native_server_do_not_count_as_one_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They all come through its socket in the file system."""
    monkeypatch.setattr("raftkv.server.lease.STREAMS_PER_CONNECTION_MAX", 1)
    async with member(tmp_path) as only:
        service = lease_service(only.node)
        streams = [Caller(peer="unix:") for _ in range(3)]
        calls = [asyncio.create_task(service.keep_alive(stream.silence(), stream)) for stream in streams]
        await settled()

        assert not any(call.done() for call in calls)
        service.stop()
        await asyncio.wait(calls)


def test_a_batch_may_hang_keys_on_leases_and_nothing_else_of_them(node: Api) -> None:
    lease_id = granted(node, HOUR_S)
    command = store_pb2.Command
    request = store_pb2.BatchRequest(
        commands=[
            command(put=rpc_pb2.PutRequest(key=b"batched/lease", lease=lease_id)),
            command(put=rpc_pb2.PutRequest(key=b"batched/lease", lease=77)),
            command(lease_grant=Grant(ID=new_id(), TTL=1)),
            command(clock_advance=store_pb2.ClockAdvance(term=1, now_ms=2**60)),
        ]
    )

    answers = node.batch(request).answers

    assert [answer.WhichOneof("result") for answer in answers] == ["put", "failure", "failure", "failure"]
    assert answers[1].failure.message == NOT_FOUND.text
    assert list(lease(node, TimeToLive(ID=lease_id, keys=True)).keys) == [b"batched/lease"]


# --- the end ----------------------------------------------------------------------------------------------------------

TTL_S = 3
LATE_S = 5.0
"""The claim is two seconds. The machine may be busy with a whole test suite."""


def test_a_lease_dies_with_its_owner_and_not_with_the_leader(tmp_path: Path) -> None:
    """The leader is killed while two leases run. The one whose owner fell silent ends in time; the other one lives on."""
    with LocalCluster.create(tmp_path / "cluster", proxy=False, leashed=True) as cluster:
        cluster.start()
        leader = cluster.wait_for_leader()
        survivor = next(name for name in cluster.names if name != leader)
        api = Api(cluster.endpoint(survivor))
        with keeping_alive(api) as stream, watching(api) as watch:
            silent, alive = granted(api, TTL_S), granted(api, 2 * TTL_S)
            for key, lease_id in ((b"silent/1", silent), (b"silent/2", silent), (b"alive", alive)):
                put_on(api, key, lease_id)
            watch.created(b"", b"\0")
            assert renewed(stream, silent) == TTL_S
            began = time.monotonic()
            cluster.kill(leader)
            # Until there is another, one that is not answered at once believes itself cut off, and refuses.
            cluster.wait_for_leader(other_than=leader)

            while silent in ids_of(api):
                assert renewed(stream, alive) == 2 * TTL_S
            lasted_s = time.monotonic() - began

            assert TTL_S <= lasted_s <= TTL_S + LATE_S, f"{lasted_s:.2f} s"
            gone = watch.events(2)
            assert [(key, is_put) for _, key, is_put in gone] == [(b"silent/1", False), (b"silent/2", False)]
            assert gone[0][0] == gone[1][0], "one revision"
            assert renewed(stream, silent) == 0
            assert api.get(b"alive").kvs[0].lease == alive
        api.close()


def put_on(api: Api, key: bytes, lease_id: int) -> None:
    answer = api.kv(rpc_pb2.PutRequest(key=key, lease=lease_id))
    assert not isinstance(answer, Failed), answer


def renewed(stream: KeepAlive, lease_id: int) -> int:
    """The TTL that is answered."""
    stream.renew(lease_id)
    answer = stream.next()
    assert isinstance(answer, rpc_pb2.LeaseKeepAliveResponse), answer
    return int(MessageToDict(answer).get("TTL", 0))


def ids_of(api: Api) -> set[int]:
    answer = lease(api, Leases())
    assert not isinstance(answer, Failed), answer
    return {status.ID for status in answer.leases}


def test_leases_and_their_time_survive_the_death_of_every_node(tmp_path: Path) -> None:
    with LocalCluster.create(tmp_path / "cluster", proxy=False, leashed=True) as cluster:
        cluster.start()
        cluster.wait_for_leader()
        api = Api(cluster.endpoint("n1"))
        short, long = granted(api, TTL_S), granted(api, HOUR_S)
        put_on(api, b"short", short)
        put_on(api, b"long", long)
        cluster.kill(*cluster.names)
        cluster.start()
        cluster.wait_for_leader()

        wait_until(lambda: not api.get(b"short").kvs, timeout_s=TTL_S + LATE_S + 10)

        assert ids_of(api) == {long}
        answer = lease(api, TimeToLive(ID=long, keys=True))
        assert list(answer.keys) == [b"long"]
        assert HOUR_S - 60 < answer.TTL <= HOUR_S
        api.close()

"""The Watch service on real nodes: what it answers beside etcd, and what becomes of those who do not read."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raftkv.lab.cluster import LocalCluster
from raftkv.pb import rpc_pb2
from tests.server.beside_etcd import Beside
from tests.server.grpc_api import Api, Failed
from tests.server.process import Servers, wait_until
from tests.server.watching import WatchStream, watching

Script = Callable[[Beside, Api, WatchStream], list[Any]]
FILTERS = rpc_pb2.WatchCreateRequest


def beside(script: Script, both: Beside) -> None:
    """Run a script against etcd and raftkv; what it collects must be equal."""
    collected = {}
    for api in (both.theirs, both.ours):
        with watching(api) as stream:
            collected[api] = [both.plain(api, answer) for answer in script(both, api, stream)]
    assert collected[both.ours] == collected[both.theirs]


def put(both: Beside, api: Api, name: bytes, value: bytes = b"") -> int:
    revision: int = api.kv(both.put(name, value)).header.revision
    return revision


def lives_of_a_watch(both: Beside, api: Api, stream: WatchStream) -> list[Any]:
    answers = [stream.created(both.key(b"a"), prev_kv=True)]
    for value in (b"1", b"2"):
        put(both, api, b"a", value)
        answers.append(stream.next())
    put(both, api, b"b")
    api.kv(both.delete(b"a"))
    answers.append(stream.next())
    stream.cancel(0)
    answers.append(stream.next())
    stream.cancel(0)
    stream.cancel(77)
    stream.request_progress()
    return [*answers, stream.next()]


def ids(both: Beside, api: Api, stream: WatchStream) -> list[Any]:
    asked = [{}, {}, {"watch_id": 7}, {"watch_id": 7}, {"watch_id": 2}, {}, {"watch_id": -3}, {"watch_id": 0}]
    return [stream.created(both.key(b"a"), **options) for options in asked]


def ranges(both: Beside, api: Api, stream: WatchStream) -> list[Any]:
    answers = [stream.created(both.key(b"b"), both.key(b"a")), stream.created(both.key(b"b"), both.key(b"b"))]
    answers += [stream.created(both.key(b"m"), both.key(b"p")), stream.created(b""), stream.created(b"z", b"\0")]
    for name in (b"l", b"m", b"o", b"p"):
        put(both, api, name)
    return [*answers, stream.next(), stream.next()]


def history(both: Beside, api: Api, stream: WatchStream) -> list[Any]:
    first = put(both, api, b"h1")
    for name in (b"h2", b"x", b"h1"):
        put(both, api, name)
    api.kv(both.delete(b"h2"))
    answers = [stream.created(both.key(b"h"), both.key(b"i"), start_revision=first), stream.next()]
    answers += [stream.created(both.key(b"h1"), start_revision=first + 2, prev_kv=True), stream.next()]
    for kind in (FILTERS.NOPUT, FILTERS.NODELETE):
        answers += [stream.created(both.key(b"h"), both.key(b"i"), start_revision=first, filters=[kind]), stream.next()]
    return answers


def future(both: Beside, api: Api, stream: WatchStream) -> list[Any]:
    now = put(both, api, b"f")
    answers = [stream.created(both.key(b"f"), start_revision=now + 3)]
    for _ in range(4):
        put(both, api, b"f")
    return [*answers, stream.next(), stream.next()]


def transactions(both: Beside, api: Api, stream: WatchStream) -> list[Any]:
    answers = [stream.created(both.prefix, both.end, prev_kv=True)]
    put(both, api, b"t0")
    puts = [rpc_pb2.RequestOp(request_put=both.put(b"t%d" % number, b"v")) for number in range(3)]
    delete = rpc_pb2.RequestOp(request_delete_range=both.delete(b"gone"))
    api.kv(rpc_pb2.TxnRequest(success=[*puts, delete]))
    api.kv(rpc_pb2.DeleteRangeRequest(key=both.key(b"t"), range_end=both.key(b"u")))
    return [*answers, stream.next(), stream.next(), stream.next()]


def half_closed(both: Beside, api: Api, stream: WatchStream) -> list[Any]:
    answers = [stream.created(both.key(b"a"))]
    stream.send(rpc_pb2.WatchRequest())
    stream.stop_sending()
    put(both, api, b"a")
    return [*answers, stream.next()]


@pytest.mark.parametrize(
    "script", [lives_of_a_watch, ids, ranges, history, future, transactions, half_closed], ids=lambda f: f.__name__
)
def test_a_stream_answers_as_etcd_does(script: Script, node: Api, etcd: Api) -> None:
    beside(script, Beside(node, etcd))


def test_compacted_starts_answer_as_etcd_does(servers: Servers, etcd: Api) -> None:
    def script(both: Beside, api: Api, stream: WatchStream) -> list[Any]:
        revisions = [put(both, api, b"c%d" % (number % 2)) for number in range(6)]
        api.kv(rpc_pb2.CompactionRequest(revision=revisions[3], physical=True))
        answers: list[Any] = []
        for start in (revisions[0], revisions[2], 1, -7):
            answers += [stream.created(both.key(b"c1"), start_revision=start), stream.next()]
        for start in (revisions[3], revisions[4]):
            answers += [stream.created(both.key(b"c1"), start_revision=start, prev_kv=True), stream.next()]
        for answer in answers:
            if answer.compact_revision:
                answer.compact_revision -= revisions[3]
        return answers

    api = Api(servers.start().ready().endpoint)
    beside(script, Beside(api, etcd))
    api.close()


def test_a_watch_on_any_node_sees_what_is_put_through_any_other(nodes: dict[str, Api]) -> None:
    prefix = uuid.uuid4().hex.encode()
    streams = {name: WatchStream(api) for name, api in nodes.items()}
    for stream in streams.values():
        assert stream.created(prefix, prefix + b"\xff").created
    expected = [
        (api.put(prefix + name.encode(), b"").header.revision, prefix + name.encode(), True)
        for name, api in nodes.items()
    ]
    for stream in streams.values():
        assert stream.events(3) == expected
        stream.close()


def test_a_watch_from_now_on_is_not_told_of_what_was_acknowledged_before(node: Api) -> None:
    key = uuid.uuid4().hex.encode()
    with watching(node) as stream:
        for number in range(20):
            revision = node.put(key, b"%d" % number).header.revision
            created = stream.created(key, watch_id=number + 1)
            assert created.header.revision >= revision
            stream.cancel(number + 1)
            assert stream.next().canceled


def test_a_stream_of_garbage_fails_alone(node: Api) -> None:
    with watching(node) as stream, watching(node) as other:
        stream.send(b"\xff\xff\xff")
        failed = stream.next()
        assert (type(failed), failed.code) == (Failed, "INTERNAL")
        assert other.created(b"a").created


def test_a_stream_that_wants_a_leader_is_refused_without_one(servers: Servers) -> None:
    api = Api(servers.alone_of_three().endpoint)
    with watching(api, (("hasleader", "true"),)) as stream:
        stream.create(b"a")
        assert stream.next() == Failed("UNAVAILABLE", "etcdserver: no leader")
    with watching(api) as patient:
        assert patient.created(b"a").created
    api.close()


def test_a_stream_that_wants_a_leader_ends_when_there_is_none_any_more() -> None:
    with LocalCluster.temporary(nodes=3, proxy=False) as cluster:
        cluster.up()
        api = Api(cluster.endpoints["n1"])
        with watching(api, (("hasleader", "true"),)) as stream, watching(api) as patient:
            assert stream.created(b"a").created
            assert patient.created(b"a").created
            cluster.kill("n2")
            cluster.kill("n3")
            assert stream.next(20.0) == Failed("UNAVAILABLE", "etcdserver: no leader")
            assert patient.created(b"b").created
        api.close()


def test_a_stopping_node_ends_its_watches_and_stops_at_once(servers: Servers) -> None:
    server = servers.start().ready()
    api = Api(server.endpoint)
    with watching(api) as stream:
        assert stream.created(b"a").created
        assert server.stop(signal.SIGTERM) == 0
        ended = stream.next()
        assert (type(ended), ended.code) == (Failed, "UNAVAILABLE")
    api.close()
    assert server.strange_lines == []


def test_too_many_watches_of_one_connection_are_refused_with_a_clear_word(servers: Servers) -> None:
    api = Api(servers.start("--max-watches-per-connection", "50").ready().endpoint)
    with watching(api) as stream:
        for number in range(60):
            stream.create(b"k%d" % number)
        answers = [stream.next() for _ in range(60)]
        assert [answer.canceled for answer in answers] == [False] * 50 + [True] * 10
        assert answers[-1].cancel_reason == (
            "etcdserver: too many watches: this connection has 50, the limit (--max-watches-per-connection)"
        )
        api.put(b"k49", b"still served")
        assert stream.events(1)[0][1] == b"k49"
    api.close()


def resident_mib(pid: int) -> float:
    found = re.search(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def test_a_client_that_never_reads_costs_its_node_a_bounded_amount_of_memory(servers: Servers) -> None:
    server = servers.start().ready()
    api, idle = Api(server.endpoint), Api(server.endpoint)
    method = idle.channel.stream_stream(
        "/etcdserverpb.Watch/Watch", rpc_pb2.WatchRequest.SerializeToString, rpc_pb2.WatchResponse.FromString
    )
    create = rpc_pb2.WatchRequest(create_request=rpc_pb2.WatchCreateRequest(key=b"a", range_end=b"z"))
    silent = [method(iter([create])) for _ in range(20)]  # Nobody reads them, beyond what gRPC does by itself.
    with watching(api) as stream:
        stream.created(b"a", b"z")
        api.put(b"k", bytes(1000))
        stream.events(1)
        before = resident_mib(server.process.pid)
        for _ in range(80):  # 20 streams x 80 MB, if each were kept what it has not read.
            api.put(b"k", bytes(1_000_000))
            assert stream.events(1)[0][1] == b"k"
        grown = resident_mib(server.process.pid) - before
    assert grown < 300, f"{grown:.0f} MiB more after 80 MB were put"
    for call in silent:
        call.cancel()
    api.close()
    idle.close()


def test_ten_thousand_watches_on_one_node(servers: Servers) -> None:
    api = Api(servers.start().ready().endpoint)
    with watching(api) as stream:
        for number in range(5_000):
            stream.create(b"key/%05d" % number)
            stream.create(b"dir/%05d/" % number, b"dir/%05d0" % number)
        ids_made = {stream.next(60.0).watch_id for _ in range(10_000)}
        assert len(ids_made) == 10_000
        for number in range(0, 5_000, 100):
            api.put(b"key/%05d" % number, b"")
            api.put(b"dir/%05d/x" % number, b"")
        expected = [name for n in range(0, 5_000, 100) for name in (b"key/%05d" % n, b"dir/%05d/x" % n)]
        assert [key for _, key, _ in stream.events(100, 60.0)] == expected
    wait_until(lambda: api.put(b"key/00000", b"").header.revision > 0)
    api.close()


@pytest.mark.skipif(shutil.which("etcdctl") is None, reason="etcdctl is not installed")
def test_etcdctl_watches_raftkv(node: Api, etcd: Api) -> None:
    both = Beside(node, etcd)
    outputs = []
    for api in (both.theirs, both.ours):
        first = put(both, api, b"a", b"1")
        put(both, api, b"b", b"2")
        api.kv(both.delete(b"a"))
        command = ["etcdctl", "--endpoints", api.endpoint, "watch", both.prefix.decode(), "--prefix", "--prev-kv"]
        environment = {"ETCDCTL_API": "3", "PATH": "/usr/bin:/bin"}
        with subprocess.Popen(
            [*command, "--rev", str(first)], stdout=subprocess.PIPE, env=environment, text=True
        ) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(11)]
            process.kill()
        outputs.append(lines)
    assert outputs[0] == outputs[1]

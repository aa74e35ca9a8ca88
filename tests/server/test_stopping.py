"""How a node ends: signals, nobody to lead, a node alone of three, and a disk that fails while it runs."""

from __future__ import annotations

import os
import resource
import signal
import time
from pathlib import Path

import pytest

from raftkv.errors import STOPPED
from raftkv.lab.cluster import LocalCluster
from raftkv.pb import rpc_pb2, store_pb2
from raftkv.pb.drill_pb2 import BreakRequest, Fault
from raftkv.server.batch_stream import BATCHES_PATH
from raftkv.server.front import CHOICE
from tests.server.grpc_api import Api, Failed
from tests.server.process import LOG_LINE, Servers, Serving, wait_until
from tests.server.streaming import Stream

STOPS_WITHIN_S = 3.0


def assert_ends_cleanly(serving: Serving, number: signal.Signals) -> None:
    began = time.monotonic()
    assert serving.stop(number) == 0
    assert time.monotonic() - began < STOPS_WITHIN_S
    assert not serving.strange_lines, serving.lines
    assert serving.lines[-1].endswith(" stopped")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_node_cleanly(servers: Servers, number: signal.Signals) -> None:
    assert_ends_cleanly(servers.start().ready(), number)


def test_a_disk_that_hangs_does_not_hold_up_a_stop(servers: Servers) -> None:
    """What was waiting for it was never acknowledged, so nothing is lost by going without it."""
    serving = servers.start("--enable-drills").ready()
    api = Api(serving.endpoint)
    assert not isinstance(api.put(b"k", b"saved"), Failed)
    stalled = BreakRequest(fault=Fault.DISK_STALL, duration_ms=60_000)
    assert not isinstance(api.call("raftkv.drill.Drill", "Break", stalled), Failed)
    assert isinstance(api.kv(rpc_pb2.PutRequest(key=b"k", value=b"unsaved"), timeout_s=0.5), Failed)
    api.close()

    assert serving.stop(signal.SIGTERM) == 0

    assert any("the disk of the log has not come back" in line for line in serving.lines)


def test_a_second_signal_changes_nothing(servers: Servers) -> None:
    serving = servers.start().ready()

    serving.process.send_signal(signal.SIGTERM)

    assert_ends_cleanly(serving, signal.SIGINT)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_node_alone_of_three_ends_cleanly(servers: Servers, number: signal.Signals) -> None:
    assert_ends_cleanly(servers.alone_of_three().ready(), number)


def test_requests_held_by_a_node_that_stops_are_told_what_became_of_them(servers: Servers) -> None:
    serving = servers.alone_of_three("--election-timeout", "10000").ready()  # It has not given up on the others yet.
    api = Api(serving.endpoint)
    put = api.begin("etcdserverpb.KV", "Put", rpc_pb2.PutRequest(key=b"k", value=b"v"), timeout_s=30.0)
    get = api.begin("etcdserverpb.KV", "Range", rpc_pb2.RangeRequest(key=b"k"), timeout_s=30.0)
    # A local read behind them shows that the node has got them: calls of one channel arrive in order.
    assert not isinstance(api.kv(rpc_pb2.RangeRequest(key=b"k", serializable=True)), Failed)
    assert_ends_cleanly(serving, signal.SIGTERM)

    answers = [put(), get()]
    api.close()
    for answer in answers:
        assert answer.code == "UNAVAILABLE"
        # pygrpc-native may hang up before the last answers are through.
        told = (answer.text, answer.outcome) == ("etcdserver: server stopped", "not-applied")
        assert told or (os.environ.get(CHOICE) == "yes" and "Socket closed" in answer.text), answers


def test_an_idle_stream_of_batches_is_told_that_the_node_stops(servers: Servers) -> None:
    """It would go on for ever, and hold the node up."""
    serving = servers.start().ready()
    api = Api(serving.endpoint)
    stream = Stream(api, BATCHES_PATH, store_pb2.NumberedResponse)
    assert stream.next() == store_pb2.NumberedResponse()

    assert_ends_cleanly(serving, signal.SIGTERM)

    ended = stream.next()
    assert ended.code == "UNAVAILABLE"
    # pygrpc-native may hang up before the last word of a stream is through.
    assert ended.text == STOPPED or os.environ.get(CHOICE) == "yes"
    stream.close()
    api.close()


def test_a_leader_whose_followers_are_dead_ends_cleanly(tmp_path: Path) -> None:
    """It tries to hand leadership over, and there is nobody to take it."""
    with LocalCluster.temporary(nodes=3, proxy=False, parent=tmp_path) as cluster:
        leader = cluster.up()
        cluster.kill(*(name for name in cluster.names if name != leader))
        began = time.monotonic()

        cluster.stop(leader)

        assert time.monotonic() - began < STOPS_WITHIN_S
        lines = cluster.log_path(leader).read_text().splitlines()
        assert [line for line in lines if not LOG_LINE.match(line)] == []
        assert lines[-1].endswith(" stopped")


# --- alone of three ---------------------------------------------------------------------------------------------------


def test_a_node_alone_of_three_says_for_whom_it_waits(servers: Servers) -> None:
    began = time.monotonic()
    serving = servers.alone_of_three().ready()

    line = serving.wait_for("waiting for a leader")

    assert time.monotonic() - began < 12.0
    assert "WARNING" in line
    assert "n2 (127.0.0.1:" in line
    assert "n3 (127.0.0.1:" in line


def test_a_node_alone_of_three_serves_nothing_stale_and_tells_the_truth(servers: Servers) -> None:
    api = Api(servers.alone_of_three().ready().endpoint)

    began = time.monotonic()
    put = api.put(b"k", b"v", timeout_s=0.5)
    get = api.get(b"k", timeout_s=0.5)
    took = time.monotonic() - began

    assert put == Failed("UNAVAILABLE", "etcdserver: request timed out")
    assert put.outcome == "not-applied"
    assert get == Failed("DEADLINE_EXCEEDED", "etcdserver: request timed out")
    assert 0.8 < took < 5.0, "held until the deadline, and no longer"
    local = api.kv(rpc_pb2.RangeRequest(key=b"k", serializable=True))
    assert (list(local.kvs), local.header.revision) == ([], 1)
    status = api.call("etcdserverpb.Maintenance", "Status", rpc_pb2.StatusRequest())
    assert (status.leader, list(status.errors)) == (0, ["etcdserver: no leader"])
    members = api.call("etcdserverpb.Cluster", "MemberList", rpc_pb2.MemberListRequest()).members
    assert {member.name for member in members} == {"n1", "n2", "n3"}
    api.close()


def test_a_client_that_requires_a_leader_is_refused_at_once_without_one(servers: Servers) -> None:
    api = Api(servers.alone_of_three().ready().endpoint)
    began = time.monotonic()

    for request in (rpc_pb2.PutRequest(key=b"k"), rpc_pb2.RangeRequest(key=b"k", serializable=True)):
        refused = api.kv(request, metadata=(("hasleader", "true"),))
        assert refused == Failed("UNAVAILABLE", "etcdserver: no leader")
        assert refused.outcome == "not-applied"

    assert time.monotonic() - began < 5.0
    api.close()


# --- a disk that fails ------------------------------------------------------------------------------------------------


def test_a_node_whose_disk_refuses_writes_stops_with_one_line_and_loses_nothing(servers: Servers) -> None:
    """A limit on the size of files stands for the failing disk: every write to the log is refused from now on.

    So is what comes by the clock: a commit of the state, or an entry that advances the log's own clock. If one is due before
    the put, the put is never proposed, and the answer says so.
    """
    serving = servers.start().ready()
    api = Api(serving.endpoint)
    acknowledged = [b"k%d" % number for number in range(20) if not isinstance(api.put(b"k%d" % number, b"v"), Failed)]
    assert len(acknowledged) == 20
    resource.prlimit(serving.process.pid, resource.RLIMIT_FSIZE, (1024, resource.RLIM_INFINITY))

    refused = api.put(b"late", b"v")

    assert isinstance(refused, Failed)
    assert (refused.code, refused.outcome) in (("UNAVAILABLE", "unknown"), ("UNAVAILABLE", "not-applied"))
    line = serving.refusal()
    if not line.startswith("cannot commit: "):
        assert str(serving.data_dir / "wal") in line
        assert "File too large" in line
    api.close()
    api = Api(servers.start(data_dir=serving.data_dir).ready().endpoint)
    found = {kv.key for kv in api.kv(rpc_pb2.RangeRequest(key=b"k", range_end=b"l")).kvs}
    assert found == set(acknowledged)
    api.close()


def test_a_node_whose_state_cannot_be_written_stops_with_one_line_and_loses_nothing(servers: Servers) -> None:
    """The log has its space reserved; the state machine's file is the one that must grow."""
    serving = servers.start().ready()
    api = Api(serving.endpoint)
    limit = 32 << 20  # Above a segment of the log, below what follows.
    resource.prlimit(serving.process.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    acknowledged = []

    def write() -> bool:
        key = b"k%05d" % len(acknowledged)
        if isinstance(api.put(key, b"v" * 1_000_000, timeout_s=5.0), Failed):
            return True
        acknowledged.append(key)
        return False

    wait_until(write, timeout_s=60.0)

    line = serving.refusal()
    assert line.startswith("cannot commit: "), line
    api.close()
    api = Api(servers.start(data_dir=serving.data_dir).ready().endpoint)
    found = {kv.key for kv in api.kv(rpc_pb2.RangeRequest(key=b"k", range_end=b"l", keys_only=True)).kvs}
    assert set(acknowledged) <= found
    assert len(acknowledged) > 20
    api.close()

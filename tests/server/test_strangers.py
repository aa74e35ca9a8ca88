"""Whatever connects to a node's ports that is no client and no peer of it: the node goes on, and says what happened once."""

from __future__ import annotations

import random
import socket

import grpc
import pytest

from raftkv.config import member_id
from raftkv.pb import peer_pb2, rpc_pb2
from raftkv.transport.introduction import PROTOCOL_VERSION
from raftkv.transport.snapshot_stream import SNAPSHOT_PATH
from raftkv.transport.transport import STREAM_PATH
from tests.server.grpc_api import Api, Failed
from tests.server.process import Servers, Serving

HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SEED = 20_240_817


def nonsense() -> dict[str, bytes]:
    rng = random.Random(SEED)
    settings = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
    return {
        "nothing": b"",
        "one byte": b"\x00",
        "random": rng.randbytes(4096),
        "zeros": bytes(100_000),
        "http/1": b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n",
        "http/1 without end": b"A" * 200_000,
        "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + rng.randbytes(500),
        "preface alone": HTTP2,
        "preface and garbage": HTTP2 + rng.randbytes(4096),
        "preface, settings, garbage": HTTP2 + settings + rng.randbytes(4096),
        "a frame that claims 16 MiB": HTTP2 + settings + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01",
        "data on a stream never opened": HTTP2 + settings + b"\x00\x00\x04\x00\x01\x00\x00\x00\x07abcd",
        "headers that are no headers": HTTP2 + settings + b"\x00\x00\x20\x01\x05\x00\x00\x00\x01" + rng.randbytes(32),
    }


def throw(port: int, data: bytes) -> None:
    """Connect, send, and go when the other side has had enough, or half-close has been seen."""
    with socket.create_connection(("127.0.0.1", port), timeout=5.0) as connection:
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass
        except OSError:
            pass  # It hung up on us, or waits for more: both are well.


def peer_port(serving: Serving) -> int:
    words = serving.process.args
    assert isinstance(words, list)
    return int(words[words.index("--listen-peer-urls") + 1].rpartition(":")[2])


def assert_unharmed(serving: Serving) -> None:
    api = Api(serving.endpoint)
    assert api.get(b"k").kvs[0].value == b"v"
    assert not isinstance(api.put(b"more", b"v"), Failed)
    api.close()
    assert serving.stop() == 0
    assert not serving.strange_lines, serving.lines
    assert not [line for line in serving.lines if " ERROR " in line or " CRITICAL " in line], serving.lines


@pytest.fixture
def serving(servers: Servers) -> Serving:
    serving = servers.start().ready()
    api = Api(serving.endpoint)
    api.put(b"k", b"v")
    api.close()
    return serving


def test_random_bytes_on_the_clients_port_do_no_harm(serving: Serving) -> None:
    for data in nonsense().values():
        throw(serving.client_port, data)

    assert_unharmed(serving)


def test_random_bytes_on_the_peers_port_do_no_harm(serving: Serving) -> None:
    for data in nonsense().values():
        throw(peer_port(serving), data)

    assert_unharmed(serving)


def test_requests_that_are_no_protobuf_leave_no_trace_in_the_log(serving: Serving) -> None:
    api = Api(serving.endpoint)
    rng = random.Random(SEED)
    for size in (1, 10, 1000):
        for service, name in (
            ("etcdserverpb.KV", "Put"),
            ("etcdserverpb.KV", "Txn"),
            ("raftkv.store.Store", "Batches"),
        ):
            api.call(service, name, rng.randbytes(size))
        api.batch(rng.randbytes(size))
    api.close()

    assert_unharmed(serving)


# --- on the peers' port, in the peers' own protocol --------------------------------------------------------------------


def ids_of(serving: Serving) -> tuple[int, int]:
    api = Api(serving.endpoint)
    header = api.get(b"-").header
    api.close()
    return header.cluster_id, header.member_id


def test_strangers_who_speak_the_peers_protocol_are_refused_in_one_line(serving: Serving) -> None:
    cluster, member = ids_of(serving)
    right = {"protocol_version": PROTOCOL_VERSION, "cluster_id": cluster, "sender": member ^ 1, "receiver": member}
    right |= {"data_id": 1, "incarnation": 1, "run_id": 1}
    with grpc.insecure_channel(f"127.0.0.1:{peer_port(serving)}") as channel:
        stream = channel.stream_stream(
            STREAM_PATH,
            request_serializer=peer_pb2.Frame.SerializeToString,
            response_deserializer=peer_pb2.Frame.FromString,
        )
        for wrong, expected in (
            ({"protocol_version": 99}, "protocol version 99"),
            ({"cluster_id": cluster ^ 1}, "cluster id"),
            ({"receiver": member ^ 2}, "looks for member"),
            ({}, "not in this cluster's member list"),
        ):
            hello = peer_pb2.Hello(**right | wrong)
            with pytest.raises(grpc.RpcError) as refused:
                list(stream(iter([peer_pb2.Frame(hello=hello)]), timeout=10.0))
            assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
            assert expected in refused.value.details()
            assert "refused a peer" in serving.wait_for(expected)

    assert_unharmed(serving)


@pytest.mark.parametrize("path", [STREAM_PATH, SNAPSHOT_PATH])
def test_peers_messages_that_are_no_protobuf_do_no_harm(serving: Serving, path: str) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{peer_port(serving)}") as channel:
        stream = channel.stream_stream(path)
        for data in (b"", b"\xff" * 100, b"\x0a\x05hello", bytes(1000)):
            try:
                assert not list(stream(iter([data]), timeout=10.0)), "a stranger was answered"
            except grpc.RpcError as error:
                assert error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED  # noqa: PT017 - hanging up in silence is well, too

    assert_unharmed(serving)


def test_the_clients_services_are_not_on_the_peers_port(serving: Serving) -> None:
    api = Api(f"127.0.0.1:{peer_port(serving)}")

    assert api.put(b"k", b"stolen").code == "UNIMPLEMENTED"

    api.close()
    assert_unharmed(serving)


def test_two_nodes_of_different_clusters_pointed_at_each_other_say_so_once_and_live(servers: Servers) -> None:
    ports = servers.ports(2)
    urls = tuple(f"http://127.0.0.1:{port}" for port in ports)
    # Each computes the ids with its own token: n1 is to dial, and n2 to wait for n1.
    tokens = [
        f"token-{n}" for n in range(1000) if member_id(urls[:1], f"token-{n}") < member_id(urls[1:], f"token-{n}")
    ]

    def start(number: int) -> Serving:
        url = urls[number - 1]
        return servers.start(
            *("--name", f"n{number}", "--initial-cluster", f"n1={urls[0]},n2={urls[1]}"),
            *("--listen-peer-urls", url, "--initial-advertise-peer-urls", url),
            *("--initial-cluster-token", tokens[number - 1]),
            data_dir=servers.directory / f"n{number}",
        )

    one, two = start(1).ready(), start(2).ready()

    refused, refuses = two.wait_for("refused a peer"), one.wait_for("refuses us")
    assert "this node is of cluster" in refused
    assert f"n2 at 127.0.0.1:{ports[1]} refuses us: cluster id" in refuses
    # By the time both have told for whom they wait, n1 has dialed several times.
    assert "cluster id" in one.wait_for("waiting for a leader")
    two.wait_for("waiting for a leader")
    for node, what in ((two, "refused a peer"), (one, "refuses us")):
        assert len([line for line in node.lines if what in line]) == 1, node.lines
        api = Api(node.endpoint)
        assert not isinstance(api.kv(rpc_pb2.RangeRequest(key=b"k", serializable=True)), Failed)
        api.close()
        assert node.stop() == 0
        assert not node.strange_lines, node.lines

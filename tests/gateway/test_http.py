"""Methods, paths, headers, sizes and what else is HTTP's."""

from __future__ import annotations

import json
import socket
from itertools import chain

import pytest

from raftkv.gateway.routes import routes
from raftkv.pb.services import methods
from tests.gateway.http import Answer, Both, Http, b64
from tests.server.grpc_api import Api, Failed

RANGE = json.dumps({"key": b64(b"http/key")})


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *((method, "/v3/kv/range") for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD")),
        *(("POST", path) for path in ("/v3/nothing", "/v3/", "/v3/kv/range/", "/v3/kv/range:foo", "/v3alpha/kv/range")),
        *(("POST", path) for path in ("/V3/kv/range", "/v3beta/x", "/nothing", "/", "/v3/kv/rangestream")),
        *(("GET", path) for path in ("/v3/nothing", "/nothing", "/", "/version", "/version/x", "/health", "/health/x")),
        *(("POST", path) for path in ("/version", "/health")),
        *(("HEAD", path) for path in ("/version", "/health")),
        *(("OPTIONS", path) for path in ("/version", "/nothing")),
        ("GET", "/health?serializable=true"),
        ("GET", "/health?exclude=NOSPACE&exclude=&x=1"),
    ],
)  # fmt: skip
def test_methods_and_paths_are_answered_as_by_etcd(both: Both, method: str, path: str) -> None:
    both.ask(method, path, "{}" if method in ("POST", "PUT", "PATCH") else None)


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "nonsense"},
        {"Content-Encoding": "gzip"},
        {"Grpc-Timeout": "10S"},
        {"Grpc-Timeout": "xx"},
        {"Grpc-Timeout": "1n"},
        {"Grpc-Metadata-Hasleader": "true"},
        {"Accept": "text/html"},
        {"Origin": "http://elsewhere.example"},
    ],
)
def test_headers_change_what_they_change_in_etcd_and_nothing_else(both: Both, headers: dict[str, str]) -> None:
    both.post("/v3/kv/range?limit=x", RANGE, headers)


# --- sizes ------------------------------------------------------------------------------------------------------------


def put_of(size: int) -> str:
    return json.dumps({"key": b64(b"http/large"), "value": b64(b"x" * size)})


@pytest.mark.parametrize("size", [1_000_000, 1_600_000, 2_200_000])
def test_a_large_request_is_taken_or_refused_as_by_etcd(both: Both, size: int) -> None:
    """1.5 MiB is the server's limit; gRPC's, in whose words the last is refused, is half a megabyte more."""
    both.post("/v3/kv/put", put_of(size))


def test_a_body_of_any_size_is_refused_before_it_is_read(ours: Http) -> None:
    host, port = ours.address.split(":")
    with socket.create_connection((host, int(port)), timeout=20.0) as connection:
        connection.sendall(b"POST /v3/kv/put HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000000\r\n\r\n{")
        answer = connection.recv(4096)

    assert answer.startswith(b"HTTP/1.1 429 ")
    assert b"grpc: received message larger than max (9000000000 vs. 2097152)" in answer


@pytest.mark.parametrize("server", ["raftkv", "etcd"])
def test_a_client_that_waits_to_be_asked_for_its_body_is(both: Both, server: str) -> None:
    """As curl does before it sends much, for a second."""
    body = json.dumps({"key": b64(b"http/expected")}).encode()
    head = b"POST /v3/kv/put HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body)
    http = both.ours if server == "raftkv" else both.theirs
    host, port = http.address.split(":")
    with socket.create_connection((host, int(port)), timeout=20.0) as connection:
        connection.sendall(head)
        asked = connection.recv(4096)
        connection.sendall(body)
        answer = connection.recv(4096)

    assert asked == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_body_that_is_refused_unseen_is_not_asked_for(ours: Http) -> None:
    host, port = ours.address.split(":")
    head = b"POST /v3/kv/put HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 9000000000\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=20.0) as connection:
        connection.sendall(head)
        answer = connection.recv(4096)

    assert answer.startswith(b"HTTP/1.1 429 ")


def test_a_chunked_body_without_end_is_refused_at_the_limit(ours: Http) -> None:
    host, port = ours.address.split(":")
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    with socket.create_connection((host, int(port)), timeout=20.0) as connection:
        connection.sendall(b"POST /v3/kv/put HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(100):
            connection.sendall(chunk)
        answer = connection.recv(4096)

    assert answer.startswith(b"HTTP/1.1 429 ")
    assert b"vs. 2097152)" in answer


def test_a_long_answer_comes_whole(both: Both) -> None:
    """It is made on another thread; nobody can tell."""
    for http in (both.ours, both.theirs):
        for number in range(20):
            http.put_key(b"http/long/%02d" % number, b"v" * 10_000)

    answer = both.post("/v3/kv/range", {"key": b64(b"http/long/"), "range_end": b64(b"http/long0")})

    assert answer.json["count"] == "20"


@pytest.mark.parametrize(
    "raw",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v3/kv/range HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /v3/kv/range HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 5_000 + b"\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
    ids=lambda raw: raw[:24].decode("ascii", "replace").split("\r\n")[0],
)
def test_what_is_no_http_is_refused_and_does_no_harm(cluster_log: list[str], ours: Http, raw: bytes) -> None:
    host, port = ours.address.split(":")
    with socket.create_connection((host, int(port)), timeout=20.0) as connection:
        try:
            connection.sendall(raw)
            connection.shutdown(socket.SHUT_WR)
            answer = connection.recv(65536)
        except ConnectionError:
            answer = b""

    assert answer == b"" or answer.startswith(b"HTTP/1."), answer[:200]
    assert b" 200 " not in answer.split(b"\r\n")[0]
    assert ours.get("/health").status == 200
    assert not [line for line in cluster_log if "Traceback" in line]


# --- one table for both ways in ---------------------------------------------------------------------------------------


def test_every_route_of_etcds_table_leads_to_its_rpc() -> None:
    """Each RPC of etcd has a route, under both prefixes, but for RangeStream, which has none in etcd either."""
    etcds = {
        method.path
        for service, of_service in methods().items()
        if not service.startswith("raftkv.")
        for method in of_service.values()
    }
    found = routes()
    assert {method.path for method in found.values()} == etcds - {"/etcdserverpb.KV/RangeStream"}
    assert {path.removeprefix("/v3beta/") for path in found if path.startswith("/v3beta/")} == {
        path.removeprefix("/v3/") for path in found if path.startswith("/v3/")
    }


# Those that wait, or never end, when they are asked for nothing in particular.
PATIENT = {"Watch", "Observe", "Campaign", "Lock", "LeaseKeepAlive", "Snapshot"}
UNARY = sorted({(method.service, method.name) for method in routes().values() if method.name not in PATIENT})


@pytest.mark.parametrize(("service", "name"), UNARY, ids=lambda part: part)
def test_an_empty_request_is_answered_as_over_grpc(ours: Http, over_grpc: Api, service: str, name: str) -> None:
    """What is not built yet too: 501, code 12."""
    path = next(path for path, method in routes().items() if (method.service, method.name) == (service, name))
    method = methods()[service][name]

    over_grpc.call(service, name, method.request_type())  # A compaction succeeds once, at most.
    answer = ours.post(path, {})
    expected = over_grpc.call(service, name, method.request_type())

    if isinstance(expected, Failed):
        assert answer.json["message"] == answer.json["error"] == expected.text
        assert (expected.code == "UNIMPLEMENTED") == (answer.status == 501) == (answer.json["code"] == 12)
    else:
        assert answer.status == 200
        assert set(answer.json) <= {field.name for field in method.response_type.DESCRIPTOR.fields}


@pytest.mark.parametrize("name", sorted(PATIENT))
def test_no_route_is_unknown(ours: Http, name: str) -> None:
    path = next(path for path, method in routes().items() if method.name == name)
    assert ours.post(path, "{") != Answer(404, b"Not Found\n", {})


def test_our_own_services_have_no_route(ours: Http) -> None:
    for path in chain(
        ("/raftkv.store.Store/Batches", "/raftkv.store.Store/OpenSession", "/etcdserverpb.KV/Range"),
        ("/v3/store/batch", "/v3/kv/batch"),
    ):
        assert ours.post(path, {}).status == 404

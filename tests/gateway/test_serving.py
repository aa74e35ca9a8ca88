"""The ports of a node: when they are there, when they are not, and how they close."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.gateway.http import Http, b64
from tests.server.process import Servers, Serving, servers_in, wait_until


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Servers, Serving, list[Http]]]:
    """A node with two gateway ports, told to it by its environment, and one for metrics."""
    with servers_in(tmp_path_factory.mktemp("serving")) as servers:
        first, second, metrics = (f"http://127.0.0.1:{port}" for port in servers.ports(3))
        serving = servers.start(
            "--listen-metrics-urls", metrics, environment={"ETCD_LISTEN_CLIENT_HTTP_URLS": f"{first},{second}"}
        ).ready()
        yield servers, serving, [Http(url) for url in (first, second, metrics)]


def test_without_the_flags_nothing_of_it_is_even_imported() -> None:
    code = "import sys, raftkv.cli.serve; print([m for m in ('aiohttp', 'prometheus_client') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_the_metrics_port_has_metrics_and_health_and_nothing_else(
    shared: tuple[Servers, Serving, list[Http]],
) -> None:
    metrics = shared[2][2]

    assert metrics.get("/metrics").status == 200
    wait_until(lambda: metrics.get("/health").json == {"health": "true"})
    for path in ("/version", "/livez", "/v3/kv/range", "/"):
        assert (metrics.get(path).status, metrics.get(path).text) == (404, "404 page not found\n")
    assert metrics.post("/v3/kv/range", {}).status == 404


def test_several_urls_lead_to_the_same_node(shared: tuple[Servers, Serving, list[Http]]) -> None:
    first, second, _ = shared[2]

    first.put_key(b"k", b"v")
    assert second.post("/v3/kv/range", {"key": b64(b"k")}).json["count"] == "1"


@pytest.mark.parametrize("flag", ["--listen-client-http-urls", "--listen-metrics-urls"])
def test_a_port_that_is_taken_stops_the_start_with_one_line(
    shared: tuple[Servers, Serving, list[Http]], flag: str
) -> None:
    servers, _, (first, *_) = shared
    refused = servers.start(flag, first.url, data_dir=servers.directory / f"refused{flag}").refusal()
    assert refused == f"{flag}: cannot listen on {first.url}: Address already in use"


def test_one_port_for_two_things_is_refused(servers: Servers) -> None:
    url = "http://127.0.0.1:7"
    line = servers.run("--listen-client-http-urls", url, "--listen-metrics-urls", url).refusal(code=2)
    assert line.startswith(f"--listen-metrics-urls: {url} is taken by --listen-client-http-urls")


def test_a_stopping_node_ends_its_streams_with_a_word_and_closes_its_ports(
    shared: tuple[Servers, Serving, list[Http]],
) -> None:
    _, serving, (http, second, metrics) = shared
    body = json.dumps({"create_request": {"key": b64(b"k")}})

    with http.open("POST", "/v3/watch", body) as watch, second.open("GET", "/version") as idle:
        watch.readline()
        idle.read()  # A connection that is kept alive holds nothing up.
        assert serving.stop() == 0
        last = json.loads(watch.readline())

    assert last["error"]["message"] == "etcdserver: server stopped"
    assert last["error"]["grpc_code"] == 14
    assert not serving.strange_lines
    for closed in (http, second, metrics):
        with pytest.raises(ConnectionError):
            closed.get("/health")

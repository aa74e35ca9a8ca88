"""/health, /livez, /readyz and /version: of a node that is well, and of one that is not."""

from __future__ import annotations

import pytest

from tests.gateway.http import Http
from tests.server.process import Servers, wait_until

READY = "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner ok\nok\n"  # etcd 3.6's words


def test_a_node_that_is_well_is_live_and_ready(ours: Http) -> None:
    for path in ("/livez", "/readyz", "/readyz?exclude=linearizable_read&exclude=nonsense", "/readyz/non_learner"):
        answer = ours.get(path)
        assert (answer.status, answer.text, answer.content_type) == (200, "ok\n", "text/plain; charset=utf-8")


def test_what_was_checked_is_told_if_asked(ours: Http) -> None:
    assert ours.get("/readyz?verbose").text == READY
    assert ours.get("/livez?verbose=x").text == "[+]serializable_read ok\nok\n"
    assert ours.get("/readyz?verbose&exclude=linearizable_read&exclude=data_corruption").text == (
        "[+]serializable_read ok\n[+]non_learner ok\nok\n"
    )
    assert ours.get("/readyz/linearizable_read?verbose").text == "[+]linearizable_read ok\nok\n"


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/readyz/non_learner"])
def test_a_probe_is_a_get(ours: Http, path: str) -> None:
    answer = ours.ask("POST", path, "{}")
    assert (answer.status, answer.headers["allow"]) == (405, "GET")


@pytest.mark.parametrize("path", ["/livez/", "/livez/linearizable_read", "/readyz/nonsense"])
def test_a_check_that_does_not_exist_is_not_found(ours: Http, path: str) -> None:
    assert ours.get(path).status == 404


def test_a_node_alone_of_three_is_live_but_neither_ready_nor_healthy(servers: Servers) -> None:
    (port,) = servers.ports(1)
    url = f"http://127.0.0.1:{port}"
    servers.alone_of_three("--listen-client-http-urls", url).ready()
    http = Http(url)

    wait_until(lambda: http.get("/health").status == 503)
    health = http.get("/health")
    assert (health.text, health.content_type) == ('{"health":"false"}\n', "text/plain; charset=utf-8")
    assert health.headers["x-content-type-options"] == "nosniff"
    assert http.get("/health?serializable=true").json == {"health": "true"}
    assert http.get("/livez").text == "ok\n"
    ready = http.get("/readyz")
    assert ready.status == 503
    assert "[+]serializable_read ok\n[-]linearizable_read failed: etcdserver: " in ready.text
    excluded = http.get("/readyz?exclude=linearizable_read&exclude=data_corruption")
    assert (excluded.status, excluded.text) == (200, "ok\n")
    assert http.get("/version").json == {"etcdserver": "3.4.23", "etcdcluster": "not_decided"}

    refused = http.post("/v3/kv/put", {"key": "YQ=="}, {"Grpc-Timeout": "1S"})
    assert refused.status in (503, 504)
    assert refused.json["code"] in (14, 4)

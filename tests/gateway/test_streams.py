"""Streams as lines: watches, beside etcd's; and what becomes of them when somebody goes away."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable
from http.client import HTTPResponse
from typing import Any

import pytest

from raftkv.gateway.routes import routes
from raftkv.pb import rpc_pb2
from tests.gateway.http import Both, Http, b64
from tests.server.process import wait_until


def create(key: bytes, **options: Any) -> str:
    return json.dumps({"create_request": {"key": b64(key), **options}})


def test_a_watch_tells_of_the_past_and_then_of_the_present_as_etcds_does(both: Both) -> None:
    for http in (both.ours, both.theirs):
        begin = http.put_key(b"stream/k", b"1").json["header"]["revision"]
        http.put_key(b"stream/k", b"2")
    told = []
    for http in (both.ours, both.theirs):
        with http.open("POST", "/v3/watch", create(b"stream/k", start_revision=begin, prev_kv=True)) as response:
            assert response.getheader("Content-Type") == "application/json"
            assert response.getheader("Grpc-Metadata-Content-Type") == "application/grpc"
            events = events_of(response, 2)
            http.put_key(b"stream/k", b"3")
            http.post("/v3/kv/deleterange", {"key": b64(b"stream/k")})
            told.append(events + events_of(response, 2))

    assert told[0] == told[1]
    assert [event.get("type", "PUT") for event in told[0]] == ["PUT", "PUT", "PUT", "DELETE"]
    assert "prev_kv" in told[0][1]


def events_of(response: HTTPResponse, count: int) -> list[Any]:
    """So many events; how they are spread over messages is the server's affair."""
    events: list[Any] = []
    while len(events) < count:
        events += json.loads(response.readline())["result"].get("events", [])
    assert len(events) == count
    return events


def test_several_requests_of_one_stream_are_answered_in_their_order(both: Both) -> None:
    """Behind each other in the body, with or without space between them; what is no request ends them silently."""
    body = (
        create(b"stream/several", watch_id="7")
        + create(b"stream/several", watch_id="7")
        + ' \n{"progress_request":{}}{"nope":1}{"cancel_request":{"watch_id":"7"}} garbage '
        + create(b"stream/never")
    )
    lines = both.lines("/v3/watch", body, 4)

    assert [line["result"].get("watch_id") for line in lines] == ["7", "-1", "-1", "7"]


def test_a_watch_from_a_compacted_revision_is_canceled_as_by_etcd(both: Both) -> None:
    for http in (both.ours, both.theirs):
        http.put_key(b"stream/old", b"1")
        revision = http.put_key(b"stream/old", b"2").json["header"]["revision"]
        http.post("/v3/kv/compaction", {"revision": revision})

    lines = both.lines("/v3/watch", create(b"stream/old", start_revision="1"), 2)

    assert lines[1]["result"]["canceled"] is True


@pytest.mark.parametrize("text", ["{", "[]", '{"create_request":5}', '{"create_request":{"key":"x"}}', "zz"])
def test_a_stream_that_begins_with_a_mistake_is_refused_as_by_etcd(both: Both, text: str) -> None:
    assert both.post("/v3/watch", text).status == 500


def test_a_deadline_ends_a_stream_with_an_error_in_its_last_line(ours: Http) -> None:
    """As by etcd most of the time; now and then that says code 2, by a race of its own."""
    lines = ours.lines("/v3/watch", create(b"stream/short"), 2, {"Grpc-Timeout": "1S"})

    assert lines[1] == {
        "error": {
            "grpc_code": 4,
            "http_code": 504,
            "message": "context deadline exceeded",
            "http_status": "Gateway Timeout",
        }
    }


def test_a_stream_needs_no_end_of_its_requests(ours: Http) -> None:
    """A chunked body that stays open: the first request is answered at once, and the second when it comes."""
    host, port = ours.address.split(":")
    with socket.create_connection((host, int(port)), timeout=20.0) as connection:
        file = connection.makefile("rb")
        connection.sendall(b"POST /v3/watch HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        send_chunk(connection, create(b"stream/open", watch_id="3"))
        assert result_of(file)["watch_id"] == "3"
        send_chunk(connection, '{"cancel_request":')
        send_chunk(connection, '{"watch_id":"3"}}')
        assert result_of(file)["canceled"] is True


def send_chunk(connection: socket.socket, text: str) -> None:
    connection.sendall(b"%x\r\n%s\r\n" % (len(text), text.encode()))


def result_of(file: Any) -> Any:
    while not (line := file.readline()).startswith(b"{"):
        assert line, "the stream has ended"
    return json.loads(line)["result"]


def test_a_client_that_goes_away_takes_its_watch_with_it(ours: Http) -> None:
    before = watchers(ours)
    with ours.open("POST", "/v3/watch", create(b"stream/gone")) as response:
        response.readline()
        assert watchers(ours) == before + 1

    wait_until(lambda: watchers(ours) == before)


def test_clients_that_break_off_while_much_is_sent_to_them_leave_no_trace(
    ours: Http, cluster_log: Iterable[str]
) -> None:
    for number in range(5):
        with ours.open("POST", "/v3/watch", create(b"stream/broken")) as response:
            response.readline()
            for _ in range(3 * number):
                ours.put_key(b"stream/broken", b"x" * 100_000)

    wait_until(lambda: watchers(ours) == 0)
    assert not [line for line in cluster_log if "Traceback" in line or "ERROR" in line]


def watchers(http: Http) -> float:
    lines = http.get("/metrics").text.splitlines()
    (line,) = [line for line in lines if line.startswith("etcd_debugging_mvcc_watcher_total ")]
    return float(line.split()[1])


def test_a_client_that_does_not_read_holds_up_nobody_and_is_given_all_in_the_end(ours: Http) -> None:
    """24 MB are put while it sleeps; in between it is bounded by its socket and the watch's own limits."""
    count, value = 60, b"x" * 400_000
    with ours.open("POST", "/v3/watch", create(b"stream/slow")) as response:
        response.readline()
        for number in range(count):
            ours.put_key(b"stream/slow", value[: len(value) - number])
        versions = [int(event["kv"]["version"]) for event in events_of(response, count)]

    assert versions == list(range(1, count + 1))


def test_the_snapshot_and_observe_routes_are_streams() -> None:
    """Whatever they answer now, their answers are lines when there are any."""
    streams = {path for path, method in routes().items() if method.server_streaming and path.startswith("/v3/")}
    assert streams == {"/v3/watch", "/v3/lease/keepalive", "/v3/maintenance/snapshot", "/v3/election/observe"}
    assert rpc_pb2.SnapshotResponse is routes()["/v3/maintenance/snapshot"].response_type

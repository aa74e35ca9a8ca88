"""A node's flight record, as it is asked for and as it lies on the disk."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from raftkv.lab.cluster import LocalCluster
from raftkv.pb import flight_pb2
from raftkv.storage.flight_file import read_lines
from tests.server.grpc_api import Api
from tests.server.process import Servers, Serving, wait_until


def record(api: Api, *, bytes_max: int = 0) -> flight_pb2.RecordResponse:
    answer = api.call("raftkv.flight.Flight", "Record", flight_pb2.RecordRequest(bytes_max=bytes_max))
    assert isinstance(answer, flight_pb2.RecordResponse), answer
    return answer


def events(lines: list[bytes]) -> list[dict[str, Any]]:
    return [event for line in lines if (event := json.loads(line))["kind"] != "record"]


@contextmanager
def api_of(serving: Serving) -> Iterator[Api]:
    api = Api(serving.endpoint)
    yield api
    api.close()


def kinds(api: Api) -> list[str]:
    return [event["kind"] for event in events(list(record(api).lines))]


def leads(api: Api) -> bool:
    """Whether this run has recorded a leader yet."""
    seen = kinds(api)
    return "leader" in seen[len(seen) - seen[::-1].index("start") :]


def test_a_node_tells_who_it_is_what_time_it_has_and_whom_else_to_ask(
    cluster: LocalCluster, nodes: dict[str, Api]
) -> None:
    before = time.time()

    answer = record(nodes["n2"])

    assert answer.name == "n2"
    assert before <= answer.clock <= time.time()
    assert {member.name for member in answer.members} == set(cluster.names)
    assert answer.header.member_id in {member.ID for member in answer.members if member.name == "n2"}


def test_every_node_recorded_who_leads(node: Api, cluster: LocalCluster) -> None:
    def last_leader() -> str:
        leaders = [event for event in events(list(record(node).lines)) if event["kind"] == "leader"]
        return leaders[-1]["leader"] if leaders else "nobody"

    wait_until(lambda: last_leader() == cluster.leader(deadline_s=5.0))


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_an_answer_is_as_long_as_it_may_be_and_says_that_it_was_cut(node: Api, share: float) -> None:
    """A node with a quiet life has few lines."""
    wait_until(lambda: len(record(node).lines) > 1)
    bytes_max = 1 + int(share * sum(map(len, record(node).lines)))

    answer = record(node, bytes_max=bytes_max)

    assert sum(len(line) + 1 for line in answer.lines) <= bytes_max
    assert answer.is_cut
    assert not answer.lines or answer.lines[-1] in record(node).lines


def test_a_node_without_a_leader_answers(servers: Servers) -> None:
    serving = servers.alone_of_three().ready()
    with api_of(serving) as api:
        wait_until(lambda: "campaign" in kinds(api))

        campaign = next(e for e in events(list(record(api).lines)) if e["kind"] == "campaign")

    assert campaign["cause"] == "silence"
    assert set(campaign["links"]) == {"n2", "n3"}
    assert "up" not in campaign["links"].values()


def test_a_start_tells_whether_the_run_before_was_stopped(servers: Servers) -> None:
    endings = []
    data_dir = servers.directory / "data"
    for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGTERM):
        serving = servers.start(data_dir=data_dir).ready()
        with api_of(serving) as api:
            wait_until(lambda api=api: leads(api))
            starts = [event for event in events(list(record(api).lines)) if event["kind"] == "start"]
        endings.append((starts[-1].get("previous") or {}).get("ended"))
        serving.stop(number)

    assert endings == [None, "stopped", "without a stop"]
    assert [e["kind"] for e in events(read_lines(data_dir)) if e["kind"] in ("start", "stopping", "stopped")] == [
        *("start", "stopping", "stopped", "start", "start", "stopping", "stopped")
    ]


def test_events_are_numbered_through_all_runs(servers: Servers) -> None:
    data_dir = servers.directory / "data"
    for _ in range(3):
        serving = servers.start(data_dir=data_dir).ready()
        with api_of(serving) as api:
            wait_until(lambda api=api: leads(api))
        serving.stop(signal.SIGKILL)

    numbers = [event["seq"] for event in events(read_lines(data_dir))]

    assert numbers == list(range(1, len(numbers) + 1))


def test_a_record_that_cannot_be_written_does_not_keep_a_node_from_starting(servers: Servers) -> None:
    data_dir = servers.directory / "data"
    servers.start(data_dir=data_dir).ready().stop()
    for path in (data_dir / "flight").iterdir():
        path.unlink()
    (data_dir / "flight").rmdir()
    (data_dir / "flight").write_bytes(b"in the way")

    serving = servers.start(data_dir=data_dir).ready()

    serving.wait_for("the flight record cannot be kept on disk, and is in memory only")
    with api_of(serving) as api:
        api.put(b"k", b"v")
        wait_until(lambda: leads(api))
    assert serving.stop() == 0

from __future__ import annotations

from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks import throughput


def row(system: str, client: str, per_s: float) -> dict[str, Any]:
    return {
        "operation": "put",
        "generator": "client",
        "size": "64",
        "system": system,
        "client": client,
        "per_s": {"median": per_s, "min": per_s, "max": per_s},
    }


def test_the_ratio_is_to_the_other_systems_faster_client() -> None:
    rows = [row("raftkv", "client", 3000), row("etcd", "grpc", 1500), row("etcd", "client", 1000)]

    assert throughput.ratios(rows) == {"put client 64": 2.0}


def test_there_is_no_ratio_without_another_system() -> None:
    assert throughput.ratios([row("raftkv", "client", 3000)]) == {}


def test_h2load_does_only_what_it_can_send() -> None:
    found = throughput.cases_of(["put", "txn"], ["client", "h2load"], [1, 64], [(64, 4)])

    assert [(case.operation, case.generator, case.size) for case in found] == [
        ("put", "client", "1"),
        ("put", "client", "64"),
        ("put", "h2load", "64x4"),
        ("txn", "client", "1"),
        ("txn", "client", "64"),
    ]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--callers", "1,x"], "'1,x' is not a list of numbers such as 1,16,64"),
        (["--callers", "0"], "0 is less than 1"),
        (["--connections", "64x0"], "'64x0' is not a list of connections and streams such as 1x1,64x4"),
        (["--generator", "h2load", "--operation", "txn"], "h2load does only put, get, get-serializable"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(arguments: list[str], text: str) -> None:
    found = CliRunner().invoke(throughput.main, arguments)

    assert found.exit_code != 0
    assert text in found.output

from __future__ import annotations

import pytest

from benchmarks import h2load
from raftkv.pb import rpc_pb2

ENDING = """
finished in 3.00s, 2574.50 req/s, 205.03KB/s
requests: 5152 total, 5151 started, 5150 done, 5149 succeeded, 2 failed, 1 errored, 0 timeout
status codes: 5149 2xx, 0 3xx, 0 4xx, 1 5xx
"""


def test_the_counts_are_read_from_what_h2load_prints_at_its_end() -> None:
    assert h2load.parse_summary(ENDING) == h2load.Counts(succeeded=5149, failed=2)


def test_an_end_without_counts_is_an_error_that_shows_it() -> None:
    with pytest.raises(h2load.H2loadError, match="-D: value error"):
        h2load.parse_summary("-D: value error 0.5\n")


def test_the_log_gives_seconds_and_leaves_out_what_was_not_answered_with_200() -> None:
    log = ["1795647185514244\t200\t3084", "1795647185514245\t503\t3153", "1795647185514300\t-1\t1"]

    assert h2load.parse_log(log) == [(1795647185.514244, 0.003084)]


def test_a_request_is_framed_as_grpc_frames_it() -> None:
    method, message = h2load.request_of("put")
    body = h2load.framed(message)

    assert method == "/etcdserverpb.KV/Put"
    assert body[:5] == b"\0" + len(message).to_bytes(4, "big")
    put = rpc_pb2.PutRequest.FromString(body[5:])
    assert (len(put.key), len(put.value)) == (16, 256)


@pytest.mark.parametrize(("connections", "shares"), [(1, [1, 0, 0]), (64, [22, 21, 21]), (3, [1, 1, 1])])
def test_connections_are_shared_out_over_endpoints(connections: int, shares: list[int]) -> None:
    assert h2load.shares_of(connections, 3) == shares

"""The Drill service of a real node: absent unless asked for, bounded in time, one fault at a time."""

from __future__ import annotations

import pytest

from raftkv.pb.drill_pb2 import BreakRequest, Fault, HealRequest
from tests.server.grpc_api import Api, Failed
from tests.server.process import Servers, wait_until

DRILL = "raftkv.drill.Drill"


def test_a_node_does_not_break_itself_unless_drills_are_enabled(servers: Servers) -> None:
    serving = servers.start().ready()
    api = Api(serving.endpoint)

    refused = api.call(DRILL, "Break", BreakRequest(fault=Fault.CRASH, duration_ms=1000))

    assert isinstance(refused, Failed)
    assert refused.code == "UNIMPLEMENTED"
    assert isinstance(api.put(b"a", b"b").header.revision, int)
    api.close()


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (BreakRequest(fault=Fault.CUT), "1 to 60000 ms, not 0"),
        (BreakRequest(fault=Fault.CUT, duration_ms=60_001), "1 to 60000 ms, not 60001"),
        (BreakRequest(fault=99, duration_ms=1), "knows no fault 99"),
    ],
    ids=["no duration", "too long", "unknown"],
)
def test_a_bad_request_breaks_nothing(servers: Servers, request_: BreakRequest, says: str) -> None:
    serving = servers.start("--enable-drills").ready()
    api = Api(serving.endpoint)

    refused = api.call(DRILL, "Break", request_)

    assert isinstance(refused, Failed)
    assert says in refused.text
    assert api.call(DRILL, "Heal", HealRequest()).healed == Fault.NONE
    api.close()


def test_one_fault_at_a_time_and_healing_ends_it(servers: Servers) -> None:
    serving = servers.start("--enable-drills").ready()
    api = Api(serving.endpoint)
    api.put(b"a", b"1")
    api.call(DRILL, "Break", BreakRequest(fault=Fault.DISK_STALL, duration_ms=60_000))

    second = api.call(DRILL, "Break", BreakRequest(fault=Fault.CUT, duration_ms=1000))
    stalled = api.put(b"a", b"2", timeout_s=0.5)
    healed = api.call(DRILL, "Heal", HealRequest())

    assert isinstance(second, Failed)
    assert "DISK_STALL is on" in second.text
    assert isinstance(stalled, Failed)
    assert healed.healed == Fault.DISK_STALL
    assert not isinstance(api.put(b"a", b"3"), Failed)
    api.close()


def test_a_hang_ends_by_itself(servers: Servers) -> None:
    serving = servers.start("--enable-drills").ready()
    api = Api(serving.endpoint)
    api.put(b"a", b"1")
    api.call(DRILL, "Break", BreakRequest(fault=Fault.HANG, duration_ms=1500))

    wait_until(lambda: isinstance(api.put(b"a", b"2", timeout_s=0.2), Failed))

    assert not isinstance(api.put(b"a", b"3"), Failed)
    api.close()


def test_a_crash_is_one(servers: Servers) -> None:
    serving = servers.start("--enable-drills").ready()
    api = Api(serving.endpoint)

    api.call(DRILL, "Break", BreakRequest(fault=Fault.CRASH, duration_ms=1000))

    assert serving.exit_code() == -9
    api.close()

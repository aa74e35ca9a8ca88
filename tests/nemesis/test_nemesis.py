"""A few rounds of the nemesis, one for each kind of fault. `make nemesis` plays as many as there is time for."""

from __future__ import annotations

import pytest

from raftkv.lab.cluster import LocalCluster
from raftkv.lab.history import Operation
from tests.nemesis import disks
from tests.nemesis.faults import FAULTS, SCENARIOS
from tests.nemesis.rounds import play

DISKS = "disks are slow"
ROUNDS = {
    "processes die": ["kill-one", "kill-leader", "kill-majority", "kill-and-start"],
    "processes hang": ["pause-one", "pause-leader", "pause-majority"],
    "links fail": ["cut-off-leader", "leader-is-deaf", "leader-is-mute", "bridge", "shatter"],
    "all is well, more or less": ["stop-leader", "compact", "delay", "flap", "move-leader"],
    DISKS: ["slow-disk", "hung-disk"],
    "members go and come": ["replace-one", "replace-leader"],
    "members are missing": ["remove-one", "learner"],
}


@pytest.fixture(scope="module")
def carried() -> list[Operation]:
    """Writes of unknown outcome: they may come as late as in another round."""
    return []


@pytest.mark.parametrize("kind", ROUNDS)
def test_whatever_fails_the_history_is_linearizable_and_the_nodes_agree(
    cluster: LocalCluster, carried: list[Operation], kind: str
) -> None:
    if kind == DISKS and not disks.is_possible():
        pytest.skip("no strace, or no tracing here: disks cannot be held up")
    result = play(cluster, kind.replace(" ", "-"), faults=ROUNDS[kind], carried=carried, longest_hold_s=1.0)

    carried += result.unknown
    assert result.problem is None, f"{result.did}: {result.problem}"
    assert sum(operation.known for operation in result.history) >= 200


def test_the_scenarios_leave_no_fault_out() -> None:
    assert {fault for faults in SCENARIOS.values() for fault in faults} == set(FAULTS)

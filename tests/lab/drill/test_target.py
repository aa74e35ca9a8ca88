"""When a cluster is taken for healthy."""

from __future__ import annotations

import pytest

from raftkv.lab.drill import target as target_module
from raftkv.lab.drill.options import DrillError
from raftkv.lab.drill.target import Member, Target, require_healthy
from raftkv.lab.probe import NodeAnswer

TARGET = Target(
    cluster_id=1,
    members=tuple(Member(name=f"n{at}", member_id=at, endpoint=f"127.0.0.1:{at}") for at in (1, 2, 3)),
)


def answers(**leaders: int) -> dict[str, NodeAnswer | str]:
    """Whom each node follows."""
    return {
        name: NodeAnswer(
            member_id=int(name[1:]), leader_id=leader, term=3, revision=1, applied_index=1, version="", bytes_on_disk=0
        )
        for name, leader in leaders.items()
    }


def test_an_election_under_way_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = iter([answers(n1=0, n2=0, n3=2), answers(n1=0, n2=2, n3=2), answers(n1=2, n2=2, n3=2)])
    monkeypatch.setattr(target_module.probe, "statuses", lambda _endpoints, *, deadline_s: next(seen))

    assert require_healthy(TARGET) == "n2"


@pytest.mark.parametrize(
    ("leaders", "says"),
    [
        ({"n1": 2, "n2": 2, "n3": 0}, "n3 knows no leader"),
        ({"n1": 0, "n2": 2, "n3": 0}, "n1, n3 know no leader"),
        ({"n1": 1, "n2": 2, "n3": 2}, "the nodes do not agree on who leads"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_one_without_an_end_is_not(monkeypatch: pytest.MonkeyPatch, leaders: dict[str, int], says: str) -> None:
    monkeypatch.setattr(target_module.probe, "statuses", lambda _endpoints, *, deadline_s: answers(**leaders))
    monkeypatch.setattr(target_module, "SETTLED_S", 0.1)

    with pytest.raises(DrillError) as refused:
        require_healthy(TARGET)

    assert str(refused.value) == f"the cluster is not healthy, and a drill would make it worse: {says}"


def test_how_long_an_election_is_waited_for_can_be_said(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = iter([answers(n1=0, n2=0, n3=0)] * 3 + [answers(n1=2, n2=2, n3=2)])
    monkeypatch.setattr(target_module.probe, "statuses", lambda _endpoints, *, deadline_s: next(seen))
    monkeypatch.setattr(target_module, "SETTLED_S", 0.0)

    assert require_healthy(TARGET, 10.0) == "n2"

"""Bugs of the rules about fitness to lead. Number 0: they belong to this design. See `known_bugs`.

Two of fast failover were planted and not caught in 150 seeds, because clocks differ and faults end: candidates that all take the
first turn, and timeouts that stretch without a ceiling. Named tests of the core hold them (`tests/raft/test_timeouts.py`).
"""

from __future__ import annotations

from typing import Any

from raftkv.raft.leader import Leader
from raftkv.raft.notices import Loss
from raftkv.raft.progress import Progress
from raftkv.raft.replication import Replication
from raftkv.raft.state import State
from tests.sim.planting import Planter, bug


@bug(0)
def who_is_unfit_never_campaigns(plant: Planter) -> None:
    original: Any = State.__dict__["election_timed_out"].fget
    plant(State, "election_timed_out", property(lambda self: original(self) and not self.severity))


@bug(0)
def equally_unfit_nodes_hand_over_for_ever(plant: Planter) -> None:
    def is_fitter(self: Replication, progress: Progress, severity_below: int) -> bool:
        return progress.severity is not None and progress.severity <= severity_below

    plant(Replication, "_is_fitter", is_fitter)


@bug(0)
def unfit_leader_resigns_although_nobody_is_fitter(plant: Planter) -> None:
    def yield_if_unfit(self: Leader, state: State) -> Any:
        return self._resign(state, Loss.UNFIT) if state.severity else None

    plant(Leader, "_yield_if_unfit", yield_if_unfit)

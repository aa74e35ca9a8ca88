"""What one seed suffers from. Rates differ by orders of magnitude between seeds, and most faults are off in many of them: some
bugs show only where little else goes wrong (swarm testing, Groce et al. 2012).

Times are microseconds of virtual time.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

MS = 1000
TICK = 10 * MS
ELECTION_TIMEOUT_TICKS = 10
ELECTION_TIMEOUT = ELECTION_TIMEOUT_TICKS * TICK
SAFETY_TIME = 200 * TICK


@dataclass(frozen=True, kw_only=True, slots=True)
class Swarm:
    voters: int
    spares: int
    """Nodes that belong to no cluster until a membership change takes them in."""
    loss: float
    double: float
    delay: int
    late: float
    """Share of messages that arrive `late_delay` later: reordering."""
    late_delay: int
    save_delay: int
    apply_delay: int
    commit_interval: int
    """Between two durable commits of a state machine."""
    skew: float
    """Clocks tick up to this much slower than the fastest."""
    fault_interval: int
    faults: tuple[tuple[str, float], ...]
    """Name of a fault and its weight."""
    put_interval: int
    read_interval: int
    retained: int
    """Applied entries kept in the log for followers that lag."""
    append_bytes_max: int
    inflight_appends_max: int
    committed_bytes_max: int
    uncommitted_bytes_max: int
    repropose_ticks: int


FAULTS = {
    "crash": 4.0,
    "crash_leader": 2.0,
    "isolate": 3.0,
    "isolate_leader": 2.0,
    "split": 2.0,
    "bridge": 1.0,
    "cut_one_way": 3.0,
    "heal": 4.0,
    "pause": 2.0,
    "pause_leader": 2.0,
    "member": 5.0,
    "transfer": 2.0,
    "unreachable": 1.0,
    "leader_gone": 1.0,
    "slow_disk": 1.0,
    "compact": 1.0,
}


def draw(rng: random.Random) -> Swarm:
    """The swarm of a seed."""
    choice = rng.choice
    has_changes = rng.random() < 0.5
    faults = {name: weight * choice((0.3, 1, 3)) for name, weight in FAULTS.items() if rng.random() < 0.6}
    if has_changes:
        faults["member"] = FAULTS["member"] * choice((0.5, 2))
    else:
        faults.pop("member", None)
    if any(name in faults for name in ("isolate", "isolate_leader", "split", "bridge", "cut_one_way")):
        faults["heal"] = FAULTS["heal"] * choice((0.5, 1, 3))
    swarm = Swarm(
        voters=choice((1, 2, 2, 3, 3, 3, 3, 4, 5)),
        spares=choice((1, 2)) if has_changes else 0,
        loss=choice((0.0, 0.0, 0.02, 0.1, 0.3)),
        double=choice((0.0, 0.0, 0.05, 0.2, 0.5)),
        delay=choice((200, 1 * MS, 5 * MS, 20 * MS)),
        late=choice((0.0, 0.0, 0.02, 0.2)),
        late_delay=choice((10 * MS, 100 * MS, 400 * MS)),
        save_delay=choice((100, 2 * MS, 10 * MS, 40 * MS)),
        apply_delay=choice((100, 1 * MS, 20 * MS)),
        commit_interval=choice((20 * MS, 100 * MS, 500 * MS)),
        skew=choice((0.0, 0.1, 0.4)),
        fault_interval=choice((20 * MS, 60 * MS, 60 * MS, 200 * MS)),
        faults=tuple(sorted(faults.items())),
        put_interval=choice((5 * MS, 12 * MS, 30 * MS)),
        read_interval=choice((10 * MS, 30 * MS, 100 * MS)),
        retained=choice((0, 5, 30, 1000)),
        append_bytes_max=choice((150, 400, 1 << 20)),
        inflight_appends_max=choice((1, 3, 8)),
        committed_bytes_max=choice((100, 1 << 20)),
        uncommitted_bytes_max=choice((600, 1 << 20, 1 << 20)),
        repropose_ticks=choice((30, 60)),
    )
    if rng.random() < 0.4:  # Drawn last: the rest of a seed's swarm is what it was before there was sickness.
        swarm = replace(swarm, faults=(*swarm.faults, ("sicken", choice((0.5, 2.0, 6.0)))))
    return swarm

"""What a seed of tier two suffers from besides what tier one knows: sick disks, broken streams, sizes of real files."""

from __future__ import annotations

import random
from dataclasses import dataclass

from tests.sim.swarm import MS


@dataclass(frozen=True, kw_only=True, slots=True)
class Afflictions:
    power: float
    """Share of crashes that take the power away: what was not synced may be gone. The others kill the process alone."""
    torn: float
    """Share of crashes that come in the middle of the log's next write."""
    evidence: float
    """Share of deaths that the others notice before they miss anything."""
    stream_breaks: float
    """Share of snapshots that do not arrive, or whose arrival is not learnt of."""
    segment_bytes: int
    log_bytes_retained: int
    commit_interval_s: float
    commit_operations: int
    compact_records: int
    job_delay: int
    """Until another thread has done something: copied a snapshot, hashed a state."""
    watchdog_s: float
    """A node whose disk, state machine or loop takes longer than this finds itself unfit to lead."""
    recovery_s: float
    """And for so long after it is well again."""
    is_managed: bool
    """Members change as operators change them, by the member table; else in any way that a core takes."""
    client_pause: int
    clients: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Leasing:
    """Who holds leases. It has dice of its own: the rest of a seed is what it is without leases."""

    seed: str
    owners: int
    """0: nobody, and no time passes by the log."""
    has_keys: bool

    @property
    def makes_revisions(self) -> bool:
        """Revisions that no recorded client has asked for."""
        return self.owners > 0 and self.has_keys


def draw_leasing(seed: int) -> Leasing:
    name = f"leases of {seed}"
    rng = random.Random(name)
    return Leasing(seed=name, owners=rng.choice((0, 0, 2, 4)), has_keys=rng.random() < 0.5)


EXTRA_FAULTS = {"disk_error": 1.0, "disk_hangs": 1.0, "compact_keys": 2.0, "crash_installing": 2.0}


def draw_afflictions(rng: random.Random) -> Afflictions:
    choice = rng.choice
    return Afflictions(
        power=choice((0.0, 0.5, 1.0)),
        torn=choice((0.0, 0.3, 0.8)),
        evidence=choice((0.0, 0.5, 1.0)),
        stream_breaks=choice((0.0, 0.0, 0.3, 0.6)),
        segment_bytes=choice((1024, 4096, 16384)),
        log_bytes_retained=choice((200, 1000, 5000, 1 << 20)),
        commit_interval_s=choice((0.02, 0.1, 0.5)),
        commit_operations=choice((5, 10_000)),
        compact_records=choice((3, 500)),
        job_delay=choice((1 * MS, 10 * MS, 80 * MS)),
        watchdog_s=choice((0.03, 0.1, 10.0)),
        recovery_s=choice((0.05, 0.5)),
        is_managed=choice((True, False)),
        client_pause=choice((2 * MS, 8 * MS, 20 * MS)),
        clients=choice((3, 5, 8)),
    )


def draw_extra_faults(rng: random.Random) -> tuple[tuple[str, float], ...]:
    return tuple((name, weight * rng.choice((0.5, 2))) for name, weight in EXTRA_FAULTS.items() if rng.random() < 0.5)

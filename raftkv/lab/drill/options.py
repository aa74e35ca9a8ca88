"""What a drill is asked to do. What may not live here: reading a command line (``raftkv.cli.drill``)."""

from __future__ import annotations

from dataclasses import dataclass

from raftkv.lab.errors import LabError

FAULTS: dict[str, str] = {
    "crash": "the leader's process is killed",
    "hang": "the leader's process stands still, its sockets open",
    "stop": "the leader is asked to end, as for maintenance",
    "transfer": "the leader is asked to hand over",
    "partition": "the leader and its peers do not reach each other; clients reach all",
    "partition-oneway": "as partition, one way only: by turns the leader is not heard, and does not hear",
    "disk-stall": "no write of the leader's log comes back",
    "disk-full": "the leader's log has no space",
    "restart-all": "every process is killed at once, then all are started",
}
"""Each fault and what it is, in the order in which ``all`` makes them."""

DEFAULT_PREFIX = "raftkv-drill/"
IDLE, HALF = "idle", "half"


class DrillError(LabError):
    """The drill cannot go on, or must not begin. One line; nothing was left broken."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """One drill.

    Attributes:
        faults: names from ``FAULTS``, in order.
        rounds: of each fault.
        max_outage_s: the longest time without a successful write, or read, that passes. After ``restart-all`` it counts from the
            moment at which all nodes serve again: the time that processes take to start is not the cluster's.
        load: beside the canary: ``idle`` none, ``half`` half of what the cluster takes, else writes a second.
        prefix: all keys that the drill writes begin so, but for its lock.
    """

    faults: tuple[str, ...]
    rounds: int = 1
    max_outage_s: float = 2.0
    load: str | float = IDLE
    prefix: str = DEFAULT_PREFIX

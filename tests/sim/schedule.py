"""What of a seed's misfortunes really happens: all of it, or less when a failing run is cut down to what it needs.

The draws stay the same whatever is left out, so that the rest of a run is as little disturbed as possible.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tests.sim.swarm import Swarm

NETWORK_FAULTS = ("loss", "double", "late")


@dataclass(frozen=True, slots=True)
class Schedule:
    """Everything, unless told otherwise."""

    without: frozenset[str] = frozenset()
    """Kinds of faults that do not happen: names of the nemesis's methods, `loss`, `double` and `late`."""
    faults_max: int | None = None
    """Only so many strikes of the nemesis do anything."""
    skipped: frozenset[int] = frozenset()
    """Strikes that do nothing, counted from 1."""

    def allows(self, name: str, number: int) -> bool:
        """Whether this strike happens."""
        if name in self.without or number in self.skipped:
            return False
        return self.faults_max is None or number <= self.faults_max

    def spare(self, swarm: Swarm) -> Swarm:
        """The swarm without what the network is not to do."""
        return replace(swarm, **{name: 0.0 for name in NETWORK_FAULTS if name in self.without})

    def options(self) -> str:
        """As the command line takes it."""
        parts = [f"--without {','.join(sorted(self.without))}"] if self.without else []
        if self.faults_max is not None:
            parts.append(f"--faults {self.faults_max}")
        if self.skipped:
            parts.append(f"--skip {','.join(map(str, sorted(self.skipped)))}")
        return " ".join(parts)

"""Makes a local cluster good again if the drill that broke it dies, however it dies.

Paused nodes are woken, links healed, dead nodes started.

What may not live here: an orderly end, which is the drill's job.

Started as ``python -m raftkv.lab.drill.guard DIRECTORY``.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

from raftkv.lab.cluster import LocalCluster
from raftkv.lab.drill.faults import restore_local
from raftkv.lab.errors import LabError
from raftkv.lab.survivor import Survivor, outlive_parent

_GOING_S = 5.0


class Guard:
    """The drill's end."""

    def __init__(self, survivor: Survivor) -> None:
        self._survivor = survivor

    @classmethod
    def post(cls, directory: Path) -> Guard:
        """From now on the cluster in this directory is made good when we die."""
        return cls(Survivor.start("raftkv.lab.drill.guard", str(directory)))

    def dismiss(self) -> None:
        """All is good: the guard may go."""
        self._survivor.dismiss(wait_s=_GOING_S)


def main(directory: Path) -> None:
    """Wait until the drill is gone, then make good what it left; or until it takes its leave."""
    if not outlive_parent():
        return
    with suppress(LabError):  # The cluster may have been taken down meanwhile.
        restore_local(LocalCluster.load(directory))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

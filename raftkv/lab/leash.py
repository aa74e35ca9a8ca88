"""A process that outlives its parent just long enough to clean up after it.

A demo or a test owns its cluster: when it dies, however it dies, SIGKILL included, no node may stay behind. Then every process
of the cluster is killed (they carry its token in their environment) and, if asked for, the directory is removed.

What may not live here: an orderly shutdown, which is the parent's job (``LocalCluster.down``).

Started as ``python -m raftkv.lab.leash TOKEN DIRECTORY keep|remove``.
"""

from __future__ import annotations

import shutil
import sys
from contextlib import suppress
from pathlib import Path

from raftkv.lab import state
from raftkv.lab.errors import LabError
from raftkv.lab.process import TOKEN_VARIABLE, end_all, processes_with
from raftkv.lab.survivor import Survivor, outlive_parent

_SWEEPS = 2  # A process that was just being started when we first looked is there at the second look.
_GOING_S = 2.0


class Leash:
    """The parent's end."""

    def __init__(self, survivor: Survivor) -> None:
        self._survivor = survivor

    @classmethod
    def fasten(cls, directory: Path, token: str, *, remove: bool) -> Leash:
        """From now on no process of the cluster outlives this one, and with ``remove`` neither does its directory."""
        return cls(Survivor.start("raftkv.lab.leash", token, str(directory), "remove" if remove else "keep"))

    def unfasten(self) -> None:
        """All is cleaned up: the other end may go."""
        self._survivor.dismiss(wait_s=_GOING_S)


def main(token: str, directory: Path, *, remove: bool) -> None:
    """Wait until the parent is gone, then clean up; or until it takes its leave."""
    if not outlive_parent():
        return
    for _ in range(_SWEEPS):
        with suppress(LabError):  # Down already, or never up: the token finds what is left.
            known = state.load(directory)
            end_all(known.processes if known.token == token else [], grace_s=0)
        end_all(processes_with(TOKEN_VARIABLE, token), grace_s=0)
    if remove:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), remove=sys.argv[3] == "remove")

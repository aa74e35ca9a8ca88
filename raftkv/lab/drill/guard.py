"""Makes a local cluster good again if the drill that broke it dies, however it dies.

The drill holds the only writing end of a pipe that is this process's standard input. When the kernel closes it without a farewell
byte, paused nodes are woken, links healed, dead nodes started.

What may not live here: an orderly end, which is the drill's job.

Started as ``python -m raftkv.lab.drill.guard DIRECTORY``.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

from raftkv.lab.cluster import LocalCluster
from raftkv.lab.drill.faults import restore_local
from raftkv.lab.errors import LabError
from raftkv.lab.process import ProcessRef, exit_status, spawn, wait_until

_FAREWELL = b"."


class Guard:
    """The drill's end."""

    def __init__(self, process: ProcessRef, writing: int) -> None:
        self._process = process
        self._writing = writing

    @classmethod
    def post(cls, directory: Path) -> Guard:
        """From now on the cluster in this directory is made good when we die."""
        reading, writing = os.pipe()
        command = [sys.executable, "-m", "raftkv.lab.drill.guard", str(directory)]
        try:
            process = spawn(command, log=Path(os.devnull), environment=os.environ, stdin=reading)
        except BaseException:
            os.close(writing)
            raise
        finally:
            os.close(reading)
        return cls(process, writing)

    def dismiss(self) -> None:
        """All is good: the guard may go."""
        with suppress(BrokenPipeError):
            os.write(self._writing, _FAREWELL)
        os.close(self._writing)
        wait_until(lambda: exit_status(self._process.pid) is not None or not self._process.alive, 5.0)


def main(directory: Path) -> None:
    """Wait until the drill is gone, then make good what it left; or until it takes its leave."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if sys.stdin.buffer.read(1) == _FAREWELL:
        return
    with suppress(LabError):  # The cluster may have been taken down meanwhile.
        restore_local(LocalCluster.load(directory))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

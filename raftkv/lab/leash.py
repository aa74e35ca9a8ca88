"""A process that outlives its parent just long enough to clean up after it.

A demo or a test owns its cluster: when it dies, however it dies, SIGKILL included, no node may stay behind. The parent holds
the only writing end of a pipe that is this process's standard input; when the kernel closes it, every process of the cluster is
killed (they carry its token in their environment) and, if asked for, the directory is removed.

What may not live here: an orderly shutdown, which is the parent's job (``LocalCluster.down``).

Started as ``python -m raftkv.lab.leash TOKEN DIRECTORY keep|remove``.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from contextlib import suppress
from pathlib import Path

from raftkv.lab import state
from raftkv.lab.errors import LabError
from raftkv.lab.process import TOKEN_VARIABLE, ProcessRef, end_all, exit_status, processes_with, spawn, wait_until

_SWEEPS = 2  # A process that was just being started when we first looked is there at the second look.
_FAREWELL = b"."


class Leash:
    """The parent's end."""

    def __init__(self, process: ProcessRef, writing: int) -> None:
        self._process = process
        self._writing = writing

    @classmethod
    def fasten(cls, directory: Path, token: str, *, remove: bool) -> Leash:
        """From now on no process of the cluster outlives this one, and with ``remove`` neither does its directory."""
        reading, writing = os.pipe()
        command = [sys.executable, "-m", "raftkv.lab.leash", token, str(directory), "remove" if remove else "keep"]
        try:
            process = spawn(command, log=Path(os.devnull), environment=os.environ, stdin=reading)
        except BaseException:
            os.close(writing)
            raise
        finally:
            os.close(reading)
        return cls(process, writing)

    def unfasten(self) -> None:
        """All is cleaned up: the other end may go."""
        with suppress(BrokenPipeError):
            os.write(self._writing, _FAREWELL)
        os.close(self._writing)
        wait_until(lambda: exit_status(self._process.pid) is not None or not self._process.alive, 2.0)


def main(token: str, directory: Path, *, remove: bool) -> None:
    """Wait until the parent is gone, then clean up; or until it takes its leave, which it does with one byte."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if sys.stdin.buffer.read(1) == _FAREWELL:
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

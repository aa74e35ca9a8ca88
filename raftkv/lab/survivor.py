"""A process that lives on for a moment after its parent has died, however it died, to put right what that left behind.

The parent holds the only writing end of a pipe that is the survivor's standard input. When the kernel closes it without a
farewell byte, the parent is gone.

What may not live here: what is put right (``leash.py``, ``drill/guard.py``), and an orderly end, which is the parent's job.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

from raftkv.lab.process import ProcessRef, exit_status, spawn, wait_until

_FAREWELL = b"."


class Survivor:
    """The parent's end."""

    def __init__(self, process: ProcessRef, writing: int) -> None:
        self._process = process
        self._writing = writing

    @classmethod
    def start(cls, module: str, *arguments: str) -> Survivor:
        """Run ``python -m module arguments``, which begins with `outlive_parent`."""
        reading, writing = os.pipe()
        command = [sys.executable, "-m", module, *arguments]
        try:
            process = spawn(command, log=Path(os.devnull), environment=os.environ, stdin=reading)
        except BaseException:
            os.close(writing)
            raise
        finally:
            os.close(reading)
        return cls(process, writing)

    def dismiss(self, *, wait_s: float) -> None:
        """There is nothing to put right: it may go. Returns when it has, or after ``wait_s``."""
        with suppress(BrokenPipeError):
            os.write(self._writing, _FAREWELL)
        os.close(self._writing)
        wait_until(lambda: exit_status(self._process.pid) is not None or not self._process.alive, wait_s)


def outlive_parent() -> bool:
    """In the survivor: wait for the parent's end. False: it took its leave, and there is nothing to do."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    return sys.stdin.buffer.read(1) != _FAREWELL

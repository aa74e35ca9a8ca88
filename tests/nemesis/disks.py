"""Slow and hung disks under a live process: strace holds its writes and syncs up, and lets go when it is told to.

Needs strace and the right to trace; where they are missing the faults say so and do nothing.
"""

from __future__ import annotations

import shutil
import signal
import subprocess

CALLS = ("fdatasync", "fsync", "pwrite64")
HANG_S = 3_600.0
"""Longer than any round: until `release`."""
RELEASE_WAIT_S = 5.0


def is_possible() -> bool:
    """Whether processes can be traced here."""
    strace = shutil.which("strace")
    if strace is None:
        return False
    probe = subprocess.run([strace, "-qq", "-o", "/dev/null", "true"], capture_output=True, check=False)
    return probe.returncode == 0


class Tracers:
    """The processes whose disk calls are held up now."""

    def __init__(self) -> None:
        self._running: list[tuple[int, subprocess.Popen[bytes]]] = []

    def slow_down(self, pid: int, delay_s: float, *, calls: tuple[str, ...] = CALLS) -> None:
        """Each of these calls, in any thread, takes so much longer from now on."""
        delay = f":delay_enter={round(delay_s * 1e6)}"
        inject = [word for call in calls for word in ("-e", f"inject={call}{delay}")]
        trace = ["-e", f"trace={','.join(calls)}"]
        command = ["strace", "-f", "-qq", "-o", "/dev/null", "-p", str(pid), *trace, *inject]
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._running.append((pid, subprocess.Popen(command, **quiet)))

    def abandon(self, pid: int) -> None:
        """A process is about to be killed: it could not end while somebody holds its threads up."""
        for traced, tracer in self._running:
            if traced == pid:
                tracer.kill()
                tracer.wait()
        self._running = [(traced, tracer) for traced, tracer in self._running if traced != pid]

    def release(self) -> None:
        """Let go of every process; what was held up goes on."""
        for _, tracer in self._running:
            tracer.send_signal(signal.SIGINT)
        for _, tracer in self._running:
            try:
                tracer.wait(RELEASE_WAIT_S)
            except subprocess.TimeoutExpired:
                tracer.kill()
                tracer.wait()
        self._running.clear()

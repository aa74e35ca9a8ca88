"""Processes as a cluster's state file remembers them: a pid, and proof that the pid is still the same process.

A pid alone proves nothing: after a crash or a reboot it may belong to somebody else's editor. So each is remembered together
with the moment at which the kernel says it started, and no signal is sent unless the two still agree.

What may not live here: anything about nodes, ports or clusters.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

_PROC = Path("/proc")
_POLL_S = 0.01

# Every process of a cluster has the token of its cluster in its environment.
TOKEN_VARIABLE = "LAB_CLUSTER_TOKEN"  # noqa: S105 - a name


class ProcessState(Enum):
    """What the kernel says about a process."""

    RUNNING = "running"
    PAUSED = "paused"
    DEAD = "dead"


@dataclass(frozen=True, kw_only=True)
class ProcessRef:
    """One process, over reboots and reuse of its pid."""

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> ProcessRef:
        """The process that has this pid now; one that is gone already gives a reference that is dead."""
        return cls(pid=pid, started=_look(pid)[1])

    @property
    def state(self) -> ProcessState:
        state, started = _look(self.pid)
        return state if started == self.started else ProcessState.DEAD

    @property
    def alive(self) -> bool:
        return self.state is not ProcessState.DEAD

    def send(self, number: signal.Signals) -> bool:
        """Send a signal; False if the process is gone."""
        if not self.alive:
            return False
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            return False
        return True


def spawn(
    command: Sequence[str],
    *,
    log: Path,
    environment: Mapping[str, str],
    inherit: Iterable[int] = (),
    stdin: int | None = None,
) -> ProcessRef:
    """Start a process in a session of its own, so that Ctrl-C in our terminal does not reach it.

    ``posix_spawn`` and not ``fork``: we may have gRPC threads, which do not survive a fork.

    Args:
        command: the program, looked for on the PATH, and its arguments.
        environment: all of it.
        log: standard output and standard error are appended to it.
        inherit: file descriptors that the process keeps, under the same numbers.
        stdin: its standard input; nothing by default.

    Raises:
        OSError: the command cannot be started.
    """
    actions: list[tuple[Any, ...]] = [
        (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
        (os.POSIX_SPAWN_DUP2, 1, 2),
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0) if stdin is None else (os.POSIX_SPAWN_DUP2, stdin, 0),
    ]
    actions += [(os.POSIX_SPAWN_DUP2, number, number) for number in inherit]
    pid = os.posix_spawnp(command[0], list(command), environment, file_actions=actions, setsid=True)
    return ProcessRef.of(pid)


def exit_status(pid: int) -> int | None:
    """How a child of ours ended (negative: by which signal); None while it runs, or if it is not our child."""
    try:
        ended, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return None
    return os.waitstatus_to_exitcode(status) if ended else None


def wait_until(condition: Callable[[], bool], deadline_s: float) -> bool:
    """Poll until the condition holds; False when the time is over first."""
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() >= end:
            return False
        time.sleep(_POLL_S)
    return True


def end_all(processes: Iterable[ProcessRef], *, grace_s: float) -> list[ProcessRef]:
    """End processes: SIGTERM and up to ``grace_s`` seconds for all together, then SIGKILL. 0: SIGKILL at once.

    Returns:
        Those that did not go by themselves within the grace given.
    """
    remaining = [process for process in processes if process.alive]
    if grace_s > 0:
        for process in remaining:
            process.send(signal.SIGTERM)
            process.send(signal.SIGCONT)  # A paused process cannot act on SIGTERM.
        wait_until(lambda: not any(process.alive for process in remaining), grace_s)
        remaining = [process for process in remaining if process.alive]
    for process in remaining:
        process.send(signal.SIGKILL)
    wait_until(lambda: not any(process.alive for process in remaining), 5.0)
    return remaining


def processes_with(variable: str, value: str) -> list[ProcessRef]:
    """Our own processes that were started with ``variable=value`` in their environment. Empty where there is no /proc."""
    wanted = f"{variable}={value}".encode()
    found = []
    for entry in _PROC.glob("[0-9]*"):
        try:
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                found.append(ProcessRef.of(int(entry.name)))
        except OSError:
            continue  # Gone meanwhile, or somebody else's.
    return [process for process in found if process.alive and process.pid != os.getpid()]


def _look(pid: int) -> tuple[ProcessState, str]:
    """State of a pid, and when its process started: ``<boot>:<clock ticks after it>``."""
    if pid <= 0:
        return ProcessState.DEAD, ""
    if not _PROC.joinpath("self").exists():
        return _look_with_ps(pid)
    try:
        # The name stands in parentheses and may hold anything; what follows the last one is the third field.
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ProcessState.DEAD, ""
    state = _state(fields[0])
    if state is ProcessState.DEAD and _has_other_threads(pid):
        state = ProcessState.RUNNING
    return state, f"{_boot_id()}:{fields[19]}"


def _has_other_threads(pid: int) -> bool:
    """Whether threads besides the first still end: until they have, ports and locked files are not free."""
    try:
        return sum(1 for _ in (_PROC / str(pid) / "task").iterdir()) > 1
    except OSError:
        return False


def _look_with_ps(pid: int) -> tuple[ProcessState, str]:
    answer = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)  # noqa: S603, S607
    letters, _, started = answer.stdout.strip().partition(" ")
    return (_state(letters[0]), started.strip()) if letters else (ProcessState.DEAD, "")


def _state(letter: str) -> ProcessState:
    if letter in "ZX":  # A zombie has ended; only its parent has not asked yet.
        return ProcessState.DEAD
    return ProcessState.PAUSED if letter in "Tt" else ProcessState.RUNNING


def _boot_id() -> str:
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text()[:8]
    except OSError:
        return ""

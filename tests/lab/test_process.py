from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from raftkv.lab.ports import is_taken
from raftkv.lab.process import ProcessRef, ProcessState, end_all, exit_status, processes_with, spawn, wait_until

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)",
]


@pytest.fixture
def sleeper() -> Iterator[ProcessRef]:
    with subprocess.Popen(SLEEP) as process:
        yield ProcessRef.of(process.pid)
        process.kill()


def test_a_process_is_running_then_paused_then_dead(sleeper: ProcessRef) -> None:
    assert sleeper.state is ProcessState.RUNNING

    sleeper.send(signal.SIGSTOP)
    assert wait_until(lambda: sleeper.state is ProcessState.PAUSED, 5)

    sleeper.send(signal.SIGKILL)
    assert wait_until(lambda: sleeper.state is ProcessState.DEAD, 5), "a zombie is dead"


def test_a_reused_pid_is_not_the_same_process(sleeper: ProcessRef) -> None:
    """A state file that is older than a reboot must never get somebody else's process killed."""
    earlier = replace(sleeper, started="another-boot:1")

    assert earlier.state is ProcessState.DEAD
    assert not earlier.send(signal.SIGKILL)
    assert sleeper.alive


def test_sigterm_is_enough_for_most_and_sigkill_follows_for_the_rest(sleeper: ProcessRef) -> None:
    with subprocess.Popen(STUBBORN, stdout=subprocess.PIPE) as deaf:
        assert deaf.stdout is not None
        deaf.stdout.readline()
        stubborn = ProcessRef.of(deaf.pid)

        killed = end_all([sleeper, stubborn], grace_s=0.3)

    assert killed == [stubborn]
    assert not sleeper.alive
    assert not stubborn.alive


def test_a_paused_process_can_be_stopped(sleeper: ProcessRef) -> None:
    sleeper.send(signal.SIGSTOP)

    assert end_all([sleeper], grace_s=10) == []
    assert not sleeper.alive


def test_a_spawned_process_logs_inherits_and_tells_how_it_ended(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    log = tmp_path / "log"
    code = f"import os, sys; os.write({writing}, b'x'); print('out'); print('err', file=sys.stderr); sys.exit(3)"

    process = spawn([sys.executable, "-c", code], log=log, environment={"MARK": "1"}, inherit=[writing])
    os.close(writing)
    statuses: list[int] = []
    assert wait_until(lambda: statuses.append(exit_status(process.pid) or 0) or statuses[-1] == 3, 10)

    assert os.read(reading, 10) == b"x"
    assert sorted(log.read_text().split()) == ["err", "out"]
    os.close(reading)


@pytest.mark.skipif(not Path("/proc").exists(), reason="needs /proc")
def test_processes_are_found_by_their_environment(tmp_path: Path) -> None:
    process = spawn(SLEEP, log=tmp_path / "log", environment={"MARK": str(tmp_path)})

    assert wait_until(lambda: processes_with("MARK", str(tmp_path)) == [process], 5)

    end_all([process], grace_s=0)
    exit_status(process.pid)


THREADED = [
    sys.executable,
    "-c",
    (
        "import mmap, socket, threading, time\n"
        "listener = socket.create_server(('127.0.0.1', 0)); print(listener.getsockname()[1], flush=True)\n"
        "memory = mmap.mmap(-1, 256 << 20); memory.write(bytes(256 << 20)); print('ready', flush=True)\n"
        "[threading.Thread(target=time.sleep, args=(60,)).start() for _ in range(8)]"
    ),
]


def test_a_dead_process_has_let_go_of_its_ports() -> None:
    """The first thread of a killed process is a zombie while the others still end, and hold what they share."""
    with subprocess.Popen(THREADED, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        process.stdout.readline()
        killed = ProcessRef.of(process.pid)

        killed.send(signal.SIGKILL)
        assert wait_until(lambda: not killed.alive, 10)

        assert not is_taken(port)

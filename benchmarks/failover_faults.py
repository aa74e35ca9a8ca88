"""What is done to the leader, by name, and how it is made good again. The same for both systems.

What may not live here: what clients saw of it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.disks import missing_for_disks
from benchmarks.failover_systems import System

STALL_S = 120
ATTACH_S = 10.0


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault on the leader.

    Attributes:
        title: for people.
        make: makes it; blocks until it holds. Given the system and the leader's name; returns how to make it good.
        hold_s: it lasts at least so long, and until writes go on.
        value_bytes: size of the values that are written meanwhile.
        own_disks: each node needs a disk of its own.
        lacks: what this machine lacks to make it; None: nothing.
    """

    title: str
    make: Callable[[System, str], Callable[[], None]]
    hold_s: float = 2.0
    value_bytes: int = 256
    own_disks: bool = False
    lacks: Callable[[], str | None] = lambda: None


def nothing(system: System, leader: str) -> Callable[[], None]:
    """What a busy machine does to a writer without any fault: the measure of all others."""
    return lambda: None


def kill(system: System, leader: str) -> Callable[[], None]:
    system.cluster.kill(leader)
    return lambda: system.cluster.start([leader])


def terminate(system: System, leader: str) -> Callable[[], None]:
    system.cluster.stop(leader)
    return lambda: system.cluster.start([leader])


def move_leader(system: System, leader: str) -> Callable[[], None]:
    system.move_leader(leader, _others(system, leader)[0])
    return lambda: None


def pause(system: System, leader: str) -> Callable[[], None]:
    system.cluster.pause(leader)
    return lambda: system.cluster.resume(leader)


def isolate(system: System, leader: str) -> Callable[[], None]:
    system.cut_clients([leader])
    system.cut_peers(system.both_ways(leader, _others(system, leader)))
    return system.heal_links


def cut_from_peers(system: System, leader: str) -> Callable[[], None]:
    system.cut_peers(system.both_ways(leader, _others(system, leader)))
    return system.heal_links


def mute(system: System, leader: str) -> Callable[[], None]:
    system.cut_peers([(leader, other) for other in _others(system, leader)])
    return system.heal_links


def deafen(system: System, leader: str) -> Callable[[], None]:
    system.cut_peers([(other, leader) for other in _others(system, leader)])
    return system.heal_links


def cut_one_link(system: System, leader: str) -> Callable[[], None]:
    system.cut_peers(system.both_ways(leader, _others(system, leader)[:1]))
    return system.heal_links


def stall_disk(system: System, leader: str) -> Callable[[], None]:
    """Every fsync and fdatasync of the process waits at its door: strace holds the thread before the call."""
    pid = system.cluster.pid(leader)
    assert pid is not None, f"{leader} has no process"
    calls = "fsync,fdatasync,msync,sync_file_range"
    delay = f"inject={calls}:delay_enter={STALL_S * 1_000_000}"
    log = system.cluster.directory / "strace.log"
    strace = subprocess.Popen(
        ["strace", "-f", "-p", str(pid), "-o", str(log), "-e", f"trace={calls}", "-e", delay],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert strace.stderr is not None
    said = strace.stderr.readline()
    if "attached" not in said:
        raise RuntimeError(f"strace cannot attach to {leader}: {said.strip()}")
    drain = threading.Thread(target=strace.stderr.read, daemon=True)
    drain.start()

    def heal() -> None:
        strace.send_signal(signal.SIGTERM)
        strace.wait()
        drain.join()
        assert strace.stderr is not None
        strace.stderr.close()
        if system.cluster.pid(leader) is None:
            system.cluster.start([leader])

    return heal


def fill_disk(system: System, leader: str) -> Callable[[], None]:
    """Take all the space of the leader's disk, which is one of its own."""
    data = system.cluster.data_path(leader)
    ballast = data / "lost+found" / "ballast"
    handle = os.open(ballast, os.O_CREAT | os.O_WRONLY)
    try:
        while (free := _bytes_free(data)) > 0:
            os.posix_fallocate(handle, os.fstat(handle).st_size, free)
    except OSError:
        pass  # Full: that was the aim.
    finally:
        os.close(handle)

    def heal() -> None:
        ballast.unlink()
        if system.cluster.pid(leader) is None:
            system.cluster.start([leader])

    return heal


def _bytes_free(path: Path) -> int:
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def _others(system: System, leader: str) -> list[str]:
    return [name for name in system.names if name != leader]


def _lacks_strace() -> str | None:
    return None if shutil.which("strace") else "strace"


FAULTS: dict[str, Fault] = {
    "none": Fault(title="no fault", make=nothing, hold_s=1.0),
    "kill": Fault(title="kill -9", make=kill),
    "sigterm": Fault(title="SIGTERM", make=terminate),
    "move-leader": Fault(title="move-leader", make=move_leader, hold_s=1.0),
    "sigstop": Fault(title="SIGSTOP", make=pause),
    "isolate": Fault(title="cut from everybody", make=isolate),
    "cut-peers": Fault(title="cut from its peers, clients reach it", make=cut_from_peers),
    "mute": Fault(title="peers do not hear the leader, it hears them", make=mute),
    "deaf": Fault(title="leader does not hear its peers, they hear it", make=deafen),
    "one-link": Fault(title="cut from one of two followers", make=cut_one_link),
    "disk-stall": Fault(title="every fsync hangs", make=stall_disk, lacks=_lacks_strace, hold_s=5.0),
    "disk-full": Fault(
        title="disk full", make=fill_disk, lacks=missing_for_disks, hold_s=8.0, value_bytes=32 * 1024, own_disks=True
    ),
}

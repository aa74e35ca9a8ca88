"""What a benchmark says besides its load: the machine, and each node's memory, CPU time and disk use. Linux only (/proc).

What may not live here: load.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from raftkv.lab import probe
from raftkv.lab.cluster import LocalCluster

RESULTS = Path(__file__).parent / "results"
SCRATCH = Path(".raftkv")
MIB = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class NodeFigures:
    """One node at one moment.

    Attributes:
        private_mib: what the process itself has allocated, and would need again.
        mapped_mib: pages of files that it has mapped, its database's above all: the kernel takes them back when it needs room.
    """

    name: str
    private_mib: float
    mapped_mib: float
    cpu_s: float
    disk_mib: float
    log_mib: float


@dataclass(frozen=True, kw_only=True)
class Leadership:
    """Who leads, in which term and at which revision. A term that has grown means that there was an election."""

    leader: str | None
    term: int
    revision: int


def scratch_directory() -> Path:
    """Where benchmark clusters live: below the working directory, which is on a real disk.

    Raises:
        SystemExit: it is on a tmpfs, where an fsync costs nothing and proves nothing.
    """
    SCRATCH.mkdir(exist_ok=True)
    if (kind := file_system_of(SCRATCH)) in ("tmpfs", "ramfs"):
        raise SystemExit(f"{SCRATCH.absolute()} is on a {kind}: run benchmarks from a directory on a real disk")
    return SCRATCH


def file_system_of(path: Path) -> str:
    """The type of the file system that a path is on."""
    best, kind = "", "unknown"
    for line in Path("/proc/mounts").read_text().splitlines():
        _, mount, fs, *_ = line.split()
        if path.absolute().is_relative_to(mount) and len(mount) >= len(best):
            best, kind = mount, fs
    return kind


def leadership(cluster: LocalCluster) -> Leadership:
    """Ask every node."""
    answers = probe.statuses(cluster.endpoints, deadline_s=5.0)
    known = [answer for answer in answers.values() if isinstance(answer, probe.NodeAnswer)]
    return Leadership(
        leader=probe.leader_of(answers),
        term=max((answer.term for answer in known), default=0),
        revision=max((answer.revision for answer in known), default=0),
    )


def missing_revisions(before: Leadership, after: Leadership, *, acknowledged: int, failed: int) -> int:
    """How far the growth of the revision is from what was acknowledged: 0 is right.

    Every put makes one revision. One that failed may have made one, too.
    """
    grown = after.revision - before.revision
    return max(acknowledged - grown, grown - acknowledged - failed, 0)


def endpoints_leader_first(cluster: LocalCluster) -> list[str]:
    """Endpoints in the order in which a client should try them."""
    leader = cluster.wait_for_leader()
    endpoints = cluster.endpoints
    return [endpoints[leader], *(endpoint for name, endpoint in endpoints.items() if name != leader)]


def figures(cluster: LocalCluster) -> list[NodeFigures]:
    """Memory, CPU time and disk use of every node."""
    found = []
    for name in cluster.names:
        pid = cluster.pid(name) or 0
        data = cluster.data_path(name)
        private, mapped = memory_bytes(pid)
        found.append(
            NodeFigures(
                name=name,
                private_mib=round(private / MIB, 1),
                mapped_mib=round(mapped / MIB, 1),
                cpu_s=round(cpu_seconds(pid), 2),
                disk_mib=round(allocated_bytes(data) / MIB, 1),
                log_mib=round(sum(allocated_bytes(path) for path in data.rglob("wal") if path.is_dir()) / MIB, 1),
            )
        )
    return found


def memory_bytes(pid: int) -> tuple[int, int]:
    """A process's own memory, and its pages of mapped files; together what it has resident."""
    fields = smaps_rollup(_lines(f"/proc/{pid}/smaps_rollup"))
    own = fields.get("Anonymous", 0)
    return own, fields.get("Rss", 0) - own


def smaps_rollup(lines: Sequence[str]) -> dict[str, int]:
    """Bytes by name, from /proc/PID/smaps_rollup.

    ``Private_*`` there is what no other process has mapped, a database file's pages among it. A process's own memory is
    ``Anonymous``.
    """
    found = {}
    for line in lines[1:]:  # The first is the range of addresses.
        name, _, size = line.partition(":")
        found[name] = int(size.split()[0]) * 1024
    return found


def cpu_seconds(pid: int) -> float:
    """CPU time that a process has used."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def allocated_bytes(path: Path) -> int:
    """Disk blocks that a directory tree occupies; a file that goes away meanwhile counts nothing."""
    total = 0
    for root, _, names in os.walk(path):
        for name in names:
            try:
                total += os.stat(os.path.join(root, name)).st_blocks * 512
            except FileNotFoundError:
                continue
    return total


def machine() -> dict[str, Any]:
    """The machine, as far as it matters for the figures."""
    model = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.machine(),
    )
    memory = next((int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_gib": round(memory / MIB, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "file_system": file_system_of(SCRATCH),
        "fdatasync_p50_ms": fdatasync_ms(SCRATCH),
    }


def fdatasync_ms(directory: Path, *, times: int = 200) -> float:
    """The median of appending 4 KiB to a file and syncing it."""
    path = directory / f"fdatasync.{os.getpid()}"
    taken = []
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    try:
        for _ in range(times):
            os.write(descriptor, b"x" * 4096)
            start = time.perf_counter()
            os.fdatasync(descriptor)
            taken.append(time.perf_counter() - start)
    finally:
        os.close(descriptor)
        path.unlink()
    return round(sorted(taken)[len(taken) // 2] * 1000, 3)


def keep(name: str, result: Mapping[str, Any]) -> Path:
    """Write a result into benchmarks/results, under the time of now."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}.json"
    path.write_text(json.dumps(result, indent=1, default=asdict) + "\n")
    return path


def node_line(node: NodeFigures | Mapping[str, Any]) -> str:
    """One node's figures for people."""
    found = asdict(node) if isinstance(node, NodeFigures) else node
    return (
        f"{found['name']}: {found['private_mib']} MiB private, {found['mapped_mib']} MiB of mapped files; "
        f"{found['disk_mib']} MiB on disk, {found['log_mib']} of it log; {found['cpu_s']} s of CPU"
    )


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []

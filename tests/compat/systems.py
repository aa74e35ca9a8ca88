"""What is judged: a cluster of etcd, or of raftkv, started as a user would."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from raftkv.lab.cluster import SERVE, LocalCluster
from raftkv.lab.ports import hold_ports, port_of

HTTP_FLAG = "--listen-client-http-urls"
START_S = 60.0
COMMANDS = {"etcd": ("etcd",), "raftkv": SERVE}


@dataclass(frozen=True, kw_only=True)
class System:
    """A cluster that serves.

    Attributes:
        name: ``etcd`` or ``raftkv``.
        endpoint: ``host:port`` of the first node's gRPC.
        http_endpoint: ``host:port`` of its JSON gateway; None if it has none.
        other_pids: the processes of all other nodes.
    """

    name: str
    endpoint: str
    http_endpoint: str | None
    other_pids: tuple[int, ...]


@contextmanager
def running(name: str, directory: Path, *, nodes: int = 3, http: bool = False) -> Iterator[System]:
    """A fresh cluster in a directory, which goes with it.

    Args:
        http: with a JSON gateway: etcd has it on the same port, a raftkv node on one of its own (one node only).
    """
    assert nodes == 1 or not (http and name == "raftkv"), "the flag would name one port for all nodes"
    directory.mkdir(parents=True, exist_ok=True)
    (holder,) = hold_ports(1)
    http_endpoint = f"127.0.0.1:{port_of(holder)}"
    flags = (HTTP_FLAG, f"http://{http_endpoint}") if http and name == "raftkv" else ()
    command = COMMANDS[name]
    with LocalCluster.temporary(nodes=nodes, proxy=False, command=command, flags=flags, parent=directory) as cluster:
        cluster.start(deadline_s=START_S)
        first, *others = cluster.names
        pids = [cluster.pid(other) for other in others]
        yield System(
            name=name,
            endpoint=cluster.endpoint(first),
            http_endpoint=cluster.endpoint(first) if name == "etcd" else http_endpoint if http else None,
            other_pids=tuple(pid for pid in pids if pid is not None),
        )
    holder.close()


def has_etcd() -> bool:
    return shutil.which("etcd") is not None and shutil.which("etcdctl") is not None


def has_gateway() -> bool:
    """Whether `raftkv serve` knows a JSON gateway."""
    shown = subprocess.run(
        [sys.executable, "-m", "raftkv", "serve", "--help"], capture_output=True, text=True, timeout=60
    )
    return HTTP_FLAG in shown.stdout

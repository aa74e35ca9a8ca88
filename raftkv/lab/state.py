"""What a local cluster remembers on disk, so that a command from another shell finds it: ``<dir>/cluster.json``.

The file is the only truth about a cluster: it is replaced atomically, under a lock, and read anew by every operation. It says
which processes *should* be there; whether they are is asked of the kernel (``process.py``).

What may not live here: anything that starts, signals or talks to a process.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raftkv.lab.errors import LabError
from raftkv.lab.ports import LOOPBACK
from raftkv.lab.process import ProcessRef

FORMAT = 1
STATE_FILE = "cluster.json"
LOCK_FILE = "cluster.lock"


@dataclass(kw_only=True)
class NodeState:
    """One node of a cluster.

    Attributes:
        ended: why *we* ended its process: "stopped" or "killed"; None while it should be running.
        log_offset: where in its log file the last start begins.
        starts: how often it was started.
        joined: it was added to the running cluster: its flags say so.
        http_port: where it serves JSON, health checks and metrics; None: nowhere.
    """

    name: str
    client_port: int
    peer_port: int
    process: ProcessRef | None = None
    ended: str | None = None
    log_offset: int = 0
    starts: int = 0
    joined: bool = False
    http_port: int | None = None

    @property
    def client_url(self) -> str:
        return f"http://{LOOPBACK}:{self.client_port}"

    @property
    def peer_url(self) -> str:
        return f"http://{LOOPBACK}:{self.peer_port}"

    @property
    def endpoint(self) -> str:
        return f"{LOOPBACK}:{self.client_port}"

    @property
    def http_url(self) -> str | None:
        return None if self.http_port is None else f"http://{LOOPBACK}:{self.http_port}"

    @property
    def ports(self) -> list[int]:
        """Every port it listens on."""
        return [port for port in (self.client_port, self.peer_port, self.http_port) if port is not None]

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.alive


@dataclass(frozen=True, kw_only=True)
class LinkPort:
    """Where node ``source`` dials node ``target`` when a proxy stands between them."""

    source: str
    target: str
    port: int


@dataclass(kw_only=True)
class ProxyState:
    """The proxy between the nodes."""

    control_port: int
    links: list[LinkPort]
    process: ProcessRef | None = None
    log_offset: int = 0


@dataclass(kw_only=True)
class ClusterState:
    """A cluster as its state file has it.

    Attributes:
        token: names this cluster: the nodes' --initial-cluster-token, a mark in the environment of each of its processes, and
            the password of the proxy's control port.
        command: what serves, without its flags.
        flags: given to every node after those that we choose.
    """

    token: str
    command: list[str]
    flags: list[str]
    nodes: dict[str, NodeState]
    proxy: ProxyState | None = None
    format: int = field(default=FORMAT)

    @property
    def ports(self) -> list[int]:
        """Every port that this cluster owns."""
        own = [port for node in self.nodes.values() for port in node.ports]
        if self.proxy is not None:
            own += [self.proxy.control_port, *(link.port for link in self.proxy.links)]
        return own

    @property
    def processes(self) -> list[ProcessRef]:
        """Every process that this cluster has started and not yet replaced, dead or alive."""
        known = [node.process for node in self.nodes.values()] + [self.proxy.process if self.proxy else None]
        return [process for process in known if process is not None]

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> ClusterState:
        """Raises ValueError, KeyError or TypeError when the text is not what ``to_json`` writes."""
        raw: dict[str, Any] = json.loads(text)
        if raw["format"] != FORMAT:
            raise ValueError(f"format {raw['format']}, and this raftkv knows {FORMAT}")
        nodes = {name: NodeState(**node | {"process": _process(node)}) for name, node in raw["nodes"].items()}
        proxy = raw["proxy"]
        if proxy is not None:
            links = [LinkPort(**link) for link in proxy["links"]]
            proxy = ProxyState(**proxy | {"process": _process(proxy), "links": links})
        return cls(**raw | {"nodes": nodes, "proxy": proxy})


def _process(raw: dict[str, Any]) -> ProcessRef | None:
    return None if raw["process"] is None else ProcessRef(**raw["process"])


def exists(directory: Path) -> bool:
    """Whether a cluster's state is kept in this directory."""
    return (directory / STATE_FILE).exists()


def make_directory(directory: Path) -> None:
    """Make the directory of a new cluster, or accept one that is there and holds none.

    Raises:
        LabError: it cannot be made or written to, or it holds a cluster or what is left of one.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LabError(f"cannot make {directory}: {error.strerror}") from error
    if not os.access(directory, os.W_OK | os.X_OK):
        raise LabError(f"cannot write to {directory}")
    if exists(directory):
        raise LabError(f"there is a cluster in {directory} already")
    stray = next(directory.glob("n[1-9].raftkv"), None)
    if stray is not None:
        raise LabError(f"{stray} is the data of a node, but there is no {STATE_FILE}: move it away first")


def load(directory: Path) -> ClusterState:
    """Read the state of the cluster in ``directory``.

    Raises:
        LabError: there is no cluster, or its state cannot be read.
    """
    path = directory / STATE_FILE
    try:
        return ClusterState.from_json(path.read_text())
    except FileNotFoundError:
        raise LabError(f"no cluster in {directory} ({STATE_FILE} is not there)") from None
    except OSError as error:
        raise LabError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise LabError(f"cannot understand {path}: {error}") from error


def save(directory: Path, state: ClusterState) -> None:
    """Replace the state file in one step: a reader sees the old one or the new one."""
    path = directory / STATE_FILE
    beside = path.with_suffix(f".{os.getpid()}.tmp")
    beside.write_text(state.to_json())
    beside.replace(path)


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keep every other process, and thread, from changing this cluster meanwhile. Not reentrant."""
    try:
        descriptor = os.open(directory / LOCK_FILE, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
    except OSError as error:
        reason = error.strerror
        raise LabError(f"no cluster in {directory} that can be changed: {reason}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)

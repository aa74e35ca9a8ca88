"""One port for a target that several nodes dial, told apart by their process: for servers that cannot dial a peer elsewhere.

raftkv dials each peer at a port of its own (``--peer-dial``), so a link's port says who dials. etcd dials every peer at the one URL
that its member list has. A gate stands at that URL and asks the kernel which process the connection comes from; the node's name
is taken from that process's ``--name``. Linux only, and for processes of one's own.

What may not live here: what happens to the bytes then (``proxy.py``, ``pump.py``).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from raftkv.lab.ports import LOOPBACK
from raftkv.lab.process import TOKEN_VARIABLE, processes_with
from raftkv.lab.pump import Side

_PROC = Path("/proc")


class Taker(Protocol):
    """A link, as far as a gate needs it."""

    def take(self, side: Side) -> None:
        """A connection from this link's source has been accepted."""

    def forget(self, side: Side) -> None:
        """A connection is gone; perhaps one that was never taken."""


class Gate:
    """Accepts at ``port`` for one target, and hands each connection to the link that it belongs to.

    Args:
        token: marks the processes of the cluster.
        links: by the name of the node that dials; a connection that none of these has made is broken.
    """

    def __init__(self, port: int, *, token: str, links: Mapping[str, Taker]) -> None:
        self._port = port
        self._token = token
        self._links = links
        self._listener: asyncio.Server | None = None

    async def open(self) -> None:
        """Listen, whether the target does or not."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(
            lambda: Side(on_made=self._accepted, on_lost=self._lost), LOOPBACK, self._port
        )

    def close(self) -> None:
        """Listen no more."""
        if self._listener is not None:
            self._listener.close()

    def _accepted(self, side: Side) -> None:
        name = name_of_caller(side.peer_port, self._port, self._token)
        link = self._links.get(name or "")
        if link is None:
            side.abort()
        else:
            link.take(side)

    def _lost(self, side: Side) -> None:
        for link in self._links.values():
            link.forget(side)


def name_of_caller(port: int, dialled: int, token: str) -> str | None:
    """The ``--name`` of the process that holds the loopback connection from ``port`` to ``dialled``; None: none of ours."""
    inode = _inode_of(port, dialled)
    if inode is None:
        return None
    for process in processes_with(TOKEN_VARIABLE, token):
        if _holds(process.pid, f"socket:[{inode}]"):
            return _name_of(process.pid)
    return None


def _inode_of(port: int, dialled: int) -> str | None:
    wanted = (_hex_address(port), _hex_address(dialled))
    for line in (_PROC / "net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if (fields[1], fields[2]) == wanted:
            return fields[9]
    return None


def _hex_address(port: int) -> str:
    return f"0100007F:{port:04X}"  # 127.0.0.1 as a little-endian kernel prints it.


def _holds(pid: int, link: str) -> bool:
    try:
        entries = list((_PROC / str(pid) / "fd").iterdir())
    except OSError:
        return False  # Gone meanwhile.
    return any(_target_of(entry) == link for entry in entries)


def _target_of(entry: Path) -> str:
    try:
        return os.readlink(entry)
    except OSError:
        return ""  # Closed meanwhile.


def _name_of(pid: int) -> str | None:
    try:
        words = (_PROC / str(pid) / "cmdline").read_text().split("\0")
    except OSError:
        return None
    return words[words.index("--name") + 1] if "--name" in words else None

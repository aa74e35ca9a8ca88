"""Free TCP ports on loopback, held so that two clusters started at the same moment never share one.

A port is *held* by a socket that is bound but never listens. Linux lets a server that sets SO_REUSEADDR (gRPC, Go and asyncio
all do) listen on such a port, while nobody else is given it: not by ``bind(0)``, not for an outgoing connection, and not by
``hold_ports`` of another cluster, which binds *without* SO_REUSEADDR first and so fails. Every process of a cluster inherits
the holders; a port stays held while its node is dead, and connecting to it is refused, as it should be.

Other systems have no such rule: there the port is released as soon as it is chosen.

What may not live here: which node uses which port (``state.py``).
"""

from __future__ import annotations

import random
import socket
import sys
from collections.abc import Iterable
from pathlib import Path

from raftkv.lab.errors import LabError

LOOPBACK = "127.0.0.1"
HOLDING_WORKS = sys.platform == "linux"
_LOWEST_PORT = 12_000
_ATTEMPTS_MAX = 4_000


def hold_ports(count: int) -> list[socket.socket]:
    """Hold ``count`` ports that nobody uses. Below the ephemeral range, so that no outgoing connection takes one.

    Raises:
        LabError: there are none.
    """
    lowest, highest = _LOWEST_PORT, max(_first_ephemeral_port() - 1, _LOWEST_PORT + 2_000)
    held: list[socket.socket] = []
    for _ in range(_ATTEMPTS_MAX):
        if len(held) == count:
            return held
        holder = _bind(random.randint(lowest, highest), share=False)
        if holder is not None:
            held.append(holder)
    for holder in held:
        holder.close()
    raise LabError(f"no {count} free ports on {LOOPBACK} between {lowest} and {highest}")


def hold_again(ports: Iterable[int]) -> list[socket.socket]:
    """Hold ports that a cluster owned before; those on which something listens already are left out."""
    holders = (_bind(port, share=True) for port in ports)
    return [holder for holder in holders if holder is not None]


def port_of(holder: socket.socket) -> int:
    """The port that a holder holds."""
    port: int = holder.getsockname()[1]
    return port


def is_taken(port: int) -> bool:
    """Whether something listens on the port."""
    holder = _bind(port, share=True)
    if holder is None:
        return True
    holder.close()
    return False


def _bind(port: int, *, share: bool) -> socket.socket | None:
    holder = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if share:
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind((LOOPBACK, port))
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # From now on a server may listen on it.
    except OSError:
        holder.close()
        return None
    return holder


def _first_ephemeral_port() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 32_768

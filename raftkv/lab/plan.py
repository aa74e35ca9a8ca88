"""A new cluster on paper: which nodes and links it has, and a port for each.

What may not live here: files and processes.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Sequence
from itertools import permutations

from raftkv.lab.ports import hold_ports, port_of
from raftkv.lab.state import ClusterState, LinkPort, NodeState, ProxyState


def planned(
    nodes: int, *, proxy: bool, gateway: bool, command: Sequence[str], flags: Sequence[str]
) -> tuple[ClusterState, list[socket.socket]]:
    """The state of a cluster that has yet to be started, and the holders of its ports; see ``LocalCluster.create``.

    Raises:
        LabError: no ports are free.
    """
    names = [f"n{number}" for number in range(1, nodes + 1)]
    links = list(permutations(names, 2)) if proxy else []
    holders = hold_ports((3 if gateway else 2) * nodes + len(links) + bool(links))
    ports = iter([port_of(holder) for holder in holders])
    members = {
        name: NodeState(
            name=name,
            client_port=next(ports),
            peer_port=next(ports),
            http_port=next(ports) if gateway else None,
        )
        for name in names
    }
    between = None
    if links:
        control_port = next(ports)
        between = ProxyState(
            control_port=control_port, links=[LinkPort(source=a, target=b, port=next(ports)) for a, b in links]
        )
    state = ClusterState(
        token=secrets.token_hex(8), command=list(command), flags=list(flags), nodes=members, proxy=between
    )
    return state, holders

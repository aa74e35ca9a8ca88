"""Listening at an address, and saying why that is not possible.

What may not live here: what is served there.
"""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

import grpc

from raftkv.config import address_of
from raftkv.errors import ListenError


def add_port(server: grpc.aio.Server, url: str, *, flag: str) -> int:
    """Have a server listen at a checked URL; returns the port.

    Raises:
        ListenError: the port is in use, or the address is not this machine's; says which.
    """
    try:
        port = server.add_insecure_port(address_of(url))
    except RuntimeError:
        port = 0
    if port == 0:
        raise ListenError(f"{flag}: cannot listen on {url}: {obstacle(url) or 'the port was in use a moment ago'}")
    return port


def obstacle(url: str) -> str:
    """What the system says against listening there, nothing if it would do; gRPC keeps it to itself."""
    parts = urlsplit(url)
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(parts.hostname, parts.port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen()
    except OSError as error:
        return error.strerror or str(error)
    return ""

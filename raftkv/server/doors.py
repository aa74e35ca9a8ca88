"""Other ways in than gRPC: what a server asks of them, and what it lets them see.

What may not live here: HTTP, metrics, or any import of them: they are built on the server, not it on them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from raftkv.config import ServerConfig
from raftkv.node import Node
from raftkv.server.call_counts import CountedCalls
from raftkv.server.watch import WatchService
from raftkv.statemachine import StateMachine
from raftkv.storage import WalWriter
from raftkv.transport import PeerTransport


class Door(Protocol):
    """A port of another kind, opened and closed with the clients' gRPC port."""

    def bind(self) -> None:
        """Take the ports, before the node starts. Raises ListenError."""

    async def open(self) -> None:
        """The node serves: let clients in."""

    async def close(self, grace_s: float) -> None:
        """Let nobody in any more, and cut off what is still under way after so long. Twice is once, unopened too."""


@dataclass(frozen=True, kw_only=True)
class Sources:
    """A node from inside, to be read, for those who show it to others.

    Attributes:
        calls: the handlers of every method that clients may call, and how often they did.
        request_bytes_max: largest request message of etcd's services.
    """

    config: ServerConfig
    node: Node
    calls: CountedCalls
    request_bytes_max: int
    log_writer: WalWriter
    machine: StateMachine
    watches: WatchService
    transport: PeerTransport


MakeDoors = Callable[[Sources], Sequence[Door]]

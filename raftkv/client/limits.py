"""The bounds of one client: what it may have in flight and in its queue, and how long it waits.

What may not live here: what is done about them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from raftkv.errors import ConfigError

OPERATIONS_MAX: Final = 4096
"""A server refuses a batch of more commands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one client. The defaults suit everybody known so far.

    Attributes:
        flights_max: batches in flight. More than a few only make the batches smaller.
        unary_flights_max: other RPCs in flight, all there is with a server that does not know batches.
        operations_max: operations in one batch; 4096 at most, for a server takes no more.
        bytes_max: of the requests in one batch; a larger operation travels alone. Below the server's 1.5 MiB.
        queue_operations_max: operations that wait before callers have to wait for room.
        queue_bytes_max: bytes of such operations.
        stall_s: a connection that owes an answer for so long, and has sent none meanwhile, is left for the next endpoint.
        connect_timeout_s: an attempt to connect is given up after so long.
    """

    flights_max: int = 4
    unary_flights_max: int = 64
    operations_max: int = 512
    bytes_max: int = 1 << 20
    queue_operations_max: int = 10_000
    queue_bytes_max: int = 64 << 20
    stall_s: float = 0.5
    connect_timeout_s: float = 2.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} is {getattr(self, name)!r}; it must be greater than 0")
        if self.operations_max > OPERATIONS_MAX:
            raise ConfigError(f"operations_max is {self.operations_max}; a server takes {OPERATIONS_MAX} at most")

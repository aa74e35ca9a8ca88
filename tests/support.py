"""What tests of several packages share: free ports, and waiting for a condition."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

WAIT_S = 20.0


def free_port() -> int:
    """A port on loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def eventually(condition: Callable[[], object], timeout_s: float = WAIT_S) -> None:
    """Wait until the condition holds; TimeoutError if it does not in time."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - any condition, not only what somebody signals
            await asyncio.sleep(0.005)

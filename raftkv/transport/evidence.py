"""Evidence that a peer's process is dead, not merely silent.

The kernel of a living host refuses a connection to a port that nobody listens on. So when a peer's stream has broken and a
fresh connection is *refused*, its process is gone; silence (a hang, a cut) proves nothing and is left to the election timeout.
Measured on loopback: the stream breaks 6 ms after SIGKILL, a redial is refused 0.3 ms later.

A wrong verdict costs an election, never safety: votes decide.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

DIAL_WAIT_S = 0.1
"""Longer than any refusal takes; whoever has not refused by then has not."""


async def is_refused(addresses: Sequence[str]) -> bool:
    """Whether one of these `host:port`s, all of one process, refuses a connection."""
    return any(await asyncio.gather(*(_refuses(address) for address in addresses)))


async def _refuses(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(DIAL_WAIT_S):
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    except ConnectionRefusedError:
        return True
    except (OSError, TimeoutError):
        return False
    writer.close()
    return False

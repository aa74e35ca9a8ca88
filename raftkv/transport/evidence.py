"""Evidence that a peer's process is dead, not merely silent.

The kernel of a living host refuses a connection to a port that nobody listens on. So when a peer's stream has broken and a
fresh connection is *refused*, its process is gone; silence (a hang, a cut) proves nothing and is left to the election timeout.
Measured on loopback: the stream breaks 6 ms after SIGKILL, a redial is refused 0.3 ms later.

Not every refusal is the process's own: a firewall may refuse what clients would dial, or a client URL may be good on the peer's
own host only. So nobody is dead whose peer port takes a connection in and keeps it. Of a process that dies, one port may refuse
while another still takes connections in, and closes them a moment later: that is no life, and no veto. Neither is what stands
before a port and accepts for it, whoever is behind.

A wrong verdict costs an election, never safety: votes decide.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

DIAL_WAIT_S = 0.1
"""Longer than any refusal takes, and any greeting; whoever has not refused by then has not."""
EVIDENCE_WAITS_S = (0.0, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
"""Before each look at whether a lost peer refuses connections."""


async def has_died(peer: Callable[[], tuple[str, Sequence[str]]], is_back: Callable[[], bool]) -> bool:
    """Look, for a moment, whether the peer behind a broken stream has died.

    A dying process closes its sockets one after another: what still listens now may be gone in a moment.

    Args:
        peer: the `host:port` where it is dialed, and those at which it serves clients.
        is_back: whether there is a stream again.
    """
    for wait_s in EVIDENCE_WAITS_S:
        await asyncio.sleep(wait_s)
        if is_back():
            return False
        if await is_refused(*peer()):
            return not is_back()
    return False


async def is_refused(address: str, clients: Sequence[str]) -> bool:
    """Whether one of these `host:port`s, all of one process, refuses a connection, and the first does not keep one."""
    refusals = await asyncio.gather(*(_refuses(one) for one in (address, *clients)))
    return any(refusals) and not await _keeps(address)


async def _refuses(address: str) -> bool:
    try:
        async with asyncio.timeout(DIAL_WAIT_S):
            _, writer = await asyncio.open_connection(*_split(address))
    except ConnectionRefusedError:
        return True
    except (OSError, TimeoutError, ValueError):  # The last is Python's word for a host that can have no address.
        return False
    writer.close()
    return False


async def _keeps(address: str) -> bool:
    """Whether a connection is taken in and stays. The server of gRPC speaks first: one that lives is known at once."""
    try:
        async with asyncio.timeout(DIAL_WAIT_S):
            reader, writer = await asyncio.open_connection(*_split(address))
    except (OSError, TimeoutError, ValueError):
        return False
    try:
        async with asyncio.timeout(DIAL_WAIT_S):
            return bool(await reader.read(1))
    except TimeoutError:
        return True
    except OSError:
        return False
    finally:
        writer.close()


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)

"""The client's lock, with and without its fencing token, and a holder that hangs at the worst moment.

    python -m tests.nemesis.lock ENDPOINTS fenced|unfenced

    guarded/<lease>   who holds the lock, or waits for it
    written/<n>       what the lock guards: each write holds the token under which it was made

The holder takes the lock, asks its own clock whether the lock is its own, and stops itself with SIGSTOP before it acts on that: as
a long pause of the garbage collector, the hypervisor or the disk does. Whoever continues it lets it write.
"""

from __future__ import annotations

import os
import signal
import sys

import raftkv
from raftkv import Client, Lock

NAME, WRITTEN = "guarded", "written/"
TTL_S = 2


def write(client: Client, lock: Lock, number: int, *, fenced: bool) -> bool:
    """Write under the lock; whether it was let through. What is guarded checks the token, or trusts the writer."""
    put = client.op.put(f"{WRITTEN}{number}", f"{lock.fencing_token}")
    conditions = [lock.fence] if fenced else []
    return client.txn().when(*conditions).then(put).commit().succeeded


def tokens_in_order(client: Client) -> list[int]:
    """The tokens of all guarded writes, in the order in which they were made."""
    return [int(item.value) for item in sorted(client.range(prefix=WRITTEN), key=lambda item: item.mod_revision)]


def is_exclusive(tokens: list[int]) -> bool:
    """Whether nobody wrote after somebody who took the lock later."""
    return tokens == sorted(tokens)


def main() -> int:
    """Hold the lock, be paused, write. Exit status 0: the write was let through; 3: it was refused."""
    endpoints, mode = sys.argv[1:]
    with raftkv.connect(endpoints, timeout=30) as client:
        lock = client.lock(NAME, ttl=TTL_S)
        lock.acquire()
        assert write(client, lock, 1, fenced=True)
        lock.require()
        os.kill(os.getpid(), signal.SIGSTOP)
        assert lock.lost.is_set(), "a holder that asks again is told, by its own clock"
        return 0 if write(client, lock, 3, fenced=mode == "fenced") else 3


if __name__ == "__main__":
    sys.exit(main())

"""A lock made of transactions, with and without its fencing token, and a holder that hangs at the worst moment.

    python -m tests.nemesis.lock ENDPOINTS fenced|unfenced

    lock/owner      who holds it; its mod_revision is the fencing token
    lock/beat       a counter that the holder raises; a lock whose counter stands still for `TTL_S` may be taken over
    written/<n>     what the lock guards: each write holds the token under which it was made

The holder takes the lock, raises the counter, concludes that the lock is its own, and stops itself with SIGSTOP before it acts
on that: as a long pause of the garbage collector, the hypervisor or the disk does. Whoever continues it lets it write.
"""

from __future__ import annotations

import os
import signal
import sys
import time

import raftkv
from raftkv import Client

OWNER, BEAT, WRITTEN = "lock/owner", "lock/beat", "written/"
TTL_S = 0.3


class Lock:
    """One contender's view of the lock."""

    def __init__(self, client: Client, name: str) -> None:
        self._client = client
        self._name = name
        self.token = 0
        """The revision at which we took it."""

    def take(self) -> bool:
        """Take it if it is free, or if its holder has not been heard of for TTL_S."""
        client = self._client
        owner, beat = self._seen()
        if owner:
            time.sleep(TTL_S)  # Not a wait for something: this is the time that the holder has.
            if self._seen() != (owner, beat):
                return False
        done = (
            client.txn()
            .when(client[OWNER].mod_revision == owner, client[BEAT].mod_revision == beat)
            .then(client.op.put(OWNER, self._name), client.op.put(BEAT, "0"))
            .commit()
        )
        self.token = done.revision
        return done.succeeded

    def beat(self) -> bool:
        """Say that we are there; whether the lock is ours still."""
        client = self._client
        return (
            client.txn()
            .when(client[OWNER].mod_revision == self.token)
            .then(client.op.put(BEAT, "1"))
            .commit()
            .succeeded
        )

    def write(self, number: int, *, fenced: bool) -> bool:
        """Write under the lock; whether it was let through. What is guarded checks the token, or trusts the writer."""
        client = self._client
        put = client.op.put(f"{WRITTEN}{number}", f"{self.token}")
        conditions = [client[OWNER].mod_revision == self.token] if fenced else []
        return client.txn().when(*conditions).then(put).commit().succeeded

    def _seen(self) -> tuple[int, int]:
        """The revisions of owner and beat; 0: there is none."""
        found = [self._client.get(key) for key in (OWNER, BEAT)]
        owner, beat = (0 if one is None else one.mod_revision for one in found)
        return owner, beat


def tokens_in_order(client: Client) -> list[int]:
    """The tokens of all guarded writes, in the order in which they were made."""
    return [int(item.value) for item in sorted(client.range(prefix=WRITTEN), key=lambda item: item.mod_revision)]


def is_exclusive(tokens: list[int]) -> bool:
    """Whether nobody wrote after somebody who took the lock later."""
    return tokens == sorted(tokens)


def main() -> int:
    """Hold the lock, be paused, write. Exit status 0: the write was let through; 3: it was refused."""
    endpoints, mode = sys.argv[1:]
    with raftkv.connect(endpoints) as client:
        lock = Lock(client, f"process {os.getpid()}")
        assert lock.take(), "the lock is not free"
        assert lock.write(1, fenced=True)
        assert lock.beat()
        os.kill(os.getpid(), signal.SIGSTOP)
        return 0 if lock.write(3, fenced=mode == "fenced") else 3


if __name__ == "__main__":
    sys.exit(main())

"""What tests of several packages share: free ports, waiting for a condition, data directories copied, directories in memory."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

WAIT_S = 20.0

SHARED_MEMORY = Path("/dev/shm")
SHARED_MEMORY_FREE_BYTES_MIN = 1 << 30


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


def copy_data_dir(source: Path, target: Path) -> None:
    """A copy, also of a part, that takes no room for what is only reserved: nearly all of a young node's log and state."""
    subprocess.run(["cp", "--recursive", "--sparse=always", str(source), str(target)], check=True)


@contextmanager
def memory_directory(prefix: str) -> Iterator[Path]:
    """A directory, gone afterwards, for what is not about syncing: in memory if there is enough of it."""
    has_room = SHARED_MEMORY.is_dir() and shutil.disk_usage(SHARED_MEMORY).free > SHARED_MEMORY_FREE_BYTES_MIN
    with tempfile.TemporaryDirectory(prefix=prefix, dir=SHARED_MEMORY if has_room else None) as name:
        yield Path(name)

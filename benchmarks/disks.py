"""A small disk of its own for each node: ext4 in a file, through a loop device. Needs root.

What may not live here: what is done to the disks.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

DISK_BYTES = 512 * 1024 * 1024
UMOUNT_WAIT_S = 10.0


def missing_for_disks() -> str | None:
    """What this machine lacks; None: nothing."""
    if os.geteuid() != 0:
        return "root"
    if not Path("/dev/loop-control").exists():
        return "loop devices"
    return next((tool for tool in ("mkfs.ext4", "mount", "umount") if shutil.which(tool) is None), None)


@contextmanager
def disks_at(places: Sequence[Path], images: Path) -> Iterator[None]:
    """Mount a fresh disk at each place; at the end unmount and remove them."""
    images.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, images)
        for number, place in enumerate(places):
            image = images / f"{number}.img"
            with image.open("wb") as file:
                file.truncate(DISK_BYTES)
            subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", str(image)], check=True)
            place.mkdir(mode=0o700)
            subprocess.run(["mount", "-o", "loop", str(image), str(place)], check=True)
            stack.callback(_unmount, place)
            place.chmod(0o700)  # etcd wants its data to itself.
        yield


def _unmount(place: Path) -> None:
    """Waits for those that still use it: a killed process takes a moment to go."""
    end = time.monotonic() + UMOUNT_WAIT_S
    while subprocess.run(["umount", str(place)], capture_output=True, check=False).returncode:
        if time.monotonic() > end:
            raise TimeoutError(f"{place} cannot be unmounted: somebody still uses it")
        time.sleep(0.05)

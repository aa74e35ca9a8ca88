"""Small disks of their own for the nodes, whose power can be cut: ext4 in a file, mounted through a loop device.

After `cut_power` nothing more reaches the disk, not even what the file system has in memory: what was not synced is gone.
Needs root, loop devices and e2fsprogs; `require_disks` skips by name where they are missing.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

FS_IOC_SHUTDOWN = 0x8004587D
WITHOUT_FLUSH = 2
"""Drop the journal too: EXT4_GOING_FLAGS_NOLOGFLUSH."""
DISK_BYTES = 160 * 1024 * 1024
UMOUNT_WAIT_S = 10.0


def missing_for_disks() -> str | None:
    """What this machine lacks for disks of our own; None: nothing."""
    if os.geteuid() != 0:
        return "root"
    for tool in ("mkfs.ext4", "mount", "umount"):
        if shutil.which(tool) is None:
            return tool
    if not Path("/dev/loop-control").exists():
        return "loop devices"
    return None


def require_disks() -> None:
    """Skip, and say by name what is missing."""
    if (missing := missing_for_disks()) is not None:
        pytest.skip(f"no {missing}: cannot mount a disk of its own for each node")


class Disk:
    """One ext4 file system in a file. `mount`, `unmount` and `cut_power` may follow each other any number of times."""

    def __init__(self, image: Path, mount_point: Path, *, size: int = DISK_BYTES) -> None:
        self.image = image
        self.mount_point = mount_point
        with image.open("wb") as file:
            file.truncate(size)  # Sparse: takes the space that is used.
        run("mkfs.ext4", "-q", "-F", "-m", "0", str(image))

    def mount(self) -> None:
        self.mount_point.mkdir(parents=True, exist_ok=True)
        try:
            run("mount", "-o", "loop", str(self.image), str(self.mount_point))
        except AssertionError as error:
            if "failed to setup loop device" in str(error) or "permission denied" in str(error):
                pytest.skip(f"no loop devices: {error}")
            raise

    def unmount(self) -> None:
        """Waits for those that still use it: a killed process takes a moment to go."""
        end = time.monotonic() + UMOUNT_WAIT_S
        while os.path.ismount(self.mount_point):
            done = subprocess.run(["umount", str(self.mount_point)], capture_output=True, text=True, check=False)
            if done.returncode:
                assert time.monotonic() < end, done.stderr
                time.sleep(0.01)

    def cut_power(self) -> None:
        """From now on every operation on it fails, and nothing that was not synced will be there after `mount`."""
        handle = os.open(self.mount_point, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(handle, FS_IOC_SHUTDOWN, struct.pack("I", WITHOUT_FLUSH))
        finally:
            os.close(handle)

    def bytes_free(self) -> int:
        found = os.statvfs(self.mount_point)
        return found.f_bavail * found.f_frsize


@contextmanager
def disks_at(mount_points: Sequence[Path], images: Path, *, size: int = DISK_BYTES) -> Iterator[list[Disk]]:
    """A mounted disk at each of these places; unmounted at the end, when whoever used them has gone."""
    images.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        disks = []
        for number, mount_point in enumerate(mount_points, 1):
            disk = Disk(images / f"disk{number}.img", mount_point, size=size)
            stack.callback(disk.image.unlink)
            disk.mount()
            stack.callback(disk.unmount)
            disks.append(disk)
        yield disks


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}"

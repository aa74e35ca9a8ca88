"""Fetches judges: from their registries, pinned by hash, into a folder that git ignores, each installed apart from all others.

What may not live here: what a judge does once it is installed (``judges.py``).
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HOME = Path(".raftkv/judges").absolute()
COMMAND_S = 600.0


class FetchError(Exception):
    """A package cannot be had, or is not what it was."""


@dataclass(frozen=True)
class Package:
    """One archive of a registry.

    Attributes:
        registry: ``pypi`` (its source distribution) or ``npm``.
        sha256: of the archive.
    """

    registry: str
    name: str
    version: str
    sha256: str

    @property
    def archive(self) -> str:
        return f"{self.name}-{self.version}.{'tar.gz' if self.registry == 'pypi' else 'tgz'}"

    def fetch(self, folder: Path) -> Path:
        """The archive, from the folder or from the registry.

        Raises:
            FetchError: the registry has no such archive, or another one.
        """
        path = folder / self.archive
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            asked = f"{self.name}=={self.version}" if self.registry == "pypi" else f"{self.name}@{self.version}"
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", asked]
            run(pip if self.registry == "pypi" else ["npm", "pack", "--silent", asked], folder)
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found != self.sha256:
            path.unlink()
            raise FetchError(f"{self.archive} has the digest {found}, not {self.sha256}")
        return path


def run(command: Sequence[str], folder: Path) -> None:
    """Run a command that fetches or installs; its words are shown only when it fails.

    Raises:
        FetchError: it fails, or is not there.
    """
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=COMMAND_S)
    except FileNotFoundError:
        raise FetchError(f"{command[0]} is not installed") from None
    if done.returncode:
        raise FetchError(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def unpack(archive: Path, folder: Path) -> Path:
    """What is in the archive's only directory, in place of what was there."""
    shutil.rmtree(folder, ignore_errors=True)
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    (root,) = folder.iterdir()
    return root


def virtual_environment(folder: Path, requirements: Sequence[str]) -> Path:
    """A Python of the judge's own, with nothing in it but these; its path."""
    run([sys.executable, "-m", "venv", "--clear", str(folder)], folder.parent)
    python = folder / "bin" / "python"
    run([str(python), "-m", "pip", "install", "--quiet", *requirements], folder.parent)
    return python


def once(folder: Path, recipe: object, make: Callable[[], None]) -> None:
    """Make what belongs into a folder, unless it was made by the same recipe before; others who want the same wait."""
    stamp = folder / "made-by"
    with _locked(folder):
        if not (stamp.exists() and stamp.read_text() == repr(recipe)):
            stamp.unlink(missing_ok=True)
            make()
            stamp.write_text(repr(recipe))


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield

"""The values of a large state, read by a process of their own while this one reads the rest: the check in half the time.

    check_state ──► walks meta, index, leases ───────────────┐
         │                                                   ├─► do they agree? is a page in two trees?
         └────────► python -m raftkv.mvcc.values_reader ─────┘
                    walks the values; answers with their sum and the pages it met

To read a state is work for the interpreter, and of two threads one would wait. It is done by one process where the state is
small (it takes less time than another process takes to start), where there is but one processor, and where the other process
ends without an answer, because it was killed or there was no memory for it.

What may not live here: what the sums mean (`checking`), and anything that takes long to import.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from zlib import crc32

from raftkv.errors import CorruptionError, StorageError
from raftkv.mvcc.pages import PageFile, Tree

APART_BYTES: Final = 64 << 20
"""Least size of a file whose values are read apart: reading it takes 0.3 s, starting a process 0.05."""

_DAMAGED, _UNREADABLE = "damaged", "unreadable"

log = logging.getLogger("raftkv.mvcc")


class ValuesReader:
    """Finds the sum of a file's values."""

    def __init__(self, file: PageFile, values: Tree, process: subprocess.Popen[bytes] | None) -> None:
        """`process`: it is at work already; None: the values are read when they are asked for."""
        self._file = file
        self._values = values
        self._process = process

    def sum(self) -> int:
        """The sum over the values, each with its revision. Their pages count as met in the file.

        Raises:
            CorruptionError: the pages of the values are damaged, or met elsewhere too.
            StorageError: the file cannot be read.
        """
        if self._process is None:
            return _sum(self._file, self._values)
        answer, _ = self._process.communicate()
        if self._process.returncode:
            log.warning(
                "%s: the process that read its values ended with %d; they are read again",
                self._file.path,
                self._process.returncode,
            )
            return _sum(self._file, self._values)
        head, _, met = answer.partition(b"\n")
        found = json.loads(head)
        if _DAMAGED in found:
            raise CorruptionError(found[_DAMAGED])
        if _UNREADABLE in found:
            raise StorageError(found[_UNREADABLE])
        self._file.meet_all(met)
        return int(found["sum"])


@contextmanager
def values_reader(file: PageFile, values: Tree, *, apart_bytes: int = APART_BYTES) -> Iterator[ValuesReader]:
    """Begin to read the values of `file`, in a process of their own if that pays; it does not outlive the block."""
    process = None
    if file.used_bytes >= apart_bytes and len(os.sched_getaffinity(0)) > 1:
        process = _start(file.path, values)
    if process is None:
        yield ValuesReader(file, values, None)
        return
    with process:
        try:
            yield ValuesReader(file, values, process)
        finally:
            process.kill()


def _start(path: Path, values: Tree) -> subprocess.Popen[bytes] | None:
    try:
        return subprocess.Popen(  # noqa: S603 - our own
            [sys.executable, "-P", "-m", __name__, str(path), json.dumps(values)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
            process_group=0,  # Ctrl-C is for the process that waits for it, and ends it.
        )
    except OSError as error:
        log.warning("%s: no process to read its values: %s", path, error.strerror)
        return None


def _sum(file: PageFile, values: Tree) -> int:
    return sum(crc32(revision, crc32(stored)) for leaf in file.leaves(values) for revision, stored in leaf)


def _main(path: Path, values: Tree) -> None:
    """The other process."""
    found: dict[str, int | str]
    met = b""
    try:
        with PageFile(path) as file:
            found = {"sum": _sum(file, values)}
            met = file.met
    except CorruptionError as error:
        found = {_DAMAGED: str(error)}
    except StorageError as error:
        found = {_UNREADABLE: str(error)}
    try:
        sys.stdout.buffer.write(json.dumps(found).encode() + b"\n" + met)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        os._exit(1)  # Who started it is gone.


if __name__ == "__main__":
    _main(Path(sys.argv[1]), Tree(*json.loads(sys.argv[2])))

"""What this member remembers of the others' data: whoever comes back without it, or with less of it, must not vote.

A member's id follows from its URLs, so an emptied or restored disk comes back under the old id, and votes and acknowledges
a second time for what it has forgotten. It cannot know; its peers can. Before anything is heard from a peer, `meet` writes
down which data directory it has and how often that has been opened:

    another data directory            it has lost its data
    a lower incarnation               an older copy was put back
    this incarnation, another run     an older copy was put back, taken before the run that we met

May not live here: the connection on which a peer says this, and what becomes of a peer that is refused.

Not done: a copy taken from a running node and put back before its next start counts as that next start.
"""

from __future__ import annotations

import json
import threading
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from raftkv.errors import CorruptionError, PeerDataError
from raftkv.raft.types import NodeId
from raftkv.storage.files import OS_FILES, FileSystem, disk_errors, replace_file

PEERS_FILE: Final = "peers.json"
_TEMPORARY: Final = PEERS_FILE + ".tmp"
_BYTES_MAX: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class DataMark:
    """Which data a process has.

    Attributes:
        data_id: drawn when the data directory was made.
        incarnation: how often it has been opened.
        run_id: drawn each time it is opened.
    """

    data_id: int
    incarnation: int
    run_id: int


class PeerRecords:
    """The marks of the peers met so far, in a file of the data directory. May be used from any thread."""

    def __init__(self, directory: Path, *, files: FileSystem = OS_FILES) -> None:
        """Read what was written down.

        Raises:
            CorruptionError: it is damaged.
            StorageError: the disk failed.
        """
        self._directory = directory
        self._files = files
        self._lock = threading.Lock()
        with disk_errors(directory):
            self._marks = self._read() if PEERS_FILE in files.listdir(directory) else {}

    def knows(self, member: NodeId, mark: DataMark) -> bool:
        """Whether `meet` has nothing to write."""
        return self._marks.get(member) == mark

    def meet(self, member: NodeId, mark: DataMark) -> None:
        """Check a peer against what was written down of it, and write down what is new; durable on return.

        Raises:
            PeerDataError: its data is not what it was; it must not take part.
            StorageError: the disk failed.
        """
        with self._lock:
            known = self._marks.get(member)
            if known == mark:
                return
            if known is not None:
                _check(known, mark)
            marks = self._marks | {member: mark}
            with disk_errors(self._directory):
                replace_file(self._files, self._directory, _TEMPORARY, PEERS_FILE, _encode(marks))
            self._marks = marks

    def forget(self, members: Iterable[NodeId]) -> None:
        """Members that were removed: their ids are never used again. Durable on return.

        Raises:
            StorageError: the disk failed.
        """
        gone = frozenset(members)
        with self._lock:
            marks = {member: mark for member, mark in self._marks.items() if member not in gone}
            if len(marks) == len(self._marks):
                return
            with disk_errors(self._directory):
                replace_file(self._files, self._directory, _TEMPORARY, PEERS_FILE, _encode(marks))
            self._marks = marks

    def _read(self) -> dict[NodeId, DataMark]:
        file = self._directory / PEERS_FILE
        handle = self._files.open(file)
        try:
            data = self._files.read(handle, _BYTES_MAX, 0)
        finally:
            self._files.close(handle)
        try:
            fields = json.loads(data)
            peers = fields["peers"]
            if fields["checksum"] != _checksum(peers):
                raise ValueError("the checksum does not match")
            return {int(member, 16): DataMark(**mark) for member, mark in peers.items()}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise CorruptionError(f"{file} is damaged: {error}") from error


def _check(known: DataMark, mark: DataMark) -> None:
    if mark.data_id != known.data_id:
        raise PeerDataError("it has lost its data: it was a member with another data directory")
    if mark.incarnation < known.incarnation or (mark.incarnation == known.incarnation and mark.run_id != known.run_id):
        raise PeerDataError(
            f"it has an older copy of its data: opened {mark.incarnation} times, and {known.incarnation} times before"
        )


def _encode(marks: dict[NodeId, DataMark]) -> bytes:
    peers = {f"{member:x}": asdict(mark) for member, mark in sorted(marks.items())}
    fields: dict[str, Any] = {"peers": peers, "checksum": _checksum(peers)}
    return json.dumps(fields, indent=2).encode() + b"\n"


def _checksum(peers: Any) -> str:
    return f"{zlib.crc32(json.dumps(peers, sort_keys=True).encode()):08x}"

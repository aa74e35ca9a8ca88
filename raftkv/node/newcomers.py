"""Members that stand in the log and not yet in the member table: their votes may be needed to get them there.

A change of the membership is in force once it is in the log (Raft dissertation §4.1), before it is committed. Should the leader
be lost in between, those who are left may need the newcomer's vote, and must be able to reach it: its address is in the entry.

What may not live here: the member table, and dialing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from raftkv.pb import rpc_pb2, store_pb2
from raftkv.raft.types import Entry, EntryKind


class Newcomers:
    """Who is being added, by the index of the entry that adds it."""

    def __init__(self) -> None:
        self._members: dict[int, rpc_pb2.Member] = {}

    def appended(self, entries: Sequence[Entry]) -> bool:
        """These entries replace everything from the first one's index on. True: somebody came or went by it."""
        if not entries:
            return False
        gone = [index for index in self._members if index >= entries[0].index]
        for index in gone:
            del self._members[index]
        come = {entry.index: entry.data for entry in entries if entry.kind is EntryKind.MEMBERSHIP and entry.data}
        for index, data in come.items():
            change = store_pb2.MemberChange.FromString(data)
            if change.HasField("add"):
                self._members[index] = change.add
        return bool(gone or come)

    def applied(self, index: int) -> None:
        """The member table holds everything up to here."""
        self._members = {at: member for at, member in self._members.items() if at > index}

    def beside(self, members: Iterable[rpc_pb2.Member]) -> list[rpc_pb2.Member]:
        """Those who are not among these."""
        known = {member.ID for member in members}
        return [member for member in self._members.values() if member.ID not in known]

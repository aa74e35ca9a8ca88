"""A member that learns of its removal tells its clients the truth about their writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from raftkv.errors import MemberRemovedError, Outcome
from raftkv.node.events import SnapshotReceived
from raftkv.pb import store_pb2
from raftkv.raft import Entry, EntryKind, HeartbeatRequest, InstallSnapshot, Membership, ProposeRequest
from tests.node.support import INCARNATION, Member, outcome_of, settled, submitted
from tests.statemachine.support import batch, open_machine, put
from tests.support import eventually


async def test_a_write_that_a_snapshot_holds_is_not_called_unapplied(tmp_path: Path) -> None:
    """The same snapshot says that the write took effect and that the member was removed after it."""
    member = Member(1, tmp_path, voters=(1, 2, 3)).start()
    member.receive(HeartbeatRequest(sender=2, receiver=1, term=1, commit_index=0, read_round=0))
    write = submitted(member, b"a")
    await eventually(lambda: member.network.sent_of(ProposeRequest))
    removal = Entry(
        2,
        1,
        EntryKind.MEMBERSHIP,
        store_pb2.MemberChange(remove=1).SerializeToString(),
        Membership(voters=frozenset({2, 3})),
    )
    leaders = open_machine(tmp_path / "leaders")
    leaders.apply([batch(1, put(b"a"), origin=1, incarnation=INCARNATION, sequence=1), removal])
    meta = leaders.snapshot_to(tmp_path / "received.snapshot")
    leaders.close()

    message = InstallSnapshot(sender=2, receiver=1, term=1, snapshot=meta)
    member.node.inbox.post(SnapshotReceived(message, tmp_path / "received.snapshot"))

    assert await outcome_of(write) is Outcome.UNKNOWN
    await settled()
    with pytest.raises(MemberRemovedError):
        member.node.stopped.result()
    await member.close()

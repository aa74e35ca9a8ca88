"""node: promises wait for the disk, a failed disk ends them, and snapshots take the log's place in the right order."""

from __future__ import annotations

import asyncio
import errno
import shutil
from pathlib import Path
from typing import Any

import pytest

from raftkv.errors import Outcome, StorageError, Unavailable
from raftkv.node import NodeConfig
from raftkv.node.events import Failed, SnapshotReceived
from raftkv.raft import (
    AppendRequest,
    AppendResponse,
    Entry,
    EntryKind,
    HeartbeatRequest,
    InstallSnapshot,
    ProposeRequest,
    SnapshotMeta,
    VoteRequest,
    VoteResponse,
)
from raftkv.storage import WalWriter
from tests.node.support import STILL, TIMEOUT_S, Member, cluster, commands, member, noop, settled
from tests.statemachine.support import batch, everything, open_machine, put
from tests.storage.helpers import disk, open_wal
from tests.support import eventually


def append(*entries: Entry, commit_index: int = 0, term: int = 1, sender: int = 2) -> AppendRequest:
    first = entries[0]
    return AppendRequest(
        sender=sender,
        receiver=1,
        term=term,
        prev_index=first.index - 1,
        prev_term=term if first.index > 1 else 0,
        commit_index=commit_index,
        entries=entries,
    )


def snapshot_of(path: Path, *entries: Entry) -> tuple[SnapshotMeta, Path]:
    """The snapshot of a state machine that has applied these entries."""
    machine = open_machine(path / "origin")
    machine.apply(entries)
    file = path / f"{machine.applied_index}.snapshot"
    meta = machine.snapshot_to(file)
    machine.close()
    shutil.rmtree(path / "origin")
    return meta, file


def offered(meta: SnapshotMeta, file: Path, *, term: int = 1, sender: int = 2) -> SnapshotReceived:
    message = InstallSnapshot(sender=sender, receiver=1, term=term, snapshot=meta)
    return SnapshotReceived(message, file)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    path = tmp_path / "images"
    path.mkdir()
    return path


# Promises wait for the disk


async def test_a_vote_leaves_only_once_it_is_on_disk(tmp_path: Path) -> None:
    async with member(tmp_path, voters=(1, 2, 3)) as voter:
        voter.log.is_held = True
        voter.receive(VoteRequest(sender=2, receiver=1, term=1, last_index=0, last_term=0))
        await settled()
        assert voter.log.waiting
        assert voter.network.sent_of(VoteResponse) == []

        voter.log.complete()
        await settled()

        assert [response.granted for response in voter.network.sent_of(VoteResponse)] == [True]


async def test_entries_are_acknowledged_only_once_they_are_on_disk(tmp_path: Path) -> None:
    async with member(tmp_path, voters=(1, 2, 3)) as follower:
        follower.log.is_held = True
        follower.receive(append(noop(1)), append(noop(2)))
        await settled()
        assert follower.network.sent_of(AppendResponse) == []

        follower.log.complete()
        await settled()

        acknowledged = follower.network.sent_of(AppendResponse)
        assert [response.match_index for response in acknowledged if response.accepted][-1] == 2


async def test_what_is_committed_elsewhere_is_applied_before_our_own_disk_has_it(tmp_path: Path) -> None:
    async with member(tmp_path, voters=(1, 2, 3)) as follower:
        follower.log.is_held = True

        follower.receive(append(noop(1), batch(2, put(b"key")), commit_index=2))
        await settled()

        assert follower.machine.applied_index == 2
        assert follower.network.sent_of(AppendResponse) == []


# A failed disk


async def test_a_log_that_fails_stops_the_node_and_nothing_is_acknowledged(tmp_path: Path) -> None:
    files = disk()
    wal, _ = open_wal(files)
    only = Member(1, tmp_path)
    writer = WalWriter(wal, failed=lambda error: only.node.inbox.post(Failed(error)))
    only.start(log_writer=writer)
    await only.put(b"before")

    def fail(operation: str, path: Path) -> None:
        if operation == "sync":
            raise OSError(errno.EIO, "no more")

    files.fail = fail
    write = asyncio.create_task(only.put(b"lost"))

    with pytest.raises(StorageError):
        await asyncio.wait_for(asyncio.shield(only.node.stopped), TIMEOUT_S)
    with pytest.raises(Unavailable) as raised:
        await write
    assert raised.value.outcome is Outcome.UNKNOWN
    assert list(everything(only.machine)) == [b"before"]
    with pytest.raises(Unavailable):
        await only.put(b"after")
    assert writer.close(TIMEOUT_S)
    await only.close()


async def test_a_follower_whose_log_fails_acknowledges_nothing_more(tmp_path: Path) -> None:
    async with member(tmp_path, voters=(1, 2, 3)) as follower:
        follower.log.is_held = True
        follower.receive(append(noop(1)))
        await settled()

        follower.node.inbox.post(Failed(StorageError("the disk is gone")))
        follower.log.complete()  # Too late: it was not to be believed any more.
        await settled()

        assert follower.network.sent_of(AppendResponse) == []
        with pytest.raises(StorageError, match="the disk is gone"):
            await follower.node.stopped


# Snapshots received


async def test_a_snapshot_holds_saves_back_until_it_is_installed(tmp_path: Path, images: Path) -> None:
    """A crash in between must not leave a log that begins behind what the state machine has."""
    meta, file = snapshot_of(images, noop(1), batch(2, put(b"key")))
    async with member(tmp_path, voters=(1, 2, 3)) as follower:
        follower.applier.is_held = True
        follower.node.inbox.post(offered(meta, file))
        follower.receive(append(noop(3), commit_index=3))
        await settled()
        assert follower.applier.installs == [meta]
        assert [save for save in follower.log.saves if save.reset_to or save.entries] == []
        assert follower.network.sent_of(AppendResponse) == []

        follower.applier.release()
        await settled()

        resets = [save.reset_to for save in follower.log.saves if save.reset_to]
        assert resets == [meta]
        assert [entry.index for save in follower.log.saves for entry in save.entries] == [3]
        assert follower.machine.applied_index == 3
        assert everything(follower.machine) == {b"key": b"v"}
        assert follower.network.sent_of(AppendResponse)[-1].match_index == 3


async def test_a_snapshot_that_is_not_wanted_is_removed(tmp_path: Path, images: Path) -> None:
    meta, file = snapshot_of(images, noop(1))
    async with member(tmp_path, voters=(1, 2, 3)) as follower:
        follower.receive(append(noop(1), noop(2), commit_index=2))

        follower.node.inbox.post(offered(meta, file))
        await settled()

        assert follower.applier.installs == []
        await eventually(lambda: not file.exists())


async def test_a_second_snapshot_does_not_disturb_the_one_being_installed(tmp_path: Path, images: Path) -> None:
    first = snapshot_of(images, noop(1), batch(2, put(b"key")))
    second = snapshot_of(images, noop(1), batch(2, put(b"key")), noop(3))
    async with member(tmp_path, voters=(1, 2, 3)) as follower:
        follower.applier.is_held = True
        follower.node.inbox.post(offered(*first))
        await settled()

        follower.node.inbox.post(offered(*second, term=2, sender=3))
        await settled()
        await eventually(lambda: not second[1].exists())
        follower.applier.release()
        await settled()

        assert follower.applier.installs == [first[0]]
        assert follower.machine.applied_index == 2
        assert not follower.node.stopped.done()


async def test_of_two_snapshots_at_once_the_one_that_raft_took_is_installed(tmp_path: Path, images: Path) -> None:
    newer = snapshot_of(images, noop(1), noop(2), noop(3))
    older = snapshot_of(images, noop(1), noop(2))
    async with member(tmp_path, voters=(1, 2, 3)) as follower:
        follower.node.inbox.post(offered(*newer))
        follower.node.inbox.post(offered(*older))
        await settled()

        assert follower.applier.installs == [newer[0]]
        assert follower.machine.applied_index == 3
        await eventually(lambda: not older[1].exists())


async def test_answers_swallowed_by_a_snapshot_end_unknown(tmp_path: Path, images: Path) -> None:
    async with member(tmp_path, voters=(1, 2, 3)) as follower:
        follower.receive(HeartbeatRequest(sender=2, receiver=1, term=1, commit_index=0))
        await settled()
        write = asyncio.create_task(follower.put(b"key"))
        await eventually(lambda: follower.network.sent_of(ProposeRequest))
        (proposal,) = follower.network.sent_of(ProposeRequest)[0].proposals
        meta, file = snapshot_of(images, noop(1), Entry(2, 1, EntryKind.COMMANDS, proposal.data))

        follower.node.inbox.post(offered(meta, file))

        with pytest.raises(Unavailable, match="leader changed") as raised:
            await write
        assert raised.value.outcome is Outcome.UNKNOWN
        assert everything(follower.machine) == {b"key": b"v"}


async def test_what_a_snapshot_does_not_hold_is_asked_for_again(tmp_path: Path, images: Path) -> None:
    meta, file = snapshot_of(images, noop(1), noop(2))
    async with member(tmp_path, voters=(1, 2, 3)) as follower:
        follower.receive(HeartbeatRequest(sender=2, receiver=1, term=1, commit_index=0))
        await settled()
        write = asyncio.create_task(follower.put(b"key"))
        await eventually(lambda: follower.network.sent_of(ProposeRequest))

        follower.node.inbox.post(offered(meta, file))
        await settled()

        first, again = follower.network.sent_of(ProposeRequest)
        assert again.proposals == first.proposals
        assert not write.done()
        follower.receive(append(Entry(3, 1, EntryKind.COMMANDS, again.proposals[0].data), commit_index=3))
        await write


# A bounded log, and snapshots sent


SMALL_LOG = NodeConfig(tick_s=0.005, repropose_ticks=40, entries_retained=10, log_bytes_retained=8 * 1024)


async def test_the_log_goes_as_far_as_the_state_machine_is_durable(tmp_path: Path) -> None:
    config = NodeConfig(tick_s=STILL.tick_s, log_bytes_retained=8 * 1024)
    async with member(tmp_path, config=config) as only:
        for _ in range(20):
            await only.put(b"key", bytes(1024))
        assert only.log.compactions == []

        only.applier.commit()
        await settled()

        assert [base.index for base in only.log.compactions] == [only.raft.first_index - 1]
        assert only.raft.log_bytes <= 8 * 1024
        assert only.log.compactions[0].membership == only.raft.membership


async def test_a_follower_behind_the_log_gets_a_snapshot_and_goes_on_from_there(tmp_path: Path) -> None:
    async with cluster(tmp_path, config=SMALL_LOG) as members:
        leader, late = members[1], members[3]
        leader.network.isolate(3)
        for number in range(20):
            await leader.put(b"%02d" % number, bytes(1024))
        leader.applier.commit()
        await eventually(lambda: leader.raft.first_index > late.raft.last_index + 1)

        leader.network.heal()
        await leader.put(b"after")

        await eventually(lambda: b"after" in everything(late.machine))
        assert late.applier.installs
        assert late.machine.hash_kv(0) == leader.machine.hash_kv(0)
        await eventually(lambda: list((leader.path / "snapshots").iterdir()) == [])
        await late.put(b"of the late one")


async def submit_large(this: Member, count: int) -> list[Any]:
    payload = commands(*(put(b"%d" % number, bytes(1024)) for number in range(count)))
    return await this.node.submit(payload, count, timeout_s=TIMEOUT_S)


async def test_the_sizes_of_the_database_are_those_of_the_last_commit(tmp_path: Path) -> None:
    async with member(tmp_path) as only:
        await submit_large(only, 100)
        only.applier.commit()
        await settled()

        assert only.node.bytes_on_disk == only.machine.bytes_on_disk > 0
        assert only.node.bytes_in_use == only.machine.bytes_in_use > 100 * 1024

"""Who is being added can be reached before it is a member: its vote may be needed for that."""

from __future__ import annotations

from pathlib import Path

from raftkv.node.newcomers import Newcomers
from raftkv.pb import rpc_pb2, store_pb2
from raftkv.raft import Entry, EntryKind, Membership, MembershipChange
from tests.node.support import cluster
from tests.support import eventually

FOUR = rpc_pb2.Member(ID=4, peerURLs=["http://n4:2380"])
ADD_FOUR = store_pb2.MemberChange(add=FOUR).SerializeToString()


def membership_entry(index: int, data: bytes) -> Entry:
    return Entry(index, 1, EntryKind.MEMBERSHIP, data, Membership(voters=frozenset({1, 2, 3, 4})))


def test_a_newcomer_is_known_from_its_entry_until_the_table_has_it() -> None:
    newcomers = Newcomers()

    assert newcomers.appended([Entry(1, 1, EntryKind.NOOP, b""), membership_entry(2, ADD_FOUR)])
    assert newcomers.beside([]) == [FOUR]
    assert newcomers.beside([FOUR]) == []

    newcomers.applied(1)
    assert newcomers.beside([]) == [FOUR]
    newcomers.applied(2)
    assert newcomers.beside([]) == []


def test_a_newcomer_goes_with_the_entry_that_another_one_replaces() -> None:
    newcomers = Newcomers()
    newcomers.appended([membership_entry(2, ADD_FOUR)])

    assert newcomers.appended([Entry(2, 2, EntryKind.NOOP, b"")])
    assert newcomers.beside([]) == []


def test_entries_that_add_nobody_change_nothing() -> None:
    newcomers = Newcomers()

    assert not newcomers.appended([])
    assert not newcomers.appended([Entry(1, 1, EntryKind.COMMANDS, b"")])
    newcomers.appended(
        [membership_entry(2, store_pb2.MemberChange(remove=3).SerializeToString()), membership_entry(3, b"")]
    )
    assert newcomers.beside([]) == []


async def test_a_voter_whose_addition_is_not_committed_is_a_peer_of_leader_and_followers(tmp_path: Path) -> None:
    async with cluster(tmp_path) as members:
        wanted = MembershipChange(voters=frozenset({1, 2, 3, 4}))
        members[3].network.lost = lambda message: 3 in (message.sender, message.receiver)

        members[1].node.propose_membership(wanted, ADD_FOUR)  # Three of four are needed, and two are there.

        for one in (members[1], members[2]):
            await eventually(lambda one=one: 4 in {peer.ID for peer in one.link.peers})
        assert members[1].raft.commit_index < members[1].raft.last_index

"""Rosters over real gRPC on loopback: who was removed is told, who was left behind learns, changes reach the leader."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from raftkv.errors import FailedPrecondition, Outcome, PeerError, Unavailable
from raftkv.pb import peer_pb2, rpc_pb2, store_pb2
from raftkv.raft.messages import HeartbeatRequest, Message
from raftkv.transport import PeerTransport
from raftkv.transport.roster import ask_for_roster
from tests.support import eventually, free_port

CLUSTER = 7
CHANGE = store_pb2.MemberChange(remove=5)


class Absent:
    """A member that is not there."""

    def __init__(self, node: int) -> None:
        self.member = rpc_pb2.Member(ID=node, name=f"n{node}", peerURLs=[f"http://127.0.0.1:{free_port()}"])


class Peer:
    """A node as far as its peers can tell."""

    def __init__(self, node: int, directory: Path) -> None:
        self.node = node
        self.url = f"http://127.0.0.1:{free_port()}"
        self.roster = peer_pb2.Roster(cluster_id=CLUSTER)
        self.received: list[Message] = []
        self.told_by: list[str] = []
        self.forgotten: list[int] = []
        self.refusal: Exception | None = None
        self.transport = PeerTransport(
            node_id=node,
            cluster_id=CLUSTER,
            snapshot_dir=directory,
            dial_overrides={},
            on_messages=self.received.extend,
            on_snapshot=lambda *_: None,
            on_lost=lambda *_: None,
            on_dead=lambda *_: None,
            on_disowned=lambda _: None,
            on_removed=self.told_by.append,
            roster=lambda: self.roster,
            lead=self.lead,
            forget=self.forgotten.extend,
            introduction=peer_pb2.Hello(data_id=node, incarnation=1, run_id=1),
            meet=lambda _: None,
            verify_snapshot=lambda _: None,
        )

    async def lead(self, change: store_pb2.MemberChange, timeout_s: float) -> store_pb2.MemberTable:
        if self.refusal is not None:
            raise self.refusal
        return store_pb2.MemberTable(removed=[change.remove])

    @property
    def member(self) -> rpc_pb2.Member:
        return rpc_pb2.Member(ID=self.node, name=f"n{self.node}", peerURLs=[self.url])

    def applied(self, index: int, members: Sequence[Peer | Absent], removed: Sequence[int] = ()) -> None:
        table = store_pb2.MemberTable(members=[peer.member for peer in members], removed=removed)
        self.roster = peer_pb2.Roster(cluster_id=CLUSTER, index=index, table=table)
        self.transport.set_peers([peer.member for peer in members if peer is not self])

    def is_connected_with(self, other: Peer) -> bool:
        return self.transport.links().get(other.node, "no link") is None


@asynccontextmanager
async def peers(directory: Path, count: int) -> AsyncIterator[list[Peer]]:
    everybody = [Peer(node, directory) for node in range(1, count + 1)]
    for peer in everybody:
        await peer.transport.listen([peer.url])
    try:
        yield everybody
    finally:
        for peer in everybody:
            await peer.transport.close()


@pytest.mark.parametrize("gone", [0, 1], ids=["the one who dials", "the one who is dialed"])
async def test_who_is_removed_hears_what_was_on_its_way_and_then_that_it_was_removed(tmp_path: Path, gone: int) -> None:
    async with peers(tmp_path, 2) as both:
        leaves, stays = both[gone], both[1 - gone]
        for peer in both:
            peer.applied(1, both)
        await eventually(lambda: stays.is_connected_with(leaves))

        stays.applied(2, [stays], removed=[leaves.node])
        stays.transport.send([HeartbeatRequest(sender=stays.node, receiver=leaves.node, term=1, commit_index=2)])

        await eventually(lambda: leaves.told_by)
        assert leaves.told_by[0] == f"n{stays.node}"
        assert len(leaves.received) == 1
        await eventually(lambda: stays.transport.links() == {})
        assert stays.forgotten == [leaves.node]


@pytest.mark.parametrize("gone", [0, 1], ids=["who would dial", "who would be dialed"])
async def test_who_was_away_when_it_was_removed_is_told_when_it_asks(tmp_path: Path, gone: int) -> None:
    async with peers(tmp_path, 2) as both:
        left, stays = both[gone], both[1 - gone]
        stays.applied(9, [stays], removed=[left.node])

        left.applied(1, both)

        await eventually(lambda: left.told_by)
        assert not left.received


async def test_who_was_left_behind_learns_of_the_members_of_now(tmp_path: Path) -> None:
    """It knows 2, which is gone but still answers; 1 and 4 are members now, and one of each pair dials."""
    async with peers(tmp_path, 4) as (one, two, left, four):
        for peer in (one, two, four):
            peer.applied(9, [one, left, four], removed=[2])

        left.applied(1, [two, left])

        await eventually(lambda: left.is_connected_with(one) and left.is_connected_with(four))
        await eventually(lambda: one.is_connected_with(left) and four.is_connected_with(left))
        assert not left.told_by


async def test_an_earlier_roster_changes_nothing(tmp_path: Path) -> None:
    async with peers(tmp_path, 2) as (one, two):
        one.applied(5, [one])
        old = peer_pb2.Roster(cluster_id=CLUSTER, index=4, table=store_pb2.MemberTable(removed=[1]))

        answer = await ask_for_roster(one.url.removeprefix("http://"), old)

        assert answer == one.roster
        assert not one.told_by
        assert two.transport.links() == {}


async def test_a_node_that_joins_need_not_know_the_cluster_and_a_stranger_is_refused(tmp_path: Path) -> None:
    async with peers(tmp_path, 1) as (one,):
        one.applied(5, [one])
        address = one.url.removeprefix("http://")

        assert await ask_for_roster(address, peer_pb2.Roster()) == one.roster
        with pytest.raises(PeerError, match="this node is of cluster 7"):
            await ask_for_roster(address, peer_pb2.Roster(cluster_id=8))
        with pytest.raises(PeerError):
            await ask_for_roster(f"127.0.0.1:{free_port()}", peer_pb2.Roster())


def told(index: int = 2**62, *, members: Sequence[rpc_pb2.Member] = (), removed: Sequence[int] = ()) -> peer_pb2.Roster:
    """What a stranger says: the cluster's id stands in every answer to a client."""
    table = store_pb2.MemberTable(members=members, removed=removed)
    return peer_pb2.Roster(cluster_id=CLUSTER, index=index, table=table)


async def tell(peer: Peer, roster: peer_pb2.Roster) -> None:
    await ask_for_roster(peer.url.removeprefix("http://"), roster)


async def test_a_caller_can_tell_nobody_that_it_was_removed(tmp_path: Path) -> None:
    async with peers(tmp_path, 1) as (one,):
        one.applied(1, [one, Absent(2)])

        await tell(one, told(removed=[1]))

        assert not one.told_by


async def test_who_has_streams_to_a_majority_takes_no_members_from_a_caller_but_asks_those_it_knows(
    tmp_path: Path,
) -> None:
    async with peers(tmp_path, 3) as (one, two, three):
        for peer in (one, two):
            peer.applied(1, [one, two])
        await eventually(lambda: one.is_connected_with(two))
        two.roster = told(9, members=[peer.member for peer in (one, two, three)])

        await tell(one, told(members=[Absent(4).member]))

        assert one.transport.links().keys() == {2}
        await eventually(lambda: one.transport.links().keys() == {2, 3})


async def test_who_is_cut_off_goes_by_hearsay_until_it_is_not(tmp_path: Path) -> None:
    async with peers(tmp_path, 2) as (one, two):
        one.applied(1, [one, two])  # Whom two does not know yet.

        await tell(one, told(members=[Absent(4).member]))

        assert one.transport.links().keys() == {2, 4}
        two.applied(1, [one, two])
        await eventually(lambda: one.transport.links().keys() == {2})
        await eventually(lambda: one.forgotten == [4])


async def test_a_peer_known_from_hearsay_alone_disowns_nobody(tmp_path: Path) -> None:
    async with peers(tmp_path, 3) as (one, two, three):
        one.applied(1, [one, Absent(4)])
        three.applied(9, [three], removed=[1])

        await tell(one, told(members=[three.member]))

        await eventually(lambda: "hearsay" in (one.transport.links()[3] or ""))
        assert not one.told_by
        one.applied(2, [one, two, three])
        await eventually(lambda: one.told_by)


async def test_a_roster_of_more_members_than_any_cluster_has_is_not_heard(tmp_path: Path) -> None:
    async with peers(tmp_path, 1) as (one,):
        one.applied(1, [one, Absent(2)])

        await tell(one, told(members=[rpc_pb2.Member(ID=node, peerURLs=[one.url]) for node in range(3, 104)]))

        assert one.transport.links().keys() == {2}


@pytest.mark.parametrize("urls", [[], ["nonsense"], ["http://a b:80"], ["http://a\0b:80"]])
async def test_a_member_without_urls_that_can_be_dialed_is_nobody_s_peer(tmp_path: Path, urls: list[str]) -> None:
    """From a roster that somebody told, or from a log that holds what is refused now."""
    async with peers(tmp_path, 1) as (one,):
        one.applied(1, [one, Absent(2)])
        nowhere = rpc_pb2.Member(ID=3, peerURLs=urls)

        await tell(one, told(members=[nowhere]))
        one.transport.set_peers([Absent(2).member, nowhere])

        assert one.transport.links().keys() == {2}


async def test_a_change_reaches_the_leader_and_its_refusal_comes_back_as_it_was(tmp_path: Path) -> None:
    async with peers(tmp_path, 2) as (one, two):
        for peer in (one, two):
            peer.applied(1, [one, two])

        assert (await one.transport.forward_change(2, CHANGE, 5.0)).removed == [5]
        two.refusal = FailedPrecondition("etcdserver: no")
        with pytest.raises(FailedPrecondition, match="etcdserver: no"):
            await one.transport.forward_change(2, CHANGE, 5.0)
        two.refusal = Unavailable("etcdserver: perhaps", outcome=Outcome.UNKNOWN)
        with pytest.raises(Unavailable, match="perhaps") as caught:
            await one.transport.forward_change(2, CHANGE, 5.0)
        assert caught.value.outcome is Outcome.UNKNOWN


async def test_a_change_that_may_have_reached_the_leader_is_unknown(tmp_path: Path) -> None:
    async with peers(tmp_path, 2) as (one, two):
        for peer in (one, two):
            peer.applied(1, [one, two])
        await two.transport.close()

        with pytest.raises(Unavailable) as caught:
            await one.transport.forward_change(2, CHANGE, 1.0)
        assert caught.value.outcome is Outcome.UNKNOWN
        with pytest.raises(Unavailable) as caught:
            await one.transport.forward_change(99, CHANGE, 1.0)
        assert caught.value.outcome is Outcome.NOT_APPLIED

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

    def applied(self, index: int, members: Sequence[Peer], removed: Sequence[int] = ()) -> None:
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

"""members: which changes would endanger the quorum, and how an outcome that got lost is looked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from raftkv.errors import (
    LEADER_CHANGED,
    FailedPrecondition,
    InvalidArgument,
    MemberRemovedError,
    NotFound,
    Outcome,
    RequestError,
    Unavailable,
    Unimplemented,
)
from raftkv.node.members import Members, check_safe, is_done, well_formed
from raftkv.pb import rpc_pb2, store_pb2
from raftkv.raft import Membership, RoleName
from raftkv.raft.types import NodeId
from raftkv.statemachine import MemberTable
from tests.node.support import Member, cluster
from tests.support import eventually

NOT_ENOUGH = "re-configuration failed due to not enough started members"
UNHEALTHY = "unhealthy cluster"
NOT_IN_SYNC = "can only promote a learner member which is in sync with leader"


def table(*started: int, unstarted: tuple[int, ...] = ()) -> MemberTable:
    rows = [rpc_pb2.Member(ID=node, name=f"n{node}") for node in started]
    return MemberTable((*rows, *(rpc_pb2.Member(ID=node) for node in unstarted)))


def add(node: int, *, learner: bool = False) -> store_pb2.MemberChange:
    return store_pb2.MemberChange(add=rpc_pb2.Member(ID=node, peerURLs=[f"http://n{node}:1"], isLearner=learner))


def remove(node: int) -> store_pb2.MemberChange:
    return store_pb2.MemberChange(remove=node)


def promote(node: int) -> store_pb2.MemberChange:
    return store_pb2.MemberChange(promote=node)


def voters(*nodes: int, learners: tuple[int, ...] = ()) -> Membership:
    return Membership(voters=frozenset(nodes), learners=frozenset(learners))


@pytest.mark.parametrize(
    ("change", "known", "membership", "active"),
    [
        (add(4), table(1, 2, 3), voters(1, 2, 3), {1, 2, 3}),
        (add(4, learner=True), table(1, 2, 3), voters(1, 2, 3), {1, 2, 3}),
        (add(3), table(1, unstarted=(2,)), voters(1, 2), {1, 2}),
        (remove(3), table(1, 2, 3), voters(1, 2, 3), {1, 2}),
        (remove(2), table(1, 2), voters(1, 2), {1, 2}),
        (remove(4), table(1, 2, 3), voters(1, 2, 3, learners=(4,)), {1, 2}),
        (promote(4), table(1, 2, 3, 4), voters(1, 2, 3, learners=(4,)), {1, 2, 4}),
    ],
    ids=[
        "a voter",
        "a learner",
        "the rescue of two",
        "who is down",
        "one of two",
        "a learner goes although one is down",
        "a learner that votes",
    ],
)
def test_what_leaves_a_quorum_is_safe(
    change: store_pb2.MemberChange, known: MemberTable, membership: Membership, active: set[NodeId]
) -> None:
    check_safe(known, change, membership, active)


@pytest.mark.parametrize(
    ("change", "known", "membership", "active", "text"),
    [
        (add(4), table(1, 2, 3), voters(1, 2, 3), {1, 2}, UNHEALTHY),
        (add(4, learner=True), table(1, 2, 3), voters(1, 2, 3), {1, 2}, UNHEALTHY),
        (add(5), table(1, unstarted=(2, 3)), voters(1, 2, 3), {1, 2, 3}, NOT_ENOUGH),
        (add(2), table(1), voters(1), {1}, NOT_ENOUGH),
        (remove(1), table(1), voters(1), {1}, NOT_ENOUGH),
        (remove(2), table(1, 2, 3), voters(1, 2, 3), {1, 2}, UNHEALTHY),
        (remove(1), table(1, unstarted=(2,)), voters(1, 2), {1, 2}, NOT_ENOUGH),
        (promote(4), table(1, 2, 3, 4), voters(1, 2, 3, learners=(4,)), {1, 2}, NOT_IN_SYNC),
        (promote(4), table(1, 2, 3, 4), voters(1, 2, 3, learners=(4,)), {1, 4}, UNHEALTHY),
    ],
    ids=[
        "a voter while one is down",
        "a learner while one is down",
        "a voter among unstarted ones",
        "a second voter that was no learner before",
        "the last voter",
        "one of the two that are left",
        "the only one that ever started",
        "a learner that does not answer",
        "a fourth voter while two are down",
    ],
)
def test_what_could_cost_the_quorum_is_refused_in_etcds_words(
    change: store_pb2.MemberChange, known: MemberTable, membership: Membership, active: set[NodeId], text: str
) -> None:
    with pytest.raises(RequestError, match=f"etcdserver: {text}$"):
        check_safe(known, change, membership, active)


class Bench:
    """Three nodes, whose forwarding a test can disturb."""

    def __init__(self, members: dict[int, Member]) -> None:
        self.members = members
        self.changes = {
            number: Members(this.node, self.forward, lambda: set(members)) for number, this in members.items()
        }
        self.lose_answers = 0
        self.forwarded = 0

    async def forward(self, leader: NodeId, change: store_pb2.MemberChange, timeout_s: float) -> MemberTable:
        self.forwarded += 1
        table = await self.changes[leader].lead(change, timeout_s=timeout_s)
        if self.lose_answers:
            self.lose_answers -= 1
            raise Unavailable(LEADER_CHANGED, outcome=Outcome.UNKNOWN)
        return table

    def follower(self) -> int:
        return next(number for number, this in self.members.items() if this.raft.role is not RoleName.LEADER)


async def ready(members: dict[int, Member]) -> Bench:
    await eventually(lambda: any(this.raft.role is RoleName.LEADER for this in members.values()))
    await members[1].put(b"key")
    leader = next(this for this in members.values() if this.raft.role is RoleName.LEADER)
    await eventually(lambda: all(one.match_index for one in leader.raft.status().followers.values()))
    return Bench(members)


async def test_a_follower_has_the_leader_change_the_members(tmp_path: Path) -> None:
    async with cluster(tmp_path) as members:
        bench = await ready(members)

        after = await bench.changes[bench.follower()].change(add(7, learner=True), timeout_s=10)

        assert after.member(7) is not None
        assert bench.forwarded == 1
        await eventually(lambda: all(7 in this.raft.membership.learners for this in members.values()))
        assert await members[2].node.read(lambda machine: machine.table, timeout_s=10) == after


@pytest.mark.parametrize(
    "new",
    [
        rpc_pb2.Member(ID=7, isLearner=True),
        rpc_pb2.Member(ID=7, peerURLs=["http://n7:1", "nonsense"]),
        rpc_pb2.Member(ID=7, peerURLs=["http://n7:1/"]),
        rpc_pb2.Member(ID=7, peerURLs=[f"http://{'n' * 65_536}:1"]),
        rpc_pb2.Member(peerURLs=["http://n7:1"]),
        rpc_pb2.Member(ID=7, peerURLs=["http://n7:1"], name="n7"),
        rpc_pb2.Member(ID=7, peerURLs=["http://n7:1"], clientURLs=["http://n7:2"]),
    ],
    ids=["no URL", "no URL beside one", "not as a node writes it", "too long", "no id", "a name", "client URLs"],
)
def test_a_new_member_that_no_node_asks_for_is_refused(new: rpc_pb2.Member) -> None:
    """A change may come over the peers' port, where anybody can call; all nodes stop at an entry that none can use."""
    with pytest.raises(InvalidArgument):
        well_formed(store_pb2.MemberChange(add=new))


def test_a_kind_of_change_that_is_not_known_is_refused() -> None:
    with pytest.raises(Unimplemented):
        well_formed(store_pb2.MemberChange())


async def test_the_leader_proposes_no_change_that_no_node_asks_for(tmp_path: Path) -> None:
    async with cluster(tmp_path) as members:
        bench = await ready(members)
        leader = next(number for number, this in members.items() if this.raft.role is RoleName.LEADER)
        last_index = members[leader].raft.last_index
        nowhere = store_pb2.MemberChange(add=rpc_pb2.Member(ID=12345, isLearner=True))

        with pytest.raises(InvalidArgument, match="given member URLs are invalid"):
            await bench.changes[leader].lead(nowhere, timeout_s=10)

        assert members[leader].raft.last_index == last_index


async def test_a_lost_answer_is_looked_for_and_the_member_is_added_once(tmp_path: Path) -> None:
    async with cluster(tmp_path) as members:
        bench = await ready(members)
        bench.lose_answers = 1

        after = await bench.changes[bench.follower()].change(add(7, learner=True), timeout_s=10)

        assert [member.ID for member in after.members] == [1, 2, 3, 7]
        assert bench.forwarded == 1


@pytest.mark.parametrize("change", [add(7, learner=True), remove(3)], ids=["an addition", "a removal"])
async def test_an_attempt_that_comes_about_between_look_and_repetition_is_no_refusal(
    tmp_path: Path, change: store_pb2.MemberChange
) -> None:
    async with cluster(tmp_path) as members:
        bench = await ready(members)
        leader = next(number for number, this in members.items() if this.raft.role is RoleName.LEADER)
        follower = next(number for number in (1, 2) if number != leader)
        attempts = 0

        async def late(_leader: NodeId, change: store_pb2.MemberChange, timeout_s: float) -> MemberTable:
            """The first attempt gets somewhere when the second one does."""
            nonlocal attempts
            attempts += 1
            if attempts == 1:
                raise Unavailable(LEADER_CHANGED, outcome=Outcome.UNKNOWN)
            await bench.changes[leader].lead(change, timeout_s=timeout_s)
            return await bench.changes[leader].lead(change, timeout_s=timeout_s)

        changes = Members(members[follower].node, late, lambda: set(members))
        after = await changes.change(change, timeout_s=10)

        assert attempts == 2
        assert is_done(after, change)
        if change.remove:
            await eventually(members[3].node.stopped.done)
            assert isinstance(members[3].node.stopped.exception(), MemberRemovedError)


async def test_a_refusal_of_the_leader_is_final(tmp_path: Path) -> None:
    async with cluster(tmp_path) as members:
        bench = await ready(members)
        changes = bench.changes[bench.follower()]

        with pytest.raises(NotFound, match="member not found"):
            await changes.change(remove(12345), timeout_s=10)
        with pytest.raises(FailedPrecondition, match=r"can only promote a learner member$"):
            await changes.change(promote(1), timeout_s=10)
        await changes.change(add(7, learner=True), timeout_s=10)
        with pytest.raises(FailedPrecondition, match="which is in sync with leader"):
            await changes.change(promote(7), timeout_s=10)

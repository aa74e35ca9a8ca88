"""members: what a change does to the member table, which changes it admits, and that replaying one changes nothing."""

from __future__ import annotations

import pytest

from raftkv.errors import FailedPrecondition, NotFound, RequestError
from raftkv.pb import rpc_pb2, store_pb2
from raftkv.statemachine import MemberTable
from raftkv.statemachine.members import after_change, check_change, published, updated

TABLE = MemberTable(
    tuple(rpc_pb2.Member(ID=number, name=f"n{number}", peerURLs=[f"http://n{number}:1"]) for number in (1, 2, 3)),
    frozenset({9}),
)
LEARNER = rpc_pb2.Member(ID=4, peerURLs=["http://n4:1"], isLearner=True)


def adding(member: rpc_pb2.Member) -> store_pb2.MemberChange:
    return store_pb2.MemberChange(add=member)


def removing(node: int) -> store_pb2.MemberChange:
    return store_pb2.MemberChange(remove=node)


def promoting(node: int) -> store_pb2.MemberChange:
    return store_pb2.MemberChange(promote=node)


def after(table: MemberTable, *changes: store_pb2.MemberChange) -> MemberTable:
    for change in changes:
        table = after_change(table, change.SerializeToString())
    return table


def test_members_are_kept_in_ascending_order_and_removed_ones_are_remembered() -> None:
    table = after(TABLE, adding(LEARNER), removing(2))

    assert [member.ID for member in table.members] == [1, 3, 4]
    assert table.removed == {2, 9}


def test_a_promoted_learner_keeps_everything_else() -> None:
    table = after(TABLE, adding(LEARNER), promoting(4))

    assert table.member(4) == rpc_pb2.Member(ID=4, peerURLs=["http://n4:1"])


def test_a_log_replayed_on_top_of_a_later_table_ends_at_that_table() -> None:
    """As it is by a node that joins: it begins with the table of now, and gets the log from its beginning."""
    changes = [adding(LEARNER), removing(1), promoting(4), removing(2)]
    now = after(TABLE, *changes)

    assert after(now, *changes) == now


def test_a_table_survives_its_encoding() -> None:
    table = after(TABLE, adding(LEARNER))
    assert MemberTable.decode(table.encode()) == table
    with pytest.raises(ValueError, match="not a member table"):
        MemberTable.decode(b"\xff")


@pytest.mark.parametrize("data", [b"\xff", b"", b"\x7a\x00"], ids=["no message", "no change", "a later kind"])
def test_a_change_that_this_version_does_not_know_is_not_skipped(data: bytes) -> None:
    with pytest.raises(ValueError, match="change of the members"):
        after_change(TABLE, data)


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        (adding(rpc_pb2.Member(ID=3, peerURLs=["http://new:1"])), FailedPrecondition, "member ID already exist"),
        (adding(rpc_pb2.Member(ID=9, peerURLs=["http://new:1"])), FailedPrecondition, "member ID already exist"),
        (adding(rpc_pb2.Member(ID=5, peerURLs=["http://n1:1"])), FailedPrecondition, "Peer URLs already exists"),
        (removing(5), NotFound, "member not found"),
        (removing(9), NotFound, "member not found"),
        (promoting(5), NotFound, "member not found"),
        (promoting(1), FailedPrecondition, "can only promote a learner member"),
    ],
)
def test_what_the_table_does_not_admit_is_refused_in_etcds_words(
    change: store_pb2.MemberChange, error: type[RequestError], text: str
) -> None:
    with pytest.raises(error, match=f"etcdserver: {text}$"):
        check_change(TABLE, change)


def test_one_learner_at_a_time() -> None:
    table = after(TABLE, adding(LEARNER))
    with pytest.raises(FailedPrecondition, match="too many learner members in cluster"):
        check_change(table, adding(rpc_pb2.Member(ID=5, peerURLs=["http://n5:1"], isLearner=True)))
    check_change(table, adding(rpc_pb2.Member(ID=5, peerURLs=["http://n5:1"])))


def test_a_name_and_urls_are_changed_one_without_the_other() -> None:
    table = published(TABLE, rpc_pb2.Member(ID=2, name="two", clientURLs=["http://two:2"]))
    assert isinstance(table, MemberTable)
    table = updated(table, rpc_pb2.MemberUpdateRequest(ID=2, peerURLs=["http://elsewhere:1"]))
    assert isinstance(table, MemberTable)

    assert table.member(2) == rpc_pb2.Member(
        ID=2, name="two", clientURLs=["http://two:2"], peerURLs=["http://elsewhere:1"]
    )


def test_urls_of_another_member_are_refused_and_ones_own_are_not() -> None:
    taken = updated(TABLE, rpc_pb2.MemberUpdateRequest(ID=2, peerURLs=["http://n1:1"]))
    unknown = updated(TABLE, rpc_pb2.MemberUpdateRequest(ID=7, peerURLs=["http://n7:1"]))
    own = updated(TABLE, rpc_pb2.MemberUpdateRequest(ID=2, peerURLs=["http://n2:1", "http://n2:2"]))

    assert isinstance(taken, FailedPrecondition)
    assert isinstance(unknown, NotFound)
    assert isinstance(own, MemberTable)

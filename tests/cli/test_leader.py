"""`raftkv move-leader`: who is chosen, what is printed, what is refused."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from raftkv.cli.exits import Failure
from raftkv.cli.leader import most_up_to_date
from raftkv.cli.printers import EndpointStatus
from raftkv.lab.cluster import LocalCluster
from raftkv.pb import rpc_pb2
from tests.cli.conftest import Command, Etcd


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster.temporary(nodes=3, proxy=False) as cluster:
        cluster.up()
        yield cluster


def status(member: int, *, leader: int = 1, index: int = 10, **more: object) -> EndpointStatus:
    header = rpc_pb2.ResponseHeader(member_id=member)
    response = rpc_pb2.StatusResponse(header=header, leader=leader, raftIndex=index, raftAppliedIndex=index, **more)  # type: ignore[arg-type]
    return EndpointStatus(endpoint=f"n{member}", response=response)


def test_the_follower_that_is_furthest_along_is_chosen() -> None:
    assert most_up_to_date([status(1, index=90), status(2, index=30), status(3, index=40)]) == 3


def test_the_leader_learners_and_the_sick_are_not_chosen() -> None:
    learner, sick = status(3, index=50, isLearner=True), status(4, index=50, errors=["NOSPACE"])
    assert most_up_to_date([status(1), status(2, index=5), learner, sick]) == 2
    with pytest.raises(Failure, match="no healthy follower"):
        most_up_to_date([status(1), learner, sick])


def test_without_an_argument_another_member_leads_afterwards(cluster: LocalCluster, raftkv: Command) -> None:
    before = cluster.wait_for_leader()

    done = raftkv("--endpoints", ",".join(cluster.endpoints.values()), "move-leader")

    assert (done.code, done.err) == (0, b"")
    assert done.out.startswith(b"Leadership transferred from ")
    assert cluster.wait_for_leader() != before


def test_the_leader_is_found_though_only_a_follower_is_named(cluster: LocalCluster, raftkv: Command) -> None:
    leader = cluster.wait_for_leader()
    follower, other = (name for name in cluster.names if name != leader)

    done = raftkv("--endpoints", cluster.endpoint(follower), "move-leader", "--to", other)

    assert done.code == 0, done.err
    assert cluster.wait_for_leader() == other


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["a", "b"], 128, b"Error: move-leader command needs 1 argument\n"),
        (["zz"], 128, b'Error: strconv.ParseUint: parsing "zz": invalid syntax\n'),
        (["--", "-1"], 128, b'Error: strconv.ParseUint: parsing "-1": invalid syntax\n'),
        (["0x1"], 128, b'Error: strconv.ParseUint: parsing "0x1": invalid syntax\n'),
        (["1" * 17], 128, b'Error: strconv.ParseUint: parsing "11111111111111111": value out of range\n'),
        (["12345"], 1, b"Error: etcdserver: bad leader transferee\n"),
        (["-w", "table", "12345"], 4, b"Error: table not supported as output format\n"),
        (["--to", "nobody"], 128, b"Error: --to: 'nobody' is no member; the members are oracle\n"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_wrong_is_said_in_one_line(
    etcd: Etcd, raftkv: Command, arguments: list[str], code: int, said: bytes
) -> None:
    done = raftkv("--endpoints", etcd.endpoint, "move-leader", *arguments)
    assert (done.code, done.out) == (code, b"")
    assert done.err.startswith(said.removesuffix(b"\n")), done.err

"""etcd's Cluster service, beside a real etcd: the same requests to a store of one node each, the same answers but for ids."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message

from raftkv.pb import rpc_pb2
from tests.server.grpc_api import Api, Failed
from tests.server.process import Servers, servers_in
from tests.server.test_etcdctl import etcdctl

SERVICE = "etcdserverpb.Cluster"
LEARNER_URL = "http://127.0.0.1:7001"
OTHER_URL = "http://127.0.0.1:7002"
PEER_URL = "http://127.0.0.1:2380"
"""Where each of the two nodes says that it is: `Servers.start` advertises this one."""


class Store:
    """One server of one node, and the ids it has given."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.ids: dict[str, int] = {}
        self.learn()

    def learn(self) -> list[rpc_pb2.Member]:
        members = list(self.api.call(SERVICE, "MemberList", rpc_pb2.MemberListRequest(linearizable=True)).members)
        self.ids |= {url: member.ID for member in members for url in member.peerURLs}
        return members

    def call(self, name: str, request: Message) -> Any:
        answer = self.api.call(SERVICE, name, request)
        if isinstance(answer, Failed):
            return answer
        assert answer.header.cluster_id
        assert answer.header.member_id
        assert answer.header.revision == 0
        self.learn()
        return sorted(self.plain(member) for member in answer.members)  # Their order is that of the ids.

    def plain(self, member: rpc_pb2.Member) -> tuple[Any, ...]:
        return (bool(member.name), sorted(member.peerURLs), bool(member.clientURLs), member.isLearner)


@contextmanager
def own_etcd(servers: Servers, directory: Path) -> Iterator[str]:
    if shutil.which("etcd") is None:
        pytest.skip("etcd is not installed: nothing to compare with")
    client, peer = servers.ports(2)
    flags = {
        "name": "default",
        "data-dir": str(directory / "etcd"),
        "listen-client-urls": f"http://127.0.0.1:{client}",
        "advertise-client-urls": f"http://127.0.0.1:{client}",
        "listen-peer-urls": f"http://127.0.0.1:{peer}",
        "initial-advertise-peer-urls": PEER_URL,
        "initial-cluster": f"default={PEER_URL}",
        "log-level": "error",
    }
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ETCD_")}
    command = ["etcd", *(f"--{name}={value}" for name, value in flags.items())]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment) as process:
        try:
            yield f"127.0.0.1:{client}"
        finally:
            process.kill()


@contextmanager
def stores_in(directory: Path) -> Iterator[tuple[Store, Store]]:
    """raftkv's and etcd's."""
    with ExitStack() as stack:
        servers = stack.enter_context(servers_in(directory))
        ours = servers.start().ready()
        theirs = stack.enter_context(own_etcd(servers, directory))
        apis = [Api(ours.endpoint), Api(theirs)]
        for api in apis:
            stack.callback(api.close)
            ready = api.kv(rpc_pb2.RangeRequest(key=b"health"), timeout_s=30.0)
            assert not isinstance(ready, Failed), ready
        yield Store(apis[0]), Store(apis[1])


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[tuple[Store, Store]]:
    with stores_in(tmp_path) as stores:
        yield stores


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Store]]:
    """For tests that change nothing: each proves it."""
    with stores_in(tmp_path_factory.mktemp("unchanged")) as stores:
        yield stores


def both(stores: tuple[Store, Store], name: str, **fields: Any) -> Any:
    """Send a request to both; an `ID` is given by the peer URL of whom it means."""
    kind = getattr(rpc_pb2, f"{name}Request")
    answers = []
    for store in stores:
        given = dict(fields)
        if isinstance(given.get("ID"), str):
            given["ID"] = store.ids[given["ID"]]
        answers.append(store.call(name, kind(**given)))
    ours, theirs = answers
    assert ours == theirs, (name, fields)
    return ours


def test_a_learner_is_added_updated_not_promoted_and_removed_as_in_etcd(stores: tuple[Store, Store]) -> None:
    added = both(stores, "MemberAdd", peerURLs=[LEARNER_URL], isLearner=True)
    assert (False, [LEARNER_URL], False, True) in added
    not_ready = both(stores, "MemberPromote", ID=LEARNER_URL)
    assert not_ready.text == "etcdserver: can only promote a learner member which is in sync with leader"
    both(stores, "MemberAdd", peerURLs=[OTHER_URL], isLearner=True)  # Too many learners.
    both(stores, "MemberUpdate", ID=PEER_URL, peerURLs=[PEER_URL, "http://127.0.0.1:2390"])
    both(stores, "MemberRemove", ID=LEARNER_URL)
    both(stores, "MemberRemove", ID=LEARNER_URL)  # Not found any more.
    both(stores, "MemberList")


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("MemberAdd", {"peerURLs": []}),
        ("MemberAdd", {"peerURLs": ["nonsense"]}),
        ("MemberAdd", {"peerURLs": ["ftp://127.0.0.1:1"]}),
        ("MemberAdd", {"peerURLs": ["http://127.0.0.1"]}),
        ("MemberAdd", {"peerURLs": ["http://127.0.0.1:1/path"]}),
        ("MemberAdd", {"peerURLs": [PEER_URL]}),
        ("MemberAdd", {"peerURLs": [PEER_URL], "isLearner": True}),
        ("MemberRemove", {"ID": 12345}),
        ("MemberRemove", {"ID": 0}),
        ("MemberUpdate", {"ID": 12345, "peerURLs": [OTHER_URL]}),
        ("MemberPromote", {"ID": 12345}),
        ("MemberPromote", {"ID": PEER_URL}),
    ],
    ids=lambda value: str(value),
)
def test_bad_input_is_refused_with_etcds_code_and_text(
    unchanged: tuple[Store, Store], name: str, fields: dict[str, Any]
) -> None:
    before = [store.learn() for store in unchanged]

    assert isinstance(both(unchanged, name, **fields), Failed)

    assert [store.learn() for store in unchanged] == before


def test_the_last_voter_stays(stores: tuple[Store, Store]) -> None:
    """etcd 3.4 forgets to give this text its code, which is FailedPrecondition from 3.5 on."""
    ours, theirs = (store.call("MemberRemove", rpc_pb2.MemberRemoveRequest(ID=store.ids[PEER_URL])) for store in stores)

    assert ours.text == theirs.text == "etcdserver: re-configuration failed due to not enough started members"
    assert (ours.code, theirs.code) == ("FAILED_PRECONDITION", "UNKNOWN")


@pytest.mark.skipif(shutil.which("etcdctl") is None, reason="etcdctl is not installed (Debian: etcd-client)")
def test_etcdctl_adds_and_removes_a_member(stores: tuple[Store, Store]) -> None:
    ours = stores[0]
    printed = etcdctl(ours.api.endpoint, "member", "add", "n2", "--learner", f"--peer-urls={LEARNER_URL}")
    assert printed.code == 0, printed
    members = {member.ID: member for member in ours.learn()}
    new = next(member for member in members.values() if not member.name)
    listed = ",".join(f"{member.name or 'n2'}={member.peerURLs[0]}" for member in members.values())
    assert printed.out.splitlines()[2:] == [
        'ETCD_NAME="n2"',
        f'ETCD_INITIAL_CLUSTER="{listed}"',
        f'ETCD_INITIAL_ADVERTISE_PEER_URLS="{LEARNER_URL}"',
        'ETCD_INITIAL_CLUSTER_STATE="existing"',
    ]

    printed = etcdctl(ours.api.endpoint, "member", "remove", f"{new.ID:x}")

    assert printed.code == 0, printed
    assert printed.out.startswith(f"Member {new.ID:16x} removed from cluster ")
    assert [member.name for member in ours.learn()] == ["default"]

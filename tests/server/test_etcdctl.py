"""etcd's own command line against every node: what it prints must be what it prints for a real etcd.

Compared side by side with a real etcd, and with outputs kept here that were captured from etcd 3.4.23. Ids, terms, sizes and
times are replaced by words; revisions count from where the test began.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass

import pytest

from raftkv.lab.cluster import LocalCluster
from raftkv.pb import rpc_pb2
from tests.server.grpc_api import Api
from tests.server.process import wait_until

pytestmark = pytest.mark.skipif(
    shutil.which("etcdctl") is None, reason="etcdctl is not installed (Debian: etcd-client)"
)


@dataclass(frozen=True)
class Printed:
    code: int
    out: str
    error: str
    """The last line on stderr: what comes before is etcdctl's own log."""


def etcdctl(endpoints: str, *arguments: str, stdin: str = "") -> Printed:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ETCDCTL_")}
    done = subprocess.run(
        ["etcdctl", "--endpoints", endpoints, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        env=environment | {"ETCDCTL_API": "3"},
        timeout=60,
    )
    return Printed(done.returncode, done.stdout, done.stderr.strip().rpartition("\n")[2])


@dataclass
class Ctl:
    """etcdctl on one server, its output made comparable."""

    api: Api

    def __post_init__(self) -> None:
        self.base = self.api.get(b"-").header.revision

    def __call__(self, *arguments: str, stdin: str = "") -> Printed:
        printed = etcdctl(self.api.endpoint, *[self._at(word) for word in arguments], stdin=stdin)
        return Printed(printed.code, self._comparable(printed.out), self._comparable(printed.error))

    def _at(self, word: str) -> str:
        """`+3`: the third revision of the test."""
        return str(self.base + int(word)) if re.fullmatch(r"\+\d+", word) else word

    def _comparable(self, text: str) -> str:
        text = text.replace(self.api.endpoint, "ENDPOINT")
        text = re.sub(r'("(?:cluster_id|member_id|raft_term)":)\d+', r"\1ID", text)
        text = re.sub(r'("(?:ClusterID|MemberID|RaftTerm)" : )\d+', r"\1ID", text)
        text = re.sub(r"(compacted revision )(\d+)", self._relative, text)
        text = re.sub(r'("(?:Revision|CreateRevision|ModRevision)" : )(\d+)', self._relative, text)
        return re.sub(r'("(?:revision|create_revision|mod_revision)":)(\d+)', self._relative, text)

    def _relative(self, match: re.Match[str]) -> str:
        return f"{match[1]}{int(match[2]) - self.base:+d}"


SCRIPT: tuple[tuple[str, ...], ...] = (
    ("put", "K/a", "1"),
    ("put", "K/a", "2", "--prev-kv"),
    ("put", "K/b", "x y", "-w", "json"),
    ("put", "K/b", "--ignore-value", "-w", "fields"),
    ("put", "K/none", "--ignore-value"),
    ("put", "K/c", "3", "--lease", "1234abcd"),
    ("put", "", "3"),
    ("put", "K/c", "line\nbreak"),
    ("get", "K/a"),
    ("get", "K/a", "-w", "json"),
    ("get", "K/a", "-w", "fields"),
    ("get", "K/a", "-w", "table"),
    ("get", "K/a", "--print-value-only"),
    ("get", "K/nothing"),
    ("get", "K/nothing", "-w", "json"),
    ("get", "K/", "--prefix"),
    ("get", "K/", "--prefix", "--keys-only"),
    ("get", "K/", "--prefix", "--limit", "2", "-w", "json"),
    ("get", "K/", "--prefix", "--order", "DESCEND", "--sort-by", "MODIFY"),
    ("get", "K/", "--prefix", "-w", "fields"),
    ("get", "K/a", "K/c"),
    ("get", "K/b", "K/a"),
    ("get", "K/", "--prefix", "--consistency", "s", "--hex"),
    ("get", "K/a", "--rev", "+1"),
    ("get", "K/a", "--rev", "+100000"),
    ("get", "K/a", "--rev", "-1"),
    ("del", "K/a", "--prev-kv"),
    ("del", "K/a"),
    ("del", "K/a", "-w", "json"),
    ("compaction", "+3"),
    ("compaction", "+3"),
    ("compaction", "+100000"),
    ("compaction", "+4", "--physical"),
    ("get", "K/a", "--rev", "+1"),
    ("del", "K/", "--prefix", "-w", "fields"),
    ("lease", "grant", "no"),
    ("get",),
)

TXNS = (
    'value("K/t") = "1"\n\nput K/t 2\nget K/t\n\nput K/t 1\n\n',
    'mod("K/t") > "0"\nversion("K/t") = "1"\ncreate("K/t") < "9999999"\n\nget K/t\ndel K/t\n\nget K/t\n\n',
    "\nput K/x 1\nput K/x 2\n\n\n",
    "\n\n\n",
)


def test_every_command_prints_what_it_prints_for_etcd(node: Api, etcd: Api) -> None:
    ours, theirs = Ctl(node), Ctl(etcd)
    key = os.urandom(6).hex()

    for line in SCRIPT:
        words = [word.replace("K/", f"{key}/") for word in line]
        assert ours(*words) == theirs(*words), f"etcdctl {' '.join(words)}"
    for text in TXNS:
        for form in ("simple", "json", "fields"):
            stdin = text.replace("K/", f"{key}/")
            assert ours("txn", "-w", form, stdin=stdin) == theirs("txn", "-w", form, stdin=stdin), text


# --- endpoint, member: the captures ------------------------------------------------------------------------------------

STATUS_TABLE = """\
+----------+----+---------+---------+-----------+------------+-----------+------------+--------------------+--------+
| ENDPOINT | ID | VERSION | DB SIZE | IS LEADER | IS LEARNER | RAFT TERM | RAFT INDEX | RAFT APPLIED INDEX | ERRORS |
+----------+----+---------+---------+-----------+------------+-----------+------------+--------------------+--------+
| ENDPOINT | ID | 3.4.23 | SIZE | LEADS | false | TERM | INDEX | INDEX | |
+----------+----+---------+---------+-----------+------------+-----------+------------+--------------------+--------+
"""
HEALTH_TABLE = """\
+----------+--------+------+-------+
| ENDPOINT | HEALTH | TOOK | ERROR |
+----------+--------+------+-------+
| ENDPOINT | true | TIME | |
+----------+--------+------+-------+
"""
MEMBER_TABLE_HEAD = "| ID | STATUS | NAME | PEER ADDRS | CLIENT ADDRS | IS LEARNER |"
STATUS_FIELDS = """\
"ClusterID" : N
"MemberID" : N
"Revision" : N
"RaftTerm" : N
"Version" : "3.4.23"
"DBSize" : N
"Leader" : N
"IsLearner" : false
"RaftIndex" : N
"RaftTerm" : N
"RaftAppliedIndex" : N
"Errors" : []
"Endpoint" : "ENDPOINT"

"""


def squeezed(table: str) -> str:
    """Columns as wide as their words: widths depend on ids and ports."""
    lines = [re.sub(r" +", " ", line) for line in table.splitlines() if not line.startswith("+")]
    return "\n".join(lines) + "\n"


@pytest.fixture
def ours_and_etcd(node: Api, etcd: Api) -> list[Api]:
    return [node, etcd]


def test_endpoint_status_in_every_format(ours_and_etcd: list[Api]) -> None:
    for api in ours_and_etcd:
        simple = etcdctl(api.endpoint, "endpoint", "status")
        size = r"\d+(\.\d+)? [kM]?B"
        assert re.fullmatch(
            rf"{api.endpoint}, [0-9a-f]{{1,16}}, 3\.4\.23, {size}, (true|false), false, \d+, \d+, \d+, \n", simple.out
        ), simple

        table = squeezed(etcdctl(api.endpoint, "endpoint", "status", "-w", "table").out)
        table = re.sub(rf"\| {api.endpoint} \| [0-9a-f]+ ", "| ENDPOINT | ID ", table)
        table = re.sub(
            rf" {size} \| (true|false) \| false \| \d+ \| \d+ \| \d+ ",
            " SIZE | LEADS | false | TERM | INDEX | INDEX ",
            table,
        )
        assert table == squeezed(STATUS_TABLE)

        fields = etcdctl(api.endpoint, "endpoint", "status", "-w", "fields").out
        assert re.sub(r" : \d+", " : N", fields).replace(api.endpoint, "ENDPOINT") == STATUS_FIELDS

        (answer,) = json.loads(etcdctl(api.endpoint, "endpoint", "status", "-w", "json").out)
        assert list(answer) == ["Endpoint", "Status"]
        status = answer["Status"]
        assert list(status) == [
            *("header", "version", "dbSize", "leader", "raftIndex", "raftTerm", "raftAppliedIndex", "dbSizeInUse")
        ]
        assert list(status["header"]) == ["cluster_id", "member_id", "revision", "raft_term"]


def test_endpoint_health_in_every_format(ours_and_etcd: list[Api]) -> None:
    for api in ours_and_etcd:
        simple = etcdctl(api.endpoint, "endpoint", "health")
        assert simple.code == 0
        said = simple.out + simple.error
        assert re.match(rf"{api.endpoint} is healthy: successfully committed proposal: took = [\d.]+[mµ]?s", said), (
            simple
        )

        table = squeezed(etcdctl(api.endpoint, "endpoint", "health", "-w", "table").out)
        table = re.sub(r"[\d.]+[mµ]?s", "TIME", table.replace(api.endpoint, "ENDPOINT"))
        assert table == squeezed(HEALTH_TABLE)

        (answer,) = json.loads(etcdctl(api.endpoint, "endpoint", "health", "-w", "json").out)
        assert {name: answer[name] for name in ("endpoint", "health")} == {"endpoint": api.endpoint, "health": True}


def test_the_hashes_of_all_nodes_agree(cluster: LocalCluster, nodes: dict[str, Api]) -> None:
    nodes["n1"].put(b"hashed", b"v")
    for api in nodes.values():
        api.get(b"hashed")  # Linearizable: this node has applied it.
    endpoints = ",".join(cluster.endpoints.values())

    lines = etcdctl(endpoints, "endpoint", "hashkv").out.splitlines()

    assert [line.partition(", ")[0] for line in lines] == list(cluster.endpoints.values())
    assert len({line.partition(", ")[2] for line in lines}) == 1, lines


def test_all_members_are_found_through_one_endpoint(cluster: LocalCluster, nodes: dict[str, Api], node: Api) -> None:
    def announced() -> bool:
        answer = node.call("etcdserverpb.Cluster", "MemberList", rpc_pb2.MemberListRequest())
        return all(member.clientURLs for member in answer.members)

    wait_until(announced)
    for command in ("status", "health", "hashkv"):
        printed = etcdctl(node.endpoint, "endpoint", command, "--cluster")
        assert printed.code == 0, printed
        said = printed.out + printed.error
        assert all(endpoint in said for endpoint in cluster.endpoints.values()) or command == "health", printed


def test_member_list_in_every_format(cluster: LocalCluster, node: Api, etcd: Api) -> None:
    def of_state(name: str) -> str:
        state = cluster.state.nodes[name]
        return f"started, {name}, {state.peer_url}, {state.client_url}, false"

    simple = etcdctl(node.endpoint, "member", "list").out.splitlines()
    assert sorted(line.partition(", ")[2] for line in simple) == [of_state(name) for name in ("n1", "n2", "n3")]
    assert all(re.match(r"[0-9a-f]{1,16}, ", line) for line in simple)

    for api in (node, etcd):
        table = squeezed(etcdctl(api.endpoint, "member", "list", "-w", "table").out)
        assert table.splitlines()[0] == MEMBER_TABLE_HEAD
        answer = json.loads(etcdctl(api.endpoint, "member", "list", "-w", "json").out)
        assert list(answer) == ["header", "members"]
        assert list(answer["header"]) == ["cluster_id", "member_id", "raft_term"]
        for member in answer["members"]:
            assert list(member) == ["ID", "name", "peerURLs", "clientURLs"]
    named = [
        [line.partition(" : ")[0] for line in etcdctl(api.endpoint, "member", "list", "-w", "fields").out.splitlines()]
        for api in (node, etcd)
    ]
    first = named[1].index('"IsLearner"') + 1
    assert named[0][:first] == named[1][:first], "the header and the first member"

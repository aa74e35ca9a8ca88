"""`raftkv serve` and its flags: what is wrong is told in one line, with what is allowed; variables speak for flags."""

from __future__ import annotations

from pathlib import Path

import pytest
import uvloop

from raftkv.cli.main import run
from raftkv.pb import rpc_pb2
from tests.server.grpc_api import Api
from tests.server.process import Servers

N1 = "n1=http://127.0.0.1:1"

REFUSED: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    # Flags, and what the line must say.
    "unknown flag": (("--bogus",), ("--bogus", "allowed: --name")),
    "flag without value": (("--name",), ("--name",)),
    "an argument": (("extra",), ("extra",)),
    "not a number": (("--heartbeat-interval", "fast"), ("--heartbeat-interval", "fast")),
    "negative number": (("--snapshot-count", "-1"), ("--snapshot-count", "-1", "1 to 1000000000")),
    "heartbeat too short": (("--heartbeat-interval", "9"), ("--heartbeat-interval", "10 to 10000 ms")),
    "heartbeat too long": (("--heartbeat-interval", "10001"), ("--heartbeat-interval", "10 to 10000 ms")),
    "election too short": (("--election-timeout", "49"), ("--election-timeout", "50 to 50000 ms")),
    "election too long": (("--election-timeout", "50001"), ("--election-timeout", "50 to 50000 ms")),
    "election below heartbeats": (
        ("--election-timeout", "400", "--heartbeat-interval", "100"),
        ("--election-timeout", "400 ms", "100 ms"),
    ),
    "quota too small": (("--quota-backend-bytes", "1"), ("--quota-backend-bytes", "1048576 to")),
    "check time is no duration": (("--corrupt-check-time", "soon"), ("corrupt-check-time", "soon", "such as 300ms")),
    "check time, by etcd's name": (("--experimental-corrupt-check-time", "-1s"), ("corrupt-check-time", "-1s")),
    "check time absurd": (("--corrupt-check-time", "9000h"), ("--corrupt-check-time", "0 to 2592000000 ms")),
    "request too small": (("--max-request-bytes", "0"), ("--max-request-bytes", "1024 to 67108864")),
    "request absurd": (("--max-request-bytes", "9" * 40), ("--max-request-bytes", "1024 to 67108864")),
    "no txn operations": (("--max-txn-ops", "0"), ("--max-txn-ops", "1 to 100000")),
    "log level": (("--log-level", "loud"), ("--log-level", "loud", "'debug', 'info', 'warn', 'error'")),
    "cluster state": (("--initial-cluster-state", "old"), ("--initial-cluster-state", "'new', 'existing'")),
    "name": (("--name", "a b"), ("--name", "'a b'", "letters, digits")),
    "name is a path": (("--name", "../n1"), ("--name", "'../n1'")),
    "client url": (("--listen-client-urls", "nonsense"), ("--listen-client-urls", "nonsense", "http://host:port")),
    "client url without port": (("--listen-client-urls", "http://h"), ("--listen-client-urls", "http://host:port")),
    "client url with path": (("--listen-client-urls", "http://h:1/x"), ("--listen-client-urls", "http://host:port")),
    "port out of range": (("--listen-client-urls", "http://h:65536"), ("--listen-client-urls", "65536")),
    "port zero": (("--listen-peer-urls", "http://h:0"), ("--listen-peer-urls", "1 to 65535")),
    "no client url": (("--listen-client-urls", ""), ("--listen-client-urls", "is empty")),
    "url with a user": (("--listen-client-urls", "http://u:p@h:1"), ("--listen-client-urls", "http://host:port")),
    "member without a name": (("--initial-cluster", "=http://h:1"), ("--initial-cluster", "NAME=http://host:port")),
    "tls": (("--listen-peer-urls", "https://h:1"), ("--listen-peer-urls", "TLS is not supported yet")),
    "advertised url": (("--advertise-client-urls", "h:1"), ("--advertise-client-urls", "http://host:port")),
    "only commas": (("--listen-client-urls", ","), ("--listen-client-urls", "no URL given")),
    "cluster without names": (("--initial-cluster", "http://h:1"), ("--initial-cluster", "NAME=http://host:port")),
    "cluster without this node": (
        ("--name", "n9", "--initial-cluster", f"{N1},n2=http://127.0.0.1:2"),
        ("--initial-cluster", "n1, n2", "not this node", "n9"),
    ),
    "two members, one url": (
        ("--name", "n1", "--initial-cluster", f"{N1},n2=http://127.0.0.1:1"),
        ("--initial-cluster", "n1", "n2", "share the URL http://127.0.0.1:1"),
    ),
    "cluster has this node elsewhere": (
        ("--name", "n1", "--initial-cluster", N1, "--initial-advertise-peer-urls", "http://127.0.0.1:2"),
        ("--initial-cluster", "http://127.0.0.1:1", "--initial-advertise-peer-urls", "http://127.0.0.1:2"),
    ),
    "dial without address": (("--peer-dial", "n2"), ("--peer-dial", "NAME=HOST:PORT")),
    "dial a stranger": (("--peer-dial", "n2=h:1"), ("--peer-dial", "'n2' is no member", "default")),
    "dial port": (("--peer-dial", "n2=h:99999"), ("--peer-dial", "NAME=HOST:PORT")),
    "empty token": (("--initial-cluster-token", ""), ("--initial-cluster-token", "empty")),
    "one port twice": (
        ("--listen-client-urls", "http://127.0.0.1:7", "--listen-peer-urls", "http://127.0.0.1:7"),
        ("--listen-client-urls", "--listen-peer-urls", "http://127.0.0.1:7"),
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_flag_is_refused_in_one_line_that_says_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, case: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(uvloop, "run", lambda _: pytest.fail("it was not refused"))
    flags, expected = REFUSED[case]

    code = run(["serve", *flags])

    (line,) = capsys.readouterr().err.splitlines()
    assert (code, line[:7]) == (2, "Error: ")
    assert all(part in line for part in expected), line
    assert not list(tmp_path.iterdir()), "a node that was refused left something behind"


def test_nobody_joins_alone(servers: Servers) -> None:
    line = servers.run("--initial-cluster-state", "existing").refusal(code=2)

    assert "--initial-cluster" in line
    assert "names no other member" in line


@pytest.mark.parametrize("prefix", ["RAFTKV_", "ETCD_"])
def test_every_flag_is_read_from_the_environment(servers: Servers, prefix: str) -> None:
    client, peer = servers.ports(2)
    values = {
        "NAME": "n7",
        "LISTEN_CLIENT_URLS": f"http://127.0.0.1:{client}",
        "ADVERTISE_CLIENT_URLS": "http://example.test:1",
        "LISTEN_PEER_URLS": f"http://127.0.0.1:{peer}",
        "INITIAL_ADVERTISE_PEER_URLS": "http://example.test:2",
        "INITIAL_CLUSTER": "n7=http://example.test:2",
        "INITIAL_CLUSTER_TOKEN": "tok",
        "INITIAL_CLUSTER_STATE": "new",
        "HEARTBEAT_INTERVAL": "20",
        "ELECTION_TIMEOUT": "200",
        "SNAPSHOT_COUNT": "500",
        "QUOTA_BACKEND_BYTES": "10000000",
        "MAX_REQUEST_BYTES": "2048",
        "MAX_TXN_OPS": "3",
        "LOG_LEVEL": "debug",
        "DATA_DIR": "elsewhere",
    }

    serving = servers.run(environment={prefix + name: value for name, value in values.items()}).ready()

    api = Api(f"127.0.0.1:{client}")
    assert api.put(b"k", b"x" * 4096).text == "etcdserver: request is too large"
    (member,) = api.call("etcdserverpb.Cluster", "MemberList", rpc_pb2.MemberListRequest()).members
    assert (member.name, list(member.peerURLs)) == ("n7", ["http://example.test:2"])
    assert (servers.directory / "elsewhere" / "raftkv.json").exists()
    api.close()
    assert serving.stop() == 0


def test_a_flag_outranks_its_variables_and_ours_outranks_etcds(servers: Servers) -> None:
    variables = {"RAFTKV_NAME": "ours", "ETCD_NAME": "etcds", "ETCD_MAX_TXN_OPS": "0", "RAFTKV_MAX_TXN_OPS": "0"}

    serving = servers.start("--max-txn-ops", "5", environment=variables).ready()

    assert " ours " in serving.wait_for("ready to serve")


@pytest.mark.parametrize("variable", ["RAFTKV_ELECTION_TIMEOUT", "ETCD_ELECTION_TIMEOUT"])
def test_a_bad_variable_is_refused_like_the_flag(servers: Servers, variable: str) -> None:
    line = servers.run(environment={variable: "soon"}).refusal(code=2)

    assert "--election-timeout" in line
    assert "soon" in line


def test_a_variable_may_hold_several_dial_addresses(servers: Servers) -> None:
    line = servers.run(environment={"RAFTKV_PEER_DIAL": "n2=127.0.0.1:1 n3=127.0.0.1:2"}).refusal(code=2)

    assert "--peer-dial: 'n2' is no member" in line

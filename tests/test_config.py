"""config: what one node may be told, in one line when it may not."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from raftkv import config as module
from raftkv.config import MEBIBYTE, ServerConfig, address_of, cluster_id, member_id, parse_initial_cluster, parse_url
from raftkv.errors import ConfigError
from raftkv.raft import Membership

N1, N2, N3 = (f"http://10.0.0.{number}:2380" for number in (1, 2, 3))
THREE = {"n1": (N1,), "n2": (N2,), "n3": (N3,)}


def three(name: str = "n1", **changes: Any) -> ServerConfig:
    options: dict[str, Any] = {
        "name": name,
        "initial_cluster": THREE,
        "initial_advertise_peer_urls": THREE[name],
    }
    return ServerConfig(**(options | changes))


def refusal(**changes: Any) -> str:
    with pytest.raises(ConfigError) as raised:
        three(**changes)
    message = str(raised.value)
    assert "\n" not in message
    return message


# URLs


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://127.0.0.1:2379", "http://127.0.0.1:2379"),
        ("http://127.0.0.1:2379/", "http://127.0.0.1:2379"),
        ("http://LocalHost:1", "http://localhost:1"),
        ("http://[::1]:65535", "http://[::1]:65535"),
        (" http://n_1:1 ", "http://n_1:1"),
        ("http://n1..example.:1", "http://n1..example.:1"),
        ("http://[fe80::1%25eth0]:1", "http://[fe80::1%25eth0]:1"),
    ],
)
def test_a_url_is_normalized(text: str, url: str) -> None:
    assert parse_url(text, flag="--x") == url
    assert address_of(url) == url.removeprefix("http://")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "127.0.0.1:2379",
        "http://127.0.0.1",
        "http://:2379",
        "http://host:0",
        "http://host:65536",
        "http://host:port",
        "http://host:2379/path",
        "http://host:2379?query",
        "http://host:2379#part",
        "http://user@host:2379",
        "ftp://host:2379",
        "unix:///run/socket",
        "http://[::1:2379",
        "http://a b:2379",
        "http://a\0b:2379",
        "http://a\tb:2379",
        "http://a\x7f:2379",
        "http://a\\b:2379",
        "http://a^b:2379",
        "http://a`b:2379",
        "http://{a|b}:2379",
        "http://a%:2379",
        "http://a%00b:2379",
        "http://a%20b:2379",
        "http://\udc80:2379",
    ],
)
def test_what_is_no_url_with_host_and_port_is_refused_by_flag_and_text(text: str) -> None:
    """What a host may not hold is what etcd 3.4 refuses in a MemberAdd."""
    with pytest.raises(ConfigError) as raised:
        parse_url(text, flag="--listen-peer-urls")
    assert str(raised.value).startswith(f"--listen-peer-urls: {text!r}")


def test_tls_is_refused_as_what_it_is() -> None:
    with pytest.raises(ConfigError, match="TLS is not supported yet"):
        parse_url("https://host:2379", flag="--x")


def test_a_list_of_urls_needs_one_at_least() -> None:
    assert module.parse_urls(f"{N1}, {N2},", flag="--x") == (N1, N2)
    with pytest.raises(ConfigError, match="--x: no URL given"):
        module.parse_urls(" , ", flag="--x")


# The initial cluster


def test_an_initial_cluster_is_names_and_urls() -> None:
    assert parse_initial_cluster(f"n1={N1}, n2={N2},n3={N3}") == THREE


def test_a_name_that_appears_again_adds_a_url() -> None:
    assert parse_initial_cluster(f"n1={N1},n2={N2},n1={N3}") == {"n1": (N1, N3), "n2": (N2,)}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no member given"),
        ("n1", "'n1' is not of the form NAME=http://host:port"),
        (f"={N1}", "is not of the form NAME="),
        (f"a b={N1}", "is not of the form NAME="),
        ("n1=", "''"),
        (f"n1={N1},n2={N1}", f"n2 and n1 share the URL {N1}"),
    ],
)
def test_a_malformed_initial_cluster_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_initial_cluster(text)
    assert str(raised.value).startswith("--initial-cluster: ")
    assert complaint in str(raised.value)


# Identity


def test_every_node_computes_the_same_ids() -> None:
    configs = [three(name) for name in THREE]

    assert len({config.cluster_id for config in configs}) == 1
    assert len({config.member_id for config in configs}) == 3
    assert {config.member_id for config in configs} == {member.ID for member in configs[0].initial_members()}
    assert [config.initial_members() for config in configs] == [configs[0].initial_members()] * 3


def test_ids_stay_what_they_are_from_version_to_version() -> None:
    """They are in every data directory: another way of computing them would lock every node out of its own."""
    assert f"{member_id((N1,), 'token'):x}" == "4fdb239611334abf"
    assert f"{cluster_id([1, 2, 3]):x}" == "70b9aefc37c00c85"


def test_the_order_in_which_members_and_urls_are_named_makes_no_difference() -> None:
    turned = dict(reversed(THREE.items()))

    assert three(initial_cluster=turned).cluster_id == three().cluster_id
    assert three(initial_cluster=turned).initial_members() == three().initial_members()
    assert member_id((N1, N2), "t") == member_id((N2, N1), "t")


def test_clusters_with_other_tokens_are_other_clusters_with_other_members() -> None:
    other = three(initial_cluster_token="another")

    assert other.cluster_id != three().cluster_id
    assert other.member_id != three().member_id


def test_the_member_table_has_names_and_urls_in_the_order_of_ids() -> None:
    members = three().initial_members()

    assert [member.ID for member in members] == sorted(member.ID for member in members)
    assert {member.name: tuple(member.peerURLs) for member in members} == THREE
    assert three().initial_membership() == Membership(voters=frozenset(member.ID for member in members))


def test_a_node_told_of_no_cluster_is_one_by_itself() -> None:
    alone = ServerConfig()

    assert alone.members_by_name == {"default": (module.DEFAULT_PEER_URL,)}
    assert alone.initial_membership() == Membership(voters=frozenset({alone.member_id}))


def test_what_is_advertised_is_what_is_listened_on_unless_said_otherwise() -> None:
    assert ServerConfig().peer_urls == ServerConfig().listen_peer_urls
    assert ServerConfig().client_urls == ServerConfig().listen_client_urls
    assert ServerConfig(advertise_client_urls=(N1,)).client_urls == (N1,)
    assert three().peer_urls == (N1,)


# What is refused


@pytest.mark.parametrize(
    ("changes", "flag"),
    [
        ({"heartbeat_interval_ms": 9}, "--heartbeat-interval: 9 is out of range; allowed are 10 to 10000 ms"),
        ({"heartbeat_interval_ms": 10_001}, "--heartbeat-interval"),
        ({"election_timeout_ms": 50_001}, "--election-timeout"),
        ({"heartbeat_interval_ms": 10, "election_timeout_ms": 49}, "--election-timeout"),
        ({"snapshot_count": 0}, "--snapshot-count"),
        ({"quota_backend_bytes": MEBIBYTE - 1}, "--quota-backend-bytes"),
        ({"max_request_bytes": 1023}, "--max-request-bytes"),
        ({"max_request_bytes": 64 * MEBIBYTE + 1}, "--max-request-bytes"),
        ({"max_txn_ops": 0}, "--max-txn-ops"),
    ],
)
def test_a_number_out_of_range_is_refused_with_the_range(changes: dict[str, int], flag: str) -> None:
    message = refusal(**changes)

    assert message.startswith(flag)
    assert "allowed are" in message


def test_an_election_timeout_too_close_to_the_heartbeat_names_both() -> None:
    message = refusal(heartbeat_interval_ms=100, election_timeout_ms=499)

    assert "--election-timeout" in message
    assert "499" in message
    assert "--heartbeat-interval" in message
    assert three(heartbeat_interval_ms=100, election_timeout_ms=500).election_timeout_ms == 500


@pytest.mark.parametrize("name", ["", "-n1", "a b", "a/b", "ü", "x" * 65, "n1\n"])
def test_a_name_that_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="--name"):
        ServerConfig(name=name)


def test_a_node_must_be_a_member_of_its_cluster_under_its_name() -> None:
    with pytest.raises(ConfigError, match=r"names n1, n2, n3 but not this node, --name n4"):
        ServerConfig(name="n4", initial_cluster=THREE)


def test_a_node_must_advertise_what_the_cluster_dials() -> None:
    message = refusal(initial_advertise_peer_urls=(N2,))

    assert N1 in message
    assert N2 in message
    assert "--initial-advertise-peer-urls" in message


def test_the_order_of_several_advertised_urls_makes_no_difference() -> None:
    both = {"n1": (N1, N2), "n3": (N3,)}

    assert three(initial_cluster=both, initial_advertise_peer_urls=(N2, N1)).member_id == member_id(
        (N1, N2), module.DEFAULT_TOKEN
    )


def test_one_port_does_not_serve_clients_and_peers() -> None:
    message = refusal(listen_client_urls=(N1,), listen_peer_urls=(N1,))

    assert "--listen-peer-urls" in message
    assert "--listen-client-urls" in message


@pytest.mark.parametrize("field", ["listen_client_urls", "listen_peer_urls"])
def test_listening_nowhere_is_refused(field: str) -> None:
    assert "is empty" in refusal(**{field: ()})


def test_an_empty_token_is_refused() -> None:
    assert refusal(initial_cluster_token="").startswith("--initial-cluster-token")


def test_dialling_somebody_unknown_is_refused() -> None:
    assert "'n9' is no member" in refusal(peer_dial={"n2": "127.0.0.1:1", "n9": "127.0.0.1:2"})
    assert three(peer_dial={"n2": "127.0.0.1:1"}).peer_dial == {"n2": "127.0.0.1:1"}


# As a value


def test_a_configuration_does_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        three().name = "n2"  # type: ignore[misc]


def test_an_unknown_field_is_an_error() -> None:
    with pytest.raises(TypeError, match="heartbeat"):
        ServerConfig(heartbeat=100)  # type: ignore[call-arg]

"""`raftkv member ...`: beside etcdctl against a real etcd, and `replace` against raftkv, where it puts a new node in a dead one's place."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from raftkv.cli.exits import Failure
from raftkv.cli.member import checked_urls, parsed_id
from raftkv.lab.cluster import LocalCluster
from tests.cli.conftest import Command, Etcd, Outcome, etcdctl
from tests.cli.test_differential import normalised

URL, OTHER = "http://127.0.0.1:7001", "http://127.0.0.1:7002"

CHANGES: list[list[str]] = [
    ["member", "add", "n2", "--learner", f"--peer-urls={URL}"],
    ["member", "update", "NEW", f"--peer-urls={OTHER}"],
    ["member", "remove", "NEW"],
    ["member", "add", "n3", "--learner", "--peer-urls", f"{OTHER},{URL}", "-w", "json"],
    ["member", "remove", "NEW", "-w", "json"],
]

REFUSALS: list[list[str]] = [
    ["member", "add"],
    ["member", "add", "a", "b", f"--peer-urls={URL}"],
    ["member", "add", "n2"],
    ["member", "add", "n2", "--peer-urls=nonsense"],
    ["member", "add", "n2", "--peer-urls=ftp://127.0.0.1:1"],
    ["member", "add", "n2", "--peer-urls=http://127.0.0.1"],
    ["member", "add", "n2", "--peer-urls=http://127.0.0.1:1/path"],
    ["member", "remove"],
    ["member", "remove", "zz"],
    ["member", "remove", "1", "2"],
    ["member", "remove", "1234"],
    ["member", "update"],
    ["member", "update", "1234"],
    ["member", "update", "zz", f"--peer-urls={URL}"],
    ["member", "update", "1234", f"--peer-urls={URL}"],
    ["member", "promote"],
    ["member", "promote", "zz"],
    ["member", "promote", "1234"],
    ["member", "promote", "11112222333344445"],
]


def new_member(server: Etcd) -> str:
    """The ID of the member that has not been started."""
    listed = etcdctl("--endpoints", server.endpoint, "member", "list").out.decode()
    return next((line.partition(",")[0] for line in listed.splitlines() if "unstarted" in line), "")


def comparable(outcome: Outcome, server: Etcd, new: str) -> bytes:
    """What was printed, with words for what differs from server to server. etcd lists the members in no order."""
    text = normalised(outcome, server)
    names = sorted(re.findall(rb'[A-Za-z0-9]+=http[^,"]*', text))
    if names:
        return b"\n".join(names)
    text = text.replace(f"{new:>16}".encode(), b"NEW").replace(b"%d" % int(new, 16), b"NEW")
    head, separator, members = text.partition(b'"members":[')
    return head + separator + (b",".join(sorted(re.findall(rb"{[^{}]*}", members))) if separator else b"")


def test_a_script_of_changes_prints_the_same(etcd_pair: tuple[Etcd, Etcd], raftkv: Command) -> None:
    theirs, ours = etcd_pair
    news = {theirs.endpoint: "", ours.endpoint: ""}
    for words in CHANGES:
        found, expected = (
            run("--endpoints", server.endpoint, *[news[server.endpoint] if word == "NEW" else word for word in words])
            for run, server in ((raftkv, ours), (etcdctl, theirs))
        )
        assert (found.code, expected.code) == (0, 0), (words, found, expected)
        for server in (theirs, ours):
            news[server.endpoint] = new_member(server) or news[server.endpoint]
        assert comparable(found, ours, news[ours.endpoint]) == comparable(expected, theirs, news[theirs.endpoint])


def test_refusals_have_the_same_exit_code_and_the_same_words(etcd: Etcd, raftkv: Command) -> None:
    for words in REFUSALS:
        expected = etcdctl("--endpoints", etcd.endpoint, *words)
        found = raftkv("--endpoints", etcd.endpoint, *words)
        assert expected.code != 0, words
        assert (found.code, found.out) == (expected.code, expected.out), (words, found, expected)
        assert found.err.splitlines()[-1] == expected.err.splitlines()[-1], words


@pytest.mark.parametrize("write_out", ["table", "fields"])
def test_an_impossible_format_changes_nothing(etcd: Etcd, raftkv: Command, write_out: str) -> None:
    """etcdctl notices it after the change."""
    done = raftkv("--endpoints", etcd.endpoint, "member", "add", "n2", f"--peer-urls={URL}", "-w", write_out)

    assert (done.code, done.err) == (4, f"Error: {write_out} not supported as output format\n".encode())
    assert not new_member(etcd)


def test_urls_and_ids_are_checked_before_anything_is_sent() -> None:
    assert checked_urls("http://b:1, http://a:1") == ["http://a:1", "http://b:1"]
    assert checked_urls("http://[::1]:1") == ["http://[::1]:1"]
    assert parsed_id(["ffffffffffffffff"]) == 2**64 - 1
    with pytest.raises(Failure, match="out of range"):
        parsed_id(["10000000000000000"])
    with pytest.raises(Failure, match="invalid syntax"):
        parsed_id(["-1"])


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    with ExitStack() as stack:
        cluster = stack.enter_context(LocalCluster.create(tmp_path / "cluster", proxy=False, leashed=True))
        cluster.up()
        yield cluster


def test_a_dead_member_is_replaced_in_one_step(cluster: LocalCluster, raftkv: Command) -> None:
    dead = next(name for name in cluster.names if name != cluster.wait_for_leader())
    cluster.kill(dead)
    endpoints = ",".join(cluster.endpoint(name) for name in cluster.names if name != dead)
    starting = threading.Thread(target=lambda: start_when_added(cluster, dead, endpoints))
    starting.start()

    done = raftkv("--endpoints", endpoints, "member", "replace", dead, "--wait", "30s")

    starting.join()
    assert done.code == 0, done
    lines = done.out.decode().splitlines()
    assert re.fullmatch(r"Member +[0-9a-f]+ removed from cluster +[0-9a-f]+", lines[0])
    assert re.fullmatch(r"Member +[0-9a-f]+ added to cluster +[0-9a-f]+", lines[1])
    assert f'ETCD_NAME="{dead}"' in lines
    assert re.fullmatch(r"Member +[0-9a-f]+ promoted in cluster +[0-9a-f]+", lines[-1])
    listed = raftkv("--endpoints", cluster.endpoint(dead), "member", "list").out.decode()
    assert sorted(line.split(", ")[1:3] for line in listed.splitlines()) == [
        ["started", name] for name in cluster.names
    ]
    assert "true" not in listed  # Nobody is a learner any more.


def start_when_added(cluster: LocalCluster, name: str, endpoints: str) -> None:
    """What the operator does on the new machine, once the command has printed what to start."""
    url = cluster.state.nodes[name].peer_url
    for _ in range(300):
        listed = etcdctl("--endpoints", endpoints, "member", "list").out.decode()
        if any("unstarted" in line and url in line for line in listed.splitlines()):
            break
    cluster.make_empty(name)
    cluster.start([name])


def test_nothing_is_removed_when_the_new_one_could_not_be_added(cluster: LocalCluster, raftkv: Command) -> None:
    one, two, _ = cluster.names
    endpoints = ",".join(cluster.endpoints.values())
    taken = cluster.state.nodes[two].peer_url

    for words, said in (
        (["member", "replace"], b"Error: member name or ID is not provided\n"),
        (["member", "replace", "nobody"], b"Error: 'nobody' is no member; the members are "),
        (["member", "replace", one, f"--peer-urls={taken}"], f"Error: --peer-urls: {two} has one".encode()),
        (["member", "replace", one, "--peer-urls=nonsense"], b"Error: URL scheme must be"),
    ):
        done = raftkv("--endpoints", endpoints, *words)
        assert done.code != 0, words
        assert done.err.startswith(said), done.err

    assert len(raftkv("--endpoints", endpoints, "member", "list").out.splitlines()) == 3

"""The same command lines through etcdctl and raftkv, against real etcd: equal stdout, equal exit codes.

Identifiers differ between two servers and times between two calls; both are replaced by words before comparing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from tests.cli.conftest import Command, Etcd, Outcome, etcdctl, running_etcd

TXN = b"""mod("a") > "0"
val("a") != "q"
ver("a") < "100"
create("nothing") = "0"

put a "x y" --prev-kv
get c --prefix --keys-only
del b --prev-kv --prefix
get a1 z --limit 2

put a "q\\x41\\u00e9" --prev-kv
get a

"""
FAILING_TXN = TXN.replace(b'"0"\nval', b'"100000"\nval')

# A script: each line changes what the next one sees. (arguments, stdin)
WRITES: list[tuple[list[str], bytes]] = [
    (["put", "a", "b"], b""),
    (["put", "a", "c", "--prev-kv"], b""),
    (["put", "a", "d", "--prev-kv", "-w", "json"], b""),
    (["put", "a", "e", "--prev-kv", "-w", "fields"], b""),
    (["--write-out=json", "put", "fresh", "e", "--prev-kv"], b""),
    (["put", "--", "dash", "-value"], b""),
    (["put", "dash2", "--", "-value"], b""),
    (["put", "--prev-kv=true", "a", "f"], b""),
    (["put", "--prev-kv=false", "a", "g"], b""),
    (["put", "empty", ""], b""),
    (["put", "from-stdin"], b"line\nline"),
    (["put", "from-stdin", "--prev-kv", "--hex"], b"\x00\xff"),
    (["put", "a", "--ignore-value"], b""),
    (["put", "a", "--ignore-value", "--prev-kv", "-w", "json"], b""),
    (["put", "a", "lease", "--lease=0"], b""),
    (["put", "<html>&\u2028é", "<value>&"], b""),
    (["put", "tab\tnewline\n\x01\x7f", "\u200b\U0001f600\U000e0001"], b""),
    (["put", "b1", "1"], b""),
    (["put", "b2", "2"], b""),
    (["put", "c", "3"], b""),
    (["txn"], TXN),
    (["put", "b", "again"], b""),
    (["txn", "-w", "json"], TXN),
    (["put", "b", "again"], b""),
    (["txn", "-w", "fields"], TXN),
    (["put", "b", "again"], b""),
    (["txn", "--hex"], TXN),
    (["txn", "-i"], FAILING_TXN),
    (["txn", "-i=true", "-w=json"], FAILING_TXN),
    (["txn"], b"\n\n\n"),
    (["txn"], b'\nput "quoted key\\n" "v"\nput "a" --ignore-value\nget a --rev=3 --order=DESCEND\n\n\n'),
    (["txn"], b"\nput k -- -v\nput --lease=0 k2 v\ndel k3 --from-key=false\n\n\n"),
    (["del", "b1"], b""),
    (["del", "nothing"], b""),
    (["del", "nothing", "-w", "json"], b""),
    (["del", "c", "--prev-kv"], b""),
    (["del", "k", "--prefix", "--prev-kv", "-w", "fields"], b""),
    (["del", "empty", "--prev-kv", "-w", "json"], b""),
    (["del", "dash", "dash2"], b""),
    (["del", "\xf0", "--from-key", "--prev-kv", "--hex"], b""),
    (["compaction", "3"], b""),
    (["compaction", "4", "--physical"], b""),
    (["compaction", "5", "-w", "json"], b""),
]

READS: list[list[str]] = [
    ["get", "a"],
    ["get", "a", "-w", "json"],
    ["get", "a", "-wjson"],
    ["-w=json", "get", "a"],
    ["get", "a", "--hex"],
    ["--hex", "get", "a"],
    ["get", "a", "--hex", "-w", "fields"],
    ["get", "a", "--hex", "-w", "json"],
    ["get", "nothing"],
    ["get", "nothing", "-w", "json"],
    ["get", "nothing", "-w", "fields"],
    ["get", "", "--prefix"],
    ["get", "", "--prefix", "-w", "json"],
    ["get", "", "--prefix", "-w", "fields"],
    ["get", "", "--from-key", "--keys-only"],
    ["get", "", "--from-key", "--limit", "2", "-w", "json"],
    ["get", "", "--from-key", "--limit=2", "-w", "fields"],
    ["get", "a", "z"],
    ["get", "a", "c", "--keys-only", "-w", "json"],
    ["get", "a", "--prefix", "--order=DESCEND"],
    ["get", "", "--prefix", "--order", "descend", "--sort-by", "modify"],
    ["get", "", "--prefix", "--order", "ascend", "--sort-by", "VALUE", "--keys-only"],
    ["get", "", "--prefix", "--sort-by=version", "--keys-only"],
    ["get", "", "--prefix", "--sort-by=create", "--order="],
    ["get", "b", "--prefix=true", "--keys-only=false"],
    ["get", "a", "--print-value-only"],
    ["get", "a", "--print-value-only", "--keys-only"],
    ["get", "a", "--consistency=s"],
    ["get", "a", "--consistency", "l", "--rev", "20"],
    ["get", "--prefix", "f", "--command-timeout=10s", "--dial-timeout", "1s"],
    ["member", "list"],
    ["member", "list", "-w", "json"],
    ["member", "list", "-w", "table"],
    ["member", "list", "-w", "fields"],
    ["endpoint", "status"],
    ["endpoint", "status", "-w", "json"],
    ["endpoint", "status", "-w", "table"],
    ["endpoint", "status", "-w", "fields"],
    ["endpoint", "status", "--cluster"],
    ["endpoint", "--cluster", "status", "-w", "table"],
    ["endpoint", "hashkv"],
    ["endpoint", "hashkv", "--cluster"],
    ["endpoint", "hashkv", "-w", "json"],
    ["endpoint", "hashkv", "-w", "table"],
    ["endpoint", "hashkv", "-w", "fields"],
    ["endpoint", "hashkv", "--rev", "20"],
    ["endpoint", "health", "-w", "json"],
    ["endpoint", "health", "-w", "table"],
    ["endpoint", "health", "-w", "fields"],
    ["endpoint", "health", "--cluster", "-w", "json"],
]

# What both refuse, with the same exit code and the same last line on stderr.
REFUSALS: list[tuple[list[str], bytes]] = [
    (["put"], b""),
    (["put", "a"], b""),
    (["put", "a", "b", "--ignore-value"], b""),
    (["put", "nothing", "--ignore-value"], b""),
    (["put", "a", "b", "--lease=123"], b""),
    (["put", "a", "b", "--lease=123", "--ignore-lease"], b""),
    (["put", "", "b"], b""),
    (["get"], b""),
    (["get", ""], b""),
    (["get", "a", "--prefix", "--from-key"], b""),
    (["get", "a", "b", "--prefix"], b""),
    (["get", "a", "b", "--from-key"], b""),
    (["get", "a", "--rev=99999"], b""),
    (["get", "a", "--rev=2"], b""),
    (["get", "a", "-w", "table"], b""),
    (["get", "a", "-w", "json", "--print-value-only"], b""),
    (["del"], b""),
    (["del", ""], b""),
    (["del", "a", "b", "--prefix"], b""),
    (["del", "a", "--prefix", "--from-key"], b""),
    (["compaction"], b""),
    (["compaction", "2"], b""),
    (["compaction", "99999"], b""),
    (["txn", "word"], b""),
    (["txn"], b"bad\n\n\n\n"),
    (["txn"], b'mod("a") > "x"\n\n\n\n'),
    (["txn"], b"\nput\n\n\n"),
    (["txn"], b"\nput a\n\n\n"),
    (["txn"], b"\nfoo a b\n\n\n"),
    (["txn"], b"\nput a 1\nput a 2\n\n\n"),
    (["txn", "-w", "table"], b"\n\n\n"),
    (["endpoint", "status", "-w", "protobuf"], b""),
    (["endpoint", "hashkv", "--rev", "99999"], b""),
]


def normalised(outcome: Outcome, server: Etcd) -> bytes:
    """Stdout with identifiers, addresses, sizes and times replaced by words."""
    header = identifiers(server)
    text = outcome.out
    for name, number in header.items():
        for form in (b"%d", b"%16x", b"%x"):  # Some are padded to 16 digits.
            text = text.replace(form % number, name)
    text = text.replace(server.endpoint.encode(), b"ENDPOINT")
    text = re.sub(rb"\d+(\.\d+)?(\xc2\xb5s|ms|s)\b", b"TOOK", text)
    return re.sub(rb" +\|", b" |", re.sub(rb"\| +", b"| ", re.sub(rb"-+\+", b"-+", text)))


def identifiers(server: Etcd) -> dict[bytes, int]:
    if server not in _IDENTIFIERS:
        answer = json.loads(etcdctl("--endpoints", server.endpoint, "member", "list", "-w", "json").out)
        header = answer["header"]
        own = next(member for member in answer["members"] if member["ID"] == header["member_id"])  # They have no order.
        peer = int(own["peerURLs"][0].rpartition(":")[2])
        _IDENTIFIERS[server] = {
            b"CLUSTER": header["cluster_id"],
            b"MEMBER": header["member_id"],
            b"PEERPORT": peer,
        }
    return _IDENTIFIERS[server]


_IDENTIFIERS: dict[Etcd, dict[bytes, int]] = {}


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    """A server with 25 revisions, the first 5 compacted, for reads by both tools. Nobody else writes to it."""
    with running_etcd(tmp_path_factory.mktemp("written")) as server:
        for key in ("a", "b1", "b2", "c", "fresh", *["a"] * 20):
            assert etcdctl("--endpoints", server.endpoint, "put", key, f"value of {key}").code == 0
        assert etcdctl("--endpoints", server.endpoint, "compaction", "5").code == 0
        yield server


def test_a_script_of_writes_prints_the_same(etcd_pair: tuple[Etcd, Etcd], raftkv: Command) -> None:
    """Each tool has an empty server of its own, so that revisions are equal too."""
    theirs, ours = etcd_pair
    for arguments, stdin in WRITES:
        expected = etcdctl("--endpoints", theirs.endpoint, *arguments, stdin=stdin)
        found = raftkv("--endpoints", ours.endpoint, *arguments, stdin=stdin)
        assert (found.code, normalised(found, ours)) == (expected.code, normalised(expected, theirs)), arguments
        assert expected.code == 0, (arguments, expected)
    everything = ["get", "", "--prefix", "-w", "json"]
    expected = etcdctl("--endpoints", theirs.endpoint, *everything)
    found = raftkv("--endpoints", ours.endpoint, *everything)
    assert normalised(found, ours) == normalised(expected, theirs)


def test_reads_print_the_same(written: Etcd, raftkv: Command) -> None:
    for arguments in READS:
        expected = etcdctl("--endpoints", written.endpoint, *arguments)
        found = raftkv("--endpoints", written.endpoint, *arguments)
        assert (found.code, normalised(found, written)) == (expected.code, normalised(expected, written)), arguments
        assert expected.code == 0, (arguments, expected)


def test_refusals_have_the_same_exit_code_and_the_same_words(written: Etcd, raftkv: Command) -> None:
    for arguments, stdin in REFUSALS:
        expected = etcdctl("--endpoints", written.endpoint, *arguments, stdin=stdin)
        found = raftkv("--endpoints", written.endpoint, *arguments, stdin=stdin)
        assert (found.code, found.out) == (expected.code, expected.out), (arguments, found, expected)
        assert expected.code != 0, arguments
        assert found.err.splitlines()[-1] == expected.err.splitlines()[-1], arguments


def test_an_unreachable_endpoint_prints_the_same_tables(written: Etcd, dead_endpoint: str, raftkv: Command) -> None:
    """Words on stderr differ on purpose (ours give the reason); stdout and the exit code do not."""
    endpoints = f"{dead_endpoint},{written.endpoint}"
    for arguments in (
        ["endpoint", "status"],
        ["endpoint", "status", "-w", "table"],
        ["endpoint", "hashkv", "-w", "json"],
        ["get", "a"],
    ):
        flags = ["--endpoints", endpoints, "--command-timeout=1s", "--dial-timeout=500ms"]
        expected = etcdctl(*flags, *arguments)
        found = raftkv(*flags, *arguments)
        assert (found.code, normalised(found, written)) == (expected.code, normalised(expected, written)), arguments

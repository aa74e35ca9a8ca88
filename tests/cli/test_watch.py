"""`raftkv watch` beside `etcdctl watch`, against the same real etcd: equal outputs, equal exit codes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from tests.cli.conftest import Etcd, Outcome, etcdctl

WAIT_S = 30.0
OURS = [sys.executable, "-m", "raftkv"]
THEIRS = ["etcdctl"]


def environment(**variables: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ETCDCTL_", "RAFTKV_"))}
    return kept | {"ETCDCTL_API": "3", "PYTHONPATH": str(Path(__file__).parents[2])} | variables


def ended(program: list[str], endpoint: str, *arguments: str, stdin: bytes = b"", **variables: str) -> Outcome:
    """Run a watch that ends by itself."""
    command = [*program, "--endpoints", endpoint, "watch", *arguments]
    done = subprocess.run(command, input=stdin, capture_output=True, env=environment(**variables), timeout=WAIT_S)
    return Outcome(done.returncode, done.stdout, done.stderr)


def first_lines(program: list[str], endpoint: str, count: int, *arguments: str, stdin: bytes = b"") -> list[bytes]:
    """The first lines of a watch that would go on."""
    command = [*program, "--endpoints", endpoint, "watch", *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment()) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(stdin)
        process.stdin.flush()
        lines = [process.stdout.readline() for _ in range(count)]
        process.kill()
    return lines


@pytest.fixture
def key(quiet_etcd: Etcd) -> str:
    """A key with a history of two puts and a deletion."""
    key = uuid.uuid4().hex
    for arguments in (["put", key, "v"], ["put", key, "v2 é\n"], ["del", key]):
        assert etcdctl("--endpoints", quiet_etcd.endpoint, *arguments).code == 0
    return key


def revision(quiet_etcd: Etcd) -> int:
    answer = etcdctl("--endpoints", quiet_etcd.endpoint, "get", "x", "-w", "json").out
    found = re.search(rb'"revision":(\d+)', answer)
    assert found is not None
    return int(found[1])


@pytest.mark.parametrize(
    ("flags", "lines"),
    [
        ([], 10),
        (["--prev-kv"], 15),
        (["--prev-kv", "--hex"], 13),
        (["--prefix"], 10),
        (["-w", "json"], 1),
        (["-w", "json", "--prev-kv"], 1),
        (["-w", "fields", "--prev-kv"], 37),
        (["--", "sh", "-c", "env | grep ETCD_WATCH | sort"], 22),
    ],
)
def test_the_same_history_is_shown_in_the_same_words(quiet_etcd: Etcd, key: str, flags: list[str], lines: int) -> None:
    start = str(revision(quiet_etcd) - 2)
    theirs, ours = (first_lines(who, quiet_etcd.endpoint, lines, key, "--rev", start, *flags) for who in (THEIRS, OURS))

    assert ours == theirs
    assert all(theirs), "fewer lines than expected"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--", "echo", "hi"],
        ["k", "l", "--prefix"],
        ["k", "l", "--"],
        ["k", "a"],
        ["KEY", "--rev", "REV", "--", "sh", "-c", "exit 3"],
        ["KEY", "--rev", "REV", "--", "there-is-no-such-command"],
    ],
)
def test_what_ends_a_watch_ends_it_with_the_same_code_and_words(
    quiet_etcd: Etcd, key: str, arguments: list[str]
) -> None:
    words = [key if word == "KEY" else str(revision(quiet_etcd)) if word == "REV" else word for word in arguments]
    theirs, ours = (ended(who, quiet_etcd.endpoint, *words) for who in (THEIRS, OURS))

    assert (ours.code, ours.out, ours.err) == (theirs.code, theirs.out, theirs.err)


def test_a_format_that_a_watch_does_not_have_is_refused_at_once(quiet_etcd: Etcd) -> None:
    """etcdctl says the same words, but with the first event."""
    ours = ended(OURS, quiet_etcd.endpoint, "k", "-w", "table")
    assert (ours.code, ours.err) == (4, b"Error: table not supported as output format\n")


def test_a_compacted_start_ends_with_the_same_code_and_words(quiet_etcd: Etcd, key: str) -> None:
    now = revision(quiet_etcd)
    assert etcdctl("--endpoints", quiet_etcd.endpoint, "compaction", str(now)).code == 0
    for flags in ([], ["-w", "json"]):
        theirs, ours = (ended(who, quiet_etcd.endpoint, key, "--rev", str(now - 1), *flags) for who in (THEIRS, OURS))
        assert ours == theirs


def test_the_environment_may_name_the_key(quiet_etcd: Etcd, key: str) -> None:
    for variables in ({"ETCDCTL_WATCH_KEY": key}, {"ETCDCTL_WATCH_RANGE_END": "x"}):
        theirs, ours = (ended(who, quiet_etcd.endpoint, key, **variables) for who in (THEIRS, OURS))
        assert (ours.code, ours.err) == (theirs.code, theirs.err) == (128, ours.err)


def test_watches_are_read_from_stdin(quiet_etcd: Etcd, key: str) -> None:
    start = revision(quiet_etcd) - 2
    lines = f"watch {key} --rev {start} --prev-kv\n".encode()
    theirs, ours = (first_lines(who, quiet_etcd.endpoint, 15, "-i", stdin=lines) for who in (THEIRS, OURS))
    assert ours == theirs

    told = first_lines(OURS, quiet_etcd.endpoint, 16, "-i", stdin=lines + b"progress\n")
    assert b"progress notify" in b"".join(told)


@pytest.mark.parametrize(
    "stdin",
    [b"foo\n\n", b"watch\n", b"watch k l --prefix\n", b"watch k --bogus\n", b"watch k -- \n", b"progress\n", b""],
)
def test_lines_that_mean_nothing_are_answered_in_the_same_words(quiet_etcd: Etcd, stdin: bytes) -> None:
    theirs, ours = (ended(who, quiet_etcd.endpoint, "-i", stdin=stdin) for who in (THEIRS, OURS))

    assert (ours.code, ours.out, ours.err) == (theirs.code, theirs.out, theirs.err)

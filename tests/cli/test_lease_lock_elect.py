"""`raftkv lease|lock|elect` beside etcdctl, against the same real etcd: equal outputs, equal exit codes, nothing left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.conftest import Command, Etcd, Outcome, etcdctl

WAIT_S = 60.0
OURS = [sys.executable, "-m", "raftkv"]
THEIRS = ["etcdctl"]


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ETCDCTL_", "RAFTKV_"))}
    return kept | {"ETCDCTL_API": "3", "PYTHONPATH": str(Path(__file__).parents[2])}


def ids_out(text: bytes) -> bytes:
    """Lease ids, which differ, as a word; so are the numbers and the base64 of keys in JSON."""
    text = re.sub(rb"\b[0-9a-f]{9,}\b", b"ID", text)
    return re.sub(rb'"key":"[^"]*"|"revision":\d+|_revision":\d+|Revision" : \d+|REV=\d+', b"N", text)


@pytest.fixture
def name() -> str:
    return uuid.uuid4().hex[:9]


@pytest.fixture
def lease(etcd: Etcd) -> Iterator[str]:
    granted = etcdctl("--endpoints", etcd.endpoint, "lease", "grant", "1000").out.split()[1].decode()
    yield granted
    etcdctl("--endpoints", etcd.endpoint, "lease", "revoke", granted)


@pytest.mark.parametrize("write_out", ["simple", "json", "fields"])
def test_leases_are_shown_in_the_same_words(etcd: Etcd, raftkv: Command, lease: str, write_out: str) -> None:
    assert raftkv("--endpoints", etcd.endpoint, "put", f"of/{lease}", "v", f"--lease={lease}").code == 0
    for arguments in (
        ["timetolive", lease],
        ["timetolive", lease, "--keys"],
        ["timetolive", "123"],
        ["keep-alive", "--once", lease],
        ["keep-alive", "--once", "123"],
        ["list"],
        ["grant", "1000"],
        ["revoke", "123"],
    ):
        flags = ["--endpoints", etcd.endpoint, "lease", *arguments, "-w", write_out]
        theirs, ours = etcdctl(*flags), raftkv(*flags)
        if arguments[0] == "grant" and theirs.code == 0 and write_out == "simple":
            for granted in (theirs, ours):
                etcdctl("--endpoints", etcd.endpoint, "lease", "revoke", granted.out.split()[1].decode())
        if arguments[0] == "list":  # In etcd's list leases have no order.
            assert sorted(ours.out.split()) == sorted(theirs.out.split()) or write_out == "json"
            assert ours.code == theirs.code
            continue
        assert (ours.code, _times_out(ids_out(ours.out))) == (theirs.code, _times_out(ids_out(theirs.out))), arguments


def _times_out(text: bytes) -> bytes:
    return re.sub(rb'remaining\(\d+s\)|"ttl":\d+|"TTL" : \d+', b"TIME", text)


def test_a_table_of_leases_is_refused_before_anything_is_done(etcd: Etcd, raftkv: Command, lease: str) -> None:
    """etcdctl revokes first."""
    refused = raftkv("--endpoints", etcd.endpoint, "lease", "revoke", lease, "-w", "table")

    assert (refused.code, refused.err) == (4, b"Error: table not supported as output format\n")
    assert b"granted with" in raftkv("--endpoints", etcd.endpoint, "lease", "timetolive", lease).out


@pytest.mark.parametrize(
    "arguments",
    [
        ["grant"],
        ["grant", "x"],
        ["grant", "99999999999"],
        ["grant", "9" * 30],
        ["revoke"],
        ["revoke", "zz"],
        ["revoke", "123"],
        ["timetolive"],
        ["timetolive", "zz"],
        ["keep-alive"],
        ["keep-alive", "zz"],
        ["keep-alive", "123"],
    ],
)
def test_what_is_no_lease_is_refused_in_the_same_words(etcd: Etcd, raftkv: Command, arguments: list[str]) -> None:
    theirs, ours = (run("--endpoints", etcd.endpoint, "lease", *arguments) for run in (etcdctl, raftkv))

    assert (ours.code, ours.out) == (theirs.code, theirs.out)
    assert ours.err.splitlines()[-1:] == theirs.err.splitlines()[-1:]


@contextmanager
def started(program: list[str], endpoint: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [*program, "--endpoints", endpoint, *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, env=environment(), bufsize=0
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def ended(process: subprocess.Popen[bytes]) -> Outcome:
    out, err = process.communicate(timeout=WAIT_S)
    return Outcome(process.returncode, ids_out(out), ids_out(err))


def keys(etcd: Etcd, name: str) -> list[str]:
    flags = ["get", f"{name}/", "--prefix", "--keys-only"]
    return etcdctl("--endpoints", etcd.endpoint, *flags).out.decode().split()


def wait_for_keys(etcd: Etcd, name: str, count: int) -> list[str]:
    deadline = time.monotonic() + WAIT_S
    while len(found := keys(etcd, name)) != count:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return found


@pytest.mark.parametrize(
    "arguments",
    [
        ["lock"],
        ["lock", "NAME", "true"],
        ["lock", "NAME", "false"],
        ["lock", "NAME", "there-is-no-such-command"],
        ["lock", "NAME", "/etc/passwd"],
        ["lock", "--ttl=0", "NAME", "true"],
        ["lock", "NAME", "--", "sh", "-c", "env | grep ETCD_LOCK; cat; echo told >&2"],
        ["elect"],
        ["elect", "NAME"],
        ["elect", "-l", "NAME", "me"],
        ["elect", "a", "b", "c"],
    ],
)
def test_what_ends_by_itself_ends_with_the_same_words(etcd: Etcd, name: str, arguments: list[str]) -> None:
    words = [name if word == "NAME" else word for word in arguments]
    outcomes = []
    for program in (THEIRS, OURS):
        with started(program, etcd.endpoint, *words) as process:
            outcomes.append(ended(process))
    assert outcomes[1] == outcomes[0]
    assert keys(etcd, name) == []


def test_the_exit_code_is_the_commands(etcd: Etcd, name: str) -> None:
    """etcdctl 3.4 says the same words, with 1 for all codes."""
    for script, code, words in (("exit 7", 7, b"exit status 7"), ("kill -9 $$", 255, b"signal: killed")):
        with started(OURS, etcd.endpoint, "lock", name, "--", "sh", "-c", script) as process:
            assert ended(process) == Outcome(code, b"", b"Error: " + words + b"\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("arguments", [["lock", "NAME"], ["elect", "NAME", "me", "-w", "json"]])
def test_a_signal_gives_back_what_is_held(etcd: Etcd, name: str, arguments: list[str], number: signal.Signals) -> None:
    words = [name if word == "NAME" else word for word in arguments]
    outcomes = []
    for program in (THEIRS, OURS):
        with started(program, etcd.endpoint, *words) as process:
            assert process.stdout is not None
            first = ids_out(process.stdout.readline())
            process.send_signal(number)
            outcomes.append((first, ended(process)))
        assert keys(etcd, name) == []
    assert outcomes[1] == outcomes[0]


@pytest.mark.parametrize("arguments", [["lock", "NAME"], ["elect", "NAME", "me"]])
def test_ours_waits_behind_etcdctl_and_a_signal_takes_it_out_of_the_queue(
    etcd: Etcd, name: str, arguments: list[str]
) -> None:
    words = [name if word == "NAME" else word for word in arguments]
    with started(THEIRS, etcd.endpoint, *words):
        (held,) = wait_for_keys(etcd, name, 1)
        with started(OURS, etcd.endpoint, *words) as waiting:
            wait_for_keys(etcd, name, 2)
            waiting.send_signal(signal.SIGINT)
            assert ended(waiting) == Outcome(1, b"", b"Error: context canceled\n")
        assert keys(etcd, name) == [held]


def test_etcdctl_waits_behind_ours(etcd: Etcd, name: str) -> None:
    with started(OURS, etcd.endpoint, "lock", name) as holder:
        wait_for_keys(etcd, name, 1)
        with started(THEIRS, etcd.endpoint, "lock", name, "echo", "mine") as waiting:
            wait_for_keys(etcd, name, 2)
            assert waiting.poll() is None
            holder.send_signal(signal.SIGTERM)
            assert ended(waiting) == Outcome(0, b"mine\n", b"")


def test_a_lease_that_is_revoked_ends_the_lock(etcd: Etcd, name: str) -> None:
    with started(OURS, etcd.endpoint, "lock", "--ttl=3", name) as holder:
        (held,) = wait_for_keys(etcd, name, 1)
        assert holder.stdout is not None
        assert holder.stdout.readline() == f"{held}\n".encode()
        etcdctl("--endpoints", etcd.endpoint, "lease", "revoke", held.rpartition("/")[2])
        assert ended(holder) == Outcome(1, b"\n", b"Error: session expired\n")


@pytest.mark.parametrize("write_out", ["simple", "json", "fields"])
def test_an_audience_is_told_in_the_same_words(etcd: Etcd, name: str, write_out: str) -> None:
    with started(THEIRS, etcd.endpoint, "elect", name, "me"):
        wait_for_keys(etcd, name, 1)
        shown = []
        for program in (THEIRS, OURS):
            with started(program, etcd.endpoint, "elect", "-l", name, "-w", write_out) as audience:
                assert audience.stdout is not None
                lines = {"simple": 2, "json": 1, "fields": 12}[write_out]
                # Without revisions: the store may move on between the two, as leases of other tests end.
                first = ids_out(b"".join(audience.stdout.readline() for _ in range(lines)))
                audience.send_signal(signal.SIGINT)
                shown.append((first, ended(audience)))
    assert shown[1] == shown[0]

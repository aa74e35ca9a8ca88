"""Exit codes and the one line of an error; flags anywhere; the environment."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys

import pytest

from tests.cli.conftest import Command, Etcd

BAD_FLAGS = [
    (["get", "a", "--limit", "x"], "--limit", "0 to"),
    (["get", "a", "--limit=-1"], "--limit", "0 to"),
    (["get", "a", "--order=up"], "--order", "ASCEND, DESCEND"),
    (["get", "a", "--sort-by=age"], "--sort-by", "CREATE, KEY, MODIFY, VALUE, VERSION"),
    (["get", "a", "--consistency=S"], "--consistency", "l, s"),
    (["get", "a", "--prefix=maybe"], "--prefix", "true nor false"),
    (["get", "a", "--nope"], "--nope", "--from-key"),
    (["get", "a", "--limit"], "--limit", "argument"),
    (["put", "a", "b", "--lease=zz"], "--lease", "hexadecimal"),
    (["-w", "xml", "get", "a"], "--write-out", "simple, json, table, fields, protobuf"),
    (["get", "a", "--command-timeout=5"], "--command-timeout", "5s"),
    (["get", "a", "--dial-timeout=-1s"], "--dial-timeout", "above zero"),
    (["get", "a", "--endpoints="], "--endpoints", "HOST:PORT"),
    (["get", "a", "--endpoints=localhost"], "--endpoints", "HOST:PORT"),
    (["get", "a", "--endpoints=bad:host:port"], "--endpoints", "HOST:PORT"),
    (["get", "a", "--endpoints=ftp://a:1"], "--endpoints", "HOST:PORT"),
    (["get", "a", "--endpoints=a:70000"], "--endpoints", "HOST:PORT"),
    (["compaction", "x"], "REVISION", "0 to"),
    (["get", "a", "--cacert=/does/not/exist", "--endpoints=https://127.0.0.1:1"], "--cacert", "No such file"),
    (["get", "a", "--user", "root"], "--user", "--password"),
    (["nope"], '"nope"', "put, get, del"),
    (["endpoint", "nope"], '"nope"', "status, health, hashkv"),
    (["completion", "powershell"], "SHELL", "'bash', 'zsh', 'fish'"),
    (["completion"], "SHELL", "bash, zsh, fish"),
]


@pytest.mark.parametrize(("arguments", "name", "allowed"), BAD_FLAGS)
def test_a_bad_flag_or_value_is_one_line_that_names_it_and_what_is_allowed(
    raftkv: Command, arguments: list[str], name: str, allowed: str
) -> None:
    outcome = raftkv(*arguments)
    line = outcome.err.decode()
    assert outcome.code == 2
    assert outcome.out == b""
    assert line.startswith("Error: ")
    assert line.count("\n") == 1
    assert name in line
    assert allowed in line


@pytest.mark.parametrize(
    "arguments",
    [
        ["put", "a", "b", "c"],
        ["get", "a", "b", "c"],
        ["member", "list", "x"],
        ["endpoint", "status", "x"],
        ["txn", "x"],
    ],
)
def test_superfluous_arguments_are_refused_instead_of_ignored(raftkv: Command, arguments: list[str]) -> None:
    assert raftkv(*arguments).code == 128


def test_a_bad_value_in_the_environment_is_named_by_its_variable(
    raftkv: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETCDCTL_COMMAND_TIMEOUT", "soon")
    outcome = raftkv("get", "a")
    assert outcome.code == 2
    assert b"$ETCDCTL_COMMAND_TIMEOUT" in outcome.err


def test_the_environment_gives_global_flags_and_the_command_line_overrides_it(
    raftkv: Command, etcd: Etcd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETCDCTL_ENDPOINTS", "127.0.0.1:1")
    monkeypatch.setenv("RAFTKV_ENDPOINTS", etcd.endpoint)
    monkeypatch.setenv("ETCDCTL_HEX", "true")
    monkeypatch.setenv("RAFTKV_WRITE_OUT", "fields")
    raftkv("put", "environment", "x")
    assert b'"Value" : "x"' in raftkv("get", "environment").out
    assert raftkv("get", "environment", "-w", "simple", "--print-value-only").out == b"\\x78\n"
    assert raftkv("get", "environment", "-wsimple", "--print-value-only", "--hex=false").out == b"x\n"


def test_a_flag_before_and_after_the_command_counts_as_the_later_one(raftkv: Command, etcd: Etcd) -> None:
    raftkv("--endpoints", etcd.endpoint, "put", "twice", "x")
    outcome = raftkv("--endpoints", etcd.endpoint, "-w", "json", "get", "twice", "-w", "simple")
    assert outcome.out == b"twice\nx\n"


def test_count_only_prints_the_number(raftkv: Command, etcd: Etcd) -> None:
    for key in ("count/1", "count/2"):
        raftkv("--endpoints", etcd.endpoint, "put", key, "x")
    assert raftkv("--endpoints", etcd.endpoint, "get", "count/", "--prefix", "--count-only").out == b"2\n"


def test_a_dead_server_is_a_request_error_that_gives_the_reason(raftkv: Command, dead_endpoint: str) -> None:
    flags = ("--endpoints", dead_endpoint, "--dial-timeout", "300ms")
    outcome = raftkv(*flags, "put", "a", "b")
    assert outcome.code == 1
    assert outcome.err.decode() == f"Error: cannot connect to {dead_endpoint}: connection refused\n"
    status = raftkv(*flags, "endpoint", "status")
    assert (status.code, status.out) == (1, b"")
    assert status.err.decode().startswith(f"Failed to get the status of endpoint {dead_endpoint} (")
    health = raftkv(*flags, "endpoint", "health")
    assert health.code == 1
    assert f"{dead_endpoint} is unhealthy: failed to commit proposal: " in health.err.decode()
    assert health.err.decode().endswith("Error: unhealthy cluster\n")


def test_a_silent_server_ends_at_the_command_timeout(raftkv: Command, silent_endpoint: str) -> None:
    outcome = raftkv("--endpoints", silent_endpoint, "--command-timeout", "300ms", "get", "a")
    assert (outcome.code, outcome.err) == (1, b"Error: context deadline exceeded\n")


def test_reads_and_writes_go_past_dead_and_silent_servers(
    raftkv: Command, etcd: Etcd, dead_endpoint: str, silent_endpoint: str
) -> None:
    flags = ("--endpoints", f"{silent_endpoint},{dead_endpoint},{etcd.endpoint}", "--dial-timeout=600ms")
    assert raftkv(*flags, "put", "past", "them").out == b"OK\n"
    assert raftkv(*flags, "get", "past").out == b"past\nthem\n"


def test_the_version_is_that_of_the_package_and_of_the_api(raftkv: Command) -> None:
    text = raftkv("version").out.decode()
    assert re.fullmatch(r"raftkv version: \d+\.\d+\.\d+\nAPI version: 3\.4\n", text)
    assert raftkv("--version").out.decode() == text
    assert raftkv("version", "-w", "json").out.decode() == text


def test_help_lists_every_command_and_shows_examples(raftkv: Command) -> None:
    text = raftkv("--help").out.decode()
    for name in ("put", "get", "del", "txn", "compaction", "endpoint", "member", "serve", "demo", "version"):
        assert f"  {name} " in text
    assert raftkv().out.decode() == text
    assert raftkv().code == 0
    for words in (["put"], ["get"], ["del"], ["txn"], ["compaction"], ["endpoint", "status"], ["endpoint", "health"]):
        page = raftkv(*words, "--help")
        assert page.code == 0
        assert b"Examples:\n  raftkv " in page.out, words
        assert b"Global options:" in page.out
        assert raftkv("help", *words) == page


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(raftkv: Command, shell: str) -> None:
    outcome = raftkv("completion", shell)
    assert outcome.code == 0
    assert b"_RAFTKV_COMPLETE" in outcome.out


def command(*arguments: str, **settings: object) -> subprocess.Popen[bytes]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("RAFTKV_", "ETCDCTL_"))}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": environment} | settings
    return subprocess.Popen([sys.executable, "-m", "raftkv", *arguments], **pipes)  # type: ignore[call-overload]


def test_completion_completes_commands_flags_and_values() -> None:
    for words, expected in (("raftkv e", "endpoint"), ("raftkv get --pre", "--prefix"), ("raftkv -w j", "json")):
        extra = {"_RAFTKV_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
        process = command(env=os.environ | extra)
        out, err = process.communicate(timeout=30)
        assert expected in out.decode(), (words, out, err)


def test_ctrl_c_ends_with_130_and_no_traceback() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        endpoint = f"127.0.0.1:{listener.getsockname()[1]}"
        process = command("--endpoints", endpoint, "--command-timeout", "60s", "--dial-timeout", "60s", "get", "a")
        listener.settimeout(30)
        connection, _ = listener.accept()  # From here on the command is waiting for an answer.
        with connection:
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert out == b""
    assert err.strip() == b""


def test_a_reader_that_goes_away_is_no_error_message() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    process = command("completion", "bash", stdout=write_end)
    os.close(write_end)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 141
    assert err == b""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has a file that is always full")
@pytest.mark.parametrize("words", [["version"], ["--help"]])
def test_output_that_cannot_be_written_is_one_line(words: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        process = command(*words, stdout=full)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (1, b"Error: no space left on device\n")

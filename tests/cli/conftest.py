"""A real etcd per test session (two, where a test writes with both tools), and both command lines as functions."""

from __future__ import annotations

import io
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from raftkv.cli.main import run

START_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Outcome:
    """What a command left: exit code, stdout, stderr."""

    code: int
    out: bytes
    err: bytes


Command = Callable[..., Outcome]


@dataclass(frozen=True)
class Etcd:
    """A running etcd."""

    endpoint: str
    pid: int = 0
    """Tells it from another one that had the same port before."""


def etcdctl(*arguments: str, stdin: bytes = b"") -> Outcome:
    """Run the real etcdctl."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ETCDCTL_")} | {"ETCDCTL_API": "3"}
    done = subprocess.run(["etcdctl", *arguments], input=stdin, capture_output=True, env=environment, timeout=60)
    return Outcome(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def raftkv(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Command:
    """Run our command line in this process."""
    for variable in list(os.environ):
        if variable.startswith(("RAFTKV_", "ETCDCTL_")):
            monkeypatch.delenv(variable)

    def call(*arguments: str, stdin: bytes = b"") -> Outcome:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code = run(arguments)
        sys.stdout.flush()
        sys.stderr.flush()
        captured = capfdbinary.readouterr()
        return Outcome(code, captured.out, captured.err)

    return call


def free_ports(count: int) -> list[int]:
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


def start_etcd(directory: Path) -> tuple[Etcd, subprocess.Popen[bytes]]:
    client, peer = free_ports(2)
    urls = {"client": f"http://127.0.0.1:{client}", "peer": f"http://127.0.0.1:{peer}"}
    arguments = ["etcd", "--name", "oracle", "--data-dir", str(directory), "--log-level", "error"]
    for kind, url in urls.items():
        arguments += [f"--listen-{kind}-urls", url]
    arguments += ["--advertise-client-urls", urls["client"], "--initial-advertise-peer-urls", urls["peer"]]
    arguments += ["--initial-cluster", f"oracle={urls['peer']}"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ETCD_")}
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    endpoint = f"127.0.0.1:{client}"
    ready = etcdctl("--endpoints", endpoint, f"--command-timeout={START_TIMEOUT_S:.0f}s", "get", "ready")
    if ready.code != 0:
        process.kill()
        process.wait()
        pytest.fail(f"etcd did not start: {ready.err.decode()}")
    return Etcd(endpoint, process.pid), process


@contextmanager
def running_etcd(directory: Path) -> Iterator[Etcd]:
    for program in ("etcd", "etcdctl"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed: nothing to compare with")
    server, process = start_etcd(directory)
    try:
        yield server
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    """A real etcd, empty at first, for all tests of the session."""
    with running_etcd(tmp_path_factory.mktemp("etcd")) as server:
        yield server


@pytest.fixture(scope="session")
def quiet_etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    """Another one, on which nothing happens by itself: nobody has made a lease there, which would end one day."""
    with running_etcd(tmp_path_factory.mktemp("etcd")) as server:
        yield server


@pytest.fixture
def etcd_pair(tmp_path: Path) -> Iterator[tuple[Etcd, Etcd]]:
    """Two empty servers: what etcdctl does to the first, raftkv does to the second."""
    with running_etcd(tmp_path / "theirs") as theirs, running_etcd(tmp_path / "ours") as ours:
        yield theirs, ours


@pytest.fixture
def silent_endpoint() -> Iterator[str]:
    """A server that accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def dead_endpoint() -> str:
    """An address where nobody listens."""
    return f"127.0.0.1:{free_ports(1)[0]}"

"""``python cluster/local.py``: every command is a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.lab.conftest import SERVER_COMMAND

SCRIPT = Path(__file__).parents[2] / "cluster" / "local.py"
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(SCRIPT), *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)

    yield run
    run("down")


def up(run: Run, nodes: int, *options: str) -> str:
    done = run("up", "--nodes", str(nodes), "--no-proxy", "--command", " ".join(SERVER_COMMAND), *options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def states(run: Run) -> dict[str, str]:
    return {node["name"]: node["state"] for node in json.loads(run("status", "--json").stdout)["nodes"]}


def test_the_life_of_a_cluster_in_shell_commands(run: Run, tmp_path: Path) -> None:
    shown = up(run, 3)
    assert "export ETCDCTL_ENDPOINTS=127.0.0.1:" in shown
    assert (tmp_path / ".raftkv/local/cluster.json").exists()
    assert states(run) == {"n1": "running", "n2": "running", "n3": "running"}

    assert run("kill", "n2").returncode == 0
    assert run("pause", "n3").returncode == 0
    assert states(run) == {"n1": "running", "n2": "killed", "n3": "paused"}

    assert run("resume").returncode == 0
    assert run("restart").returncode == 0
    assert states(run) == {"n1": "running", "n2": "running", "n3": "running"}
    assert "leader" in run("status").stdout
    assert run("logs", "n1", "-n", "1").stdout.startswith("n1 | ")

    assert run("down").returncode == 0
    assert not (tmp_path / ".raftkv/local").exists()


def test_data_is_kept_on_request_and_so_is_the_gateway(run: Run) -> None:
    shown = up(run, 1, "--gateway")
    (url,) = [word for word in shown.split() if word.endswith("/v3/")]
    assert run("down", "--keep-data").returncode == 0
    assert states(run) == {"n1": "stopped"}

    again = run("up")
    assert again.returncode == 0
    assert url in again.stdout.split()
    assert states(run) == {"n1": "running"}
    with urlopen(url.replace("/v3/", "/version")) as answer:  # What serves it is cluster/local.py's own choice.
        assert answer.status == 200


def test_mistakes_are_told_in_one_line(run: Run, tmp_path: Path) -> None:
    absent = run("status")
    assert absent.returncode == 1
    assert absent.stderr == f"Error: no cluster in {tmp_path}/.raftkv/local (cluster.json is not there)\n"

    up(run, 1)

    for arguments, complaint in {
        ("kill", "n9"): "no node 'n9' in this cluster; it has n1",
        ("up",): "is running; `status` shows it",
        ("partition", "n1|n2"): "no node 'n2'",
        ("restart",): "all nodes are running; name those to restart: n1",
        ("resume", "n7"): "no node 'n7'",
    }.items():
        done = run(*arguments)
        assert done.returncode == 1
        assert complaint in done.stderr
        assert done.stderr.count("\n") == 1
    assert run("up", "--nodes", "99").returncode == 2

"""The demo with real processes, without a terminal, and its prompt."""

from __future__ import annotations

import io
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from raftkv.lab import demo
from raftkv.lab.cluster import LocalCluster
from raftkv.lab.demo_prompt import Prompt
from raftkv.lab.process import wait_until
from raftkv.lab.traffic import Traffic
from tests.lab.conftest import KNOWS_PEER_DIAL, SERVER_COMMAND, MakeCluster


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary clusters are made."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=200)


def shown(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_story_ends_well_and_leaves_nothing_behind(scratch: Path, console: Console) -> None:
    status = demo.run(console, interactive=False, command=SERVER_COMMAND, proxy=KNOWS_PEER_DIAL)

    text = shown(console)
    assert status == 0, text
    assert re.search(r"kill -9 \d+: the leader, n\d, is dead", text)
    assert re.search(r"longest time without an acknowledged write was [\d,]+ ms", text)
    assert re.search(r"all [\d,]+ acknowledged writes are there", text)
    assert "all nodes have the same hash" in text
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_demo_that_is_ended_early_leaves_nothing_behind(scratch: Path, number: signal.Signals) -> None:
    script = (
        "import sys; from rich.console import Console; from raftkv.lab import demo;"
        "demo.run(Console(), interactive=False, command=sys.argv[1:], proxy=False)"
    )
    command = [sys.executable, "-c", script, *SERVER_COMMAND]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "leads" in line:
                break
        process.send_signal(number)
        assert process.wait(20) != 0

    assert wait_until(lambda: list(scratch.iterdir()) == [], 10)


@pytest.fixture
def prompt(make_cluster: MakeCluster, console: Console) -> Iterator[Prompt]:
    cluster: LocalCluster = make_cluster()
    cluster.start()
    with Traffic([cluster.endpoint("n1")]) as traffic:
        yield Prompt(cluster, traffic, console)


def test_the_prompt_puts_gets_and_deletes(prompt: Prompt, console: Console) -> None:
    for line in ("put greeting 'hello world'", "get greeting", "del greeting", "get greeting"):
        assert prompt.obey(line)

    assert re.fullmatch(r"OK\nhello world   revision \d+\n1 deleted\n\(no such key\)\n", shown(console))


def test_the_prompt_restarts_and_shows_who_leads(prompt: Prompt, console: Console) -> None:
    assert prompt.obey("restart n1")
    assert prompt.obey("put a b")
    assert prompt.obey("status")

    assert re.search(r"n1 +running +leader", shown(console))


def test_the_prompt_tells_mistakes_and_goes_on(prompt: Prompt, console: Console) -> None:
    for line in ("", "dance", "put a", "kill n9", "partition n1", "get 'unclosed"):
        assert prompt.obey(line)

    text = shown(console)
    assert "no command 'dance'; there are put, get, del" in text
    assert "put takes 2 arguments, not 1" in text
    assert "no node 'n9' in this cluster; it has n1" in text
    assert "No closing quotation" in text


def test_exit_ends_the_prompt(prompt: Prompt) -> None:
    assert not prompt.obey("exit")

"""A lock without its fencing token, and a holder that is paused: must fail every time. With the token: never."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import raftkv
from raftkv.lab.cluster import LocalCluster
from tests.nemesis.lock import NAME, is_exclusive, tokens_in_order, write

ROUNDS = 2
WAIT_S = 30.0


@contextmanager
def paused_holder(cluster: LocalCluster, mode: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that holds the lock, has just been told so, and hangs."""
    command = [sys.executable, "-m", "tests.nemesis.lock", ",".join(cluster.endpoints.values()), mode]
    with subprocess.Popen(command) as holder:
        try:
            _, status = os.waitpid(holder.pid, os.WUNTRACED)
            assert os.WIFSTOPPED(status), f"the holder ended with {os.waitstatus_to_exitcode(status)}"
            yield holder
        finally:
            holder.kill()


def play(cluster: LocalCluster, mode: str) -> tuple[list[int], int]:
    """A holder hangs, another one takes over and writes, the first goes on: the tokens in order, and its exit status."""
    with raftkv.connect(list(cluster.endpoints.values()), timeout=WAIT_S) as client:
        client.delete(prefix="written/")
        with paused_holder(cluster, mode) as holder, client.lock(NAME, ttl=30, timeout=WAIT_S) as successor:
            assert write(client, successor, 2, fenced=True)
            holder.send_signal(signal.SIGCONT)
            status = holder.wait(WAIT_S)
        return tokens_in_order(client), status


@pytest.mark.parametrize("round_number", range(ROUNDS))
def test_without_its_fencing_token_a_lock_excludes_nobody(cluster: LocalCluster, round_number: int) -> None:
    tokens, status = play(cluster, "unfenced")

    assert status == 0
    assert len(tokens) == 3
    assert not is_exclusive(tokens), tokens


@pytest.mark.parametrize("round_number", range(ROUNDS))
def test_with_its_fencing_token_a_holder_that_was_paused_writes_no_more(
    cluster: LocalCluster, round_number: int
) -> None:
    tokens, status = play(cluster, "fenced")

    assert status == 3
    assert len(tokens) == 2
    assert is_exclusive(tokens), tokens

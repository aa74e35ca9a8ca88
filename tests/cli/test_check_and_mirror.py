"""`raftkv check perf` and `raftkv make-mirror`, beside etcdctl and on real etcd."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import raftkv as library
from raftkv.cli.check import LOADS, Times, judgement
from tests.cli.conftest import Command, Etcd, etcdctl

WAIT_S = 30.0

# --- check perf -------------------------------------------------------------------------------------------------------


def test_a_check_that_cannot_begin_says_so_as_etcdctl_does(etcd: Etcd, raftkv: Command) -> None:
    etcdctl("--endpoints", etcd.endpoint, "put", "/there/k", "v")
    for words in (["check", "perf", "--load", "bad"], ["check", "perf", "--prefix", "/there/"]):
        theirs = etcdctl("--endpoints", etcd.endpoint, *words)
        ours = raftkv("--endpoints", etcd.endpoint, *words)
        assert (ours.code, ours.out) == (theirs.code, theirs.out), words
        assert ours.err == theirs.err, words


def test_a_check_writes_judges_and_leaves_nothing_behind(etcd: Etcd, raftkv: Command) -> None:
    words = ["check", "perf", "--duration", "1s", "--prefix", "/check/", "--auto-compact", "--auto-defrag"]

    done = raftkv("--endpoints", etcd.endpoint, *words)

    lines = done.out.decode().splitlines()
    revision = re.fullmatch(r"Compacting with revision (\d+)", lines[0])
    assert revision is not None
    assert lines[1:4] == [
        f"Compacted with revision {revision[1]}",
        f'Defragmenting "{etcd.endpoint}"',
        f'Defragmented "{etcd.endpoint}"',
    ]
    for line, pattern in zip(
        lines[4:],
        (
            r"(PASS: Throughput is|FAIL: Throughput too low:) \d+ writes/s",
            r"(PASS: Slowest request took|Slowest request took too long:) \d+\.\d{6}s",
            r"(PASS: Stddev is|Stddev too high:) \d+\.\d{6}s",
            r"PASS|FAIL",
        ),
        strict=True,
    ):
        assert re.fullmatch(pattern, line), line
    assert done.code == (0 if lines[-1] == "PASS" else 1)
    assert etcdctl("--endpoints", etcd.endpoint, "get", "/check/", "--prefix").out == b""


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (Times([0.001] * 140, Counter(), 1.0), ["PASS: Throughput is 141 writes/s", "PASS"]),
        (Times([0.001] * 100, Counter(), 1.0), ["FAIL: Throughput too low: 101 writes/s", "FAIL"]),
        (Times([0.001] * 149 + [0.6], Counter(), 1.0), ["Slowest request took too long: 0.600000s", "FAIL"]),
        (Times([0.001, 0.4] * 75, Counter(), 1.0), ["Stddev too high: 0.199500s", "FAIL"]),
        (Times([0.001] * 150, Counter({"no": 2}), 1.0), ["FAIL: too many errors", "FAIL: ERROR(no) -> 2", "FAIL"]),
        (Times(), ["FAIL: Throughput too low: 1 writes/s", "FAIL"]),
    ],
)
def test_what_is_fast_enough(times: Times, expected: list[str]) -> None:
    lines, is_fast_enough = judgement(times, LOADS["s"])

    assert [line for line in lines if line in expected] == expected
    assert is_fast_enough == (lines[-1] == "PASS")


# --- make-mirror ------------------------------------------------------------------------------------------------------


@contextmanager
def mirroring(source: Etcd, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "raftkv", "--endpoints", source.endpoint, "make-mirror", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_until_mirrored(kv: library.Client, expected: dict[bytes, bytes]) -> None:
    end = time.monotonic() + WAIT_S
    while (found := {item.key: item.value for item in kv.range()}) != expected:
        assert time.monotonic() < end, found
        time.sleep(0.02)


def test_a_mirror_has_what_was_there_and_what_comes(etcd_pair: tuple[Etcd, Etcd]) -> None:
    source, destination = etcd_pair
    with library.connect(source.endpoint) as here, library.connect(destination.endpoint) as there:
        for number in range(300):
            here.put(f"app/{number:03}", "old")
        here.put("other", "v")
        expected = {b"copy/%03d" % number: b"old" for number in range(300)}
        with mirroring(source, "--prefix", "app/", "--dest-prefix", "copy/", destination.endpoint) as process:
            wait_until_mirrored(there, expected)
            here.txn().then(here.op.put("app/000", "new"), here.op.delete("app/001"), here.op.put("x", "y")).commit()
            del expected[b"copy/001"]
            wait_until_mirrored(there, expected | {b"copy/000": b"new"})
            here.delete(prefix="app/")  # More at once than a transaction may hold.
            wait_until_mirrored(there, {})
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=WAIT_S)
        assert (process.returncode, out, err) == (130, b"", b"")


def test_a_mirror_of_everything_keeps_the_keys_or_puts_a_prefix_before_them(etcd_pair: tuple[Etcd, Etcd]) -> None:
    source, destination = etcd_pair
    with library.connect(source.endpoint) as here, library.connect(destination.endpoint) as there:
        here.put("k", "v")
        with mirroring(source, destination.endpoint):
            wait_until_mirrored(there, {b"k": b"v"})
        with mirroring(source, "--dest-prefix", "copy/", destination.endpoint):
            wait_until_mirrored(there, {b"k": b"v", b"copy/k": b"v"})
        with mirroring(source, "--prefix", "k", "--no-dest-prefix", destination.endpoint) as process:
            _, err = process.communicate(timeout=WAIT_S)  # Nothing is left of its name.
        assert b"key is not provided" in err
        assert process.returncode == 1


def test_a_mirror_that_cannot_begin_says_so_as_etcdctl_does(etcd: Etcd, raftkv: Command) -> None:
    for words in (["make-mirror"], ["make-mirror", "a", "b"]):
        theirs = etcdctl("--endpoints", etcd.endpoint, *words)
        ours = raftkv("--endpoints", etcd.endpoint, *words)
        assert ours == theirs, words
    both = ["make-mirror", "--dest-prefix", "a", "--no-dest-prefix", etcd.endpoint]
    assert raftkv("--endpoints", etcd.endpoint, *both) == etcdctl("--endpoints", etcd.endpoint, *both)

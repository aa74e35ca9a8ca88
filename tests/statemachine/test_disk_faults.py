"""The disk fails, or the process dies, at one system call after the other: what was promised is there afterwards.

The faults are injected by strace, below LMDB. Skipped by name where strace is missing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from raftkv.statemachine import StateMachine
from tests.statemachine.support import apply, batch, everything, open_machine, put

COMMITTER = """
import os, sys
from pathlib import Path
from tests.statemachine.support import batch, open_machine, put

machine = open_machine(Path(sys.argv[1]))
os.write(int(sys.argv[2]), b"r")
for index in range(machine.applied_index + 1, machine.applied_index + 9):
    machine.apply([batch(index, put(b"n", b"%d" % index), put(b"k%d" % (index % 5), b"x" * 3000))])
    machine.commit()
    os.write(int(sys.argv[2]), b"c")
machine.close()
"""

INSTALLER = """
import os, sys
from pathlib import Path
from raftkv.statemachine import read_seal
from tests.statemachine.support import open_machine

snapshot = Path(sys.argv[1] + ".snapshot")
machine = open_machine(Path(sys.argv[1]))
os.write(int(sys.argv[2]), b"r")
machine.install(snapshot, read_seal(snapshot).meta)
os.write(int(sys.argv[2]), b"i")
machine.close()
"""


def run_with_fault(script: str, state: Path, fault: str) -> tuple[int, str]:
    """Run a script on a state directory with strace's `inject=fault`; exit code and what it reported."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("no strace to inject faults with")
    reading, writing = os.pipe()
    with open(reading, "rb") as reports:
        command = [
            strace,
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            f"inject={fault}",
            sys.executable,
            "-c",
            script,
            str(state),
            str(writing),
        ]
        done = subprocess.run(command, pass_fds=[writing], capture_output=True, text=True, check=False)
        os.close(writing)
        reported = reports.read().decode()
    if "ptrace" in done.stderr and "Operation not permitted" in done.stderr:
        pytest.skip("tracing is not allowed here")
    return done.returncode, reported + done.stderr


@pytest.mark.parametrize(
    "call", [("pwrite64", 1), ("pwrite64", 9), ("pwrite64", 2), ("pwrite64", 16), ("fdatasync", 1), ("fdatasync", 5)]
)
def test_a_process_killed_at_a_disk_call_loses_no_commit(tmp_path: Path, call: tuple[str, int]) -> None:
    state = tmp_path / "state"
    open_machine(state).close()

    _, reported = run_with_fault(COMMITTER, state, f"{call[0]}:signal=KILL:when={call[1]}")

    assert reported.startswith("r")
    assert reported.count("c") < 8
    machine = open_machine(state)
    assert machine.applied_index >= reported.count("c")
    assert machine.revision == 1 + 2 * machine.applied_index
    if machine.applied_index:
        assert everything(machine)[b"n"] == b"%d" % machine.applied_index
    apply(machine, put(b"goes on"))
    machine.close()


@pytest.mark.parametrize("call", [1, 3, 6])
def test_a_failed_sync_is_never_a_commit(tmp_path: Path, call: int) -> None:
    """The node stops; a commit that was reported before is there."""
    state = tmp_path / "state"
    open_machine(state).close()

    code, reported = run_with_fault(COMMITTER, state, f"fdatasync:error=EIO:when={call}+")

    assert code != 0
    assert "StorageError: cannot commit" in reported
    machine = open_machine(state)
    assert machine.applied_index >= reported.split("Traceback")[0].count("c")
    assert machine.revision == 1 + 2 * machine.applied_index
    machine.close()


@pytest.mark.parametrize(
    ("call", "index"),
    [
        (("rename", 1), 1),
        (("truncate", 1), 1),
        (("fsync", 1), 1),
        (("rename", 2), 1),
        (("fsync", 2), 29),
    ],
)
def test_an_install_killed_at_a_disk_call_leaves_old_or_new(tmp_path: Path, call: tuple[str, int], index: int) -> None:
    state = tmp_path / "state"
    old = open_machine(state)
    apply(old, put(b"old"))
    old.close()
    donor = open_machine(tmp_path / "donor")
    donor.apply([batch(index, put(b"new%d" % index)) for index in range(1, 30)])
    donor.snapshot_to(Path(f"{state}.snapshot"))
    states = {1: {b"old": b"v"}, 29: everything(donor)}
    donor.close()

    _, reported = run_with_fault(INSTALLER, state, f"{call[0]}:signal=KILL:when={call[1]}")

    assert reported == "r"
    machine = StateMachine.open(state)
    assert everything(machine) == states[machine.applied_index]
    assert machine.applied_index == index
    apply(machine, put(b"goes on"))
    machine.close()

"""Faults injected into system calls, by strace: errors, a kill, or a sync that says it was one. Skipped by name without it."""

from __future__ import annotations

import shutil
import subprocess

import pytest


def require_strace() -> str:
    """Where strace is; skip, and say by name what is missing."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("no strace to inject faults with")
    probe = subprocess.run([strace, "-qq", "-o", "/dev/null", "true"], capture_output=True, text=True, check=False)
    if probe.returncode:
        pytest.skip(f"no tracing here: {probe.stderr.strip()}")
    return strace


def under_strace(command: list[str], *faults: str, log: str = "/dev/null") -> list[str]:
    """The command, run with these `inject=` expressions in force in all its threads from its first system call on."""
    calls = ",".join(fault.partition(":")[0] for fault in faults)
    injections = [word for fault in faults for word in ("-e", f"inject={fault}")]
    return [require_strace(), "-f", "-qq", "--seccomp-bpf", "-o", log, "-e", f"trace={calls}", *injections, *command]

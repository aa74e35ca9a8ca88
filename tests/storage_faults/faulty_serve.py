"""`raftkv serve`, with the faults that stand in <data-dir>.faults injected into its system calls; without that file, plainly.

    python -m tests.storage_faults.faulty_serve FLAGS

For `LocalCluster(command=...)`, where one node of several is to have a failing disk. The node keeps its pid.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.storage_faults.strace import under_strace

COMMAND = (sys.executable, "-m", "tests.storage_faults.faulty_serve")


def faults_path(data_path: Path) -> Path:
    return data_path.with_name(data_path.name + ".faults")


if __name__ == "__main__":
    flags = sys.argv[1:]
    command = [sys.executable, "-m", "raftkv", "serve", *flags]
    file = faults_path(Path(flags[flags.index("--data-dir") + 1]))
    if file.exists():
        strace, *rest = under_strace(command, *file.read_text().split())
        command = [strace, "-D", *rest]
    os.execv(command[0], command)

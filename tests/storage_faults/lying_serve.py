"""`raftkv serve`; while <data-dir>.lies exists it acknowledges before its disk has anything: syncs do nothing.

    python -m tests.storage_faults.lying_serve FLAGS

A negative control: the suites of power loss must see what such a node loses. Never in the shipped path: it replaces one method
of the file system behind the log, and puts off the state machine's own syncs, which are LMDB's.
"""

from __future__ import annotations

import sys
from pathlib import Path

from raftkv.cli import main
from raftkv.statemachine import StoreLimits
from raftkv.storage import OsFileSystem

COMMAND = (sys.executable, "-m", "tests.storage_faults.lying_serve")
NEVER_S = 1e9


def lies_path(data_path: Path) -> Path:
    return data_path.with_name(data_path.name + ".lies")


def lie() -> None:
    OsFileSystem.sync = lambda self, handle: None
    OsFileSystem.sync_dir = lambda self, path: None
    StoreLimits.__init__.__kwdefaults__["commit_interval_s"] = NEVER_S


if __name__ == "__main__":
    if lies_path(Path(sys.argv[sys.argv.index("--data-dir") + 1])).exists():
        lie()
    sys.argv[1:1] = ["serve"]
    main()

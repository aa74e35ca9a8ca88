"""`raftkv serve` with segments of the log so small that a short run fills several of them.

python -m tests.storage_faults.small_serve FLAGS
"""

from __future__ import annotations

import sys

from raftkv.cli import main
from raftkv.storage import WalOptions

COMMAND = (sys.executable, "-m", "tests.storage_faults.small_serve")
SEGMENT_BYTES = 128 * 1024

if __name__ == "__main__":
    WalOptions.__init__.__kwdefaults__["segment_bytes"] = SEGMENT_BYTES
    sys.argv[1:1] = ["serve"]
    main()

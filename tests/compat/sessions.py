"""One judge before one system: a fresh cluster for each."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from tests.compat.differences import LEFT_OUT
from tests.compat.judgement import count
from tests.compat.judges import Judge
from tests.compat.results import Results
from tests.compat.systems import running


def judged_by(one: Judge, system: str, directory: Path) -> Results:
    """What an installed judge finds on a fresh cluster of three nodes; of raftkv's gateway, on one node."""
    began = time.monotonic()
    nodes = 1 if one.needs_http and system == "raftkv" else 3
    folder = directory / f"{one.name}-{system}"
    with running(system, folder, nodes=nodes, http=one.needs_http) as cluster:
        results = one.run(cluster, folder, leave_out=list(LEFT_OUT[one.name]))
    sys.stdout.write(f"{one.name} on {system}: {dict(count(results))} in {time.monotonic() - began:.0f} s\n")
    sys.stdout.flush()
    return results

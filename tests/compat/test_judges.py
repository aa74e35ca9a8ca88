"""The outside judges on three nodes of raftkv, all at once: they mostly sleep. What must pass is what is recorded of etcd."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.compat.differences import EXPECTED
from tests.compat.judgement import Judgement, details, judge, read_baseline, table
from tests.compat.judges import JUDGES, Judge
from tests.compat.sessions import judged_by
from tests.compat.systems import has_gateway

TOO_LONG = frozenset({"etcd3 (Python)", "aetcd"})
"""Left to `make compat`: they sleep for a minute and more."""


def test_what_passes_on_etcd_passes_on_raftkv(tmp_path: Path) -> None:
    """One test, so that the processes of a parallel run do not call every judge twice. etcd3gw is asked once there is a gateway."""
    for command in ("npm", "node", "openssl"):
        if shutil.which(command) is None:
            pytest.skip(f"{command} is not installed: no judge from npm")
    baseline = read_baseline()

    def judged(one: Judge) -> Judgement:
        one.install()
        ours = judged_by(one, "raftkv", tmp_path)
        return judge(one.name, baseline[one.name], ours, EXPECTED[one.name])

    served = [one for one in JUDGES.values() if has_gateway() or not one.needs_http]
    called = [one for one in served if one.name not in TOO_LONG]
    with ThreadPoolExecutor(len(called)) as pool:
        judgements = list(pool.map(judged, called))

    assert all(one.on_etcd for one in judgements), "a judge without a baseline: make compat ARGS=--baseline"
    assert all(one.is_sound for one in judgements), f"{table(judgements)}\n{details(judgements)}"

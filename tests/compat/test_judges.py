"""The outside judges on three nodes of raftkv, all at once: they mostly sleep. What must pass is what is recorded of etcd."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.compat.differences import EXPECTED
from tests.compat.judgement import details, judge, read_baseline
from tests.compat.judges import JUDGES, Judge
from tests.compat.results import Results
from tests.compat.sessions import judged_by
from tests.compat.systems import has_gateway

pytestmark = pytest.mark.xdist_group("judges")


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Future[Results]]:
    """Every judge whose interface raftkv has, at work."""
    directory, baseline = tmp_path_factory.mktemp("judges"), read_baseline()

    def work(one: Judge) -> Results:
        one.install()
        return judged_by(one, "raftkv", directory, passes_on_etcd=baseline[one.name])

    called = [one for one in JUDGES.values() if has_gateway() or not one.needs_http]
    with ThreadPoolExecutor(len(called)) as pool:
        return {one.name: pool.submit(work, one) for one in called}


@pytest.mark.parametrize("name", JUDGES)
def test_what_passes_on_etcd_passes_on_raftkv(name: str, sessions: dict[str, Future[Results]]) -> None:
    if name not in sessions:
        pytest.skip("raftkv serve has no --listen-client-http-urls yet")
    recorded = read_baseline()[name]
    assert recorded, "no baseline: make compat ARGS=--baseline"

    judgement = judge(name, recorded, sessions[name].result(), EXPECTED[name])

    assert judgement.is_sound, details([judgement])

"""A pytest plugin in a judge's own process: a client that is made without an address gets the judged server's.

Some tests of etcd3 make ``etcd3.client()`` although their suite was told where the server is; the port that it takes then may be
anybody's. Hypothesis refuses a fixture of function scope, which etcd3 has from a time when it did not, and gets few examples
where each of them stops two nodes of three.
"""

from __future__ import annotations

import os
from typing import Any

import pytest


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: Any) -> None:
    etcd3 = pytest.importorskip("etcd3")
    host, _, port = os.environ["JUDGED_SERVER"].rpartition(":")
    for maker in (etcd3.client, etcd3.Etcd3Client.__init__):
        maker.__defaults__ = (host, int(port), *maker.__defaults__[2:])

    from hypothesis import HealthCheck, settings

    settings.register_profile("judge", deadline=None, max_examples=10, suppress_health_check=list(HealthCheck))
    settings.load_profile("judge")

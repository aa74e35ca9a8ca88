"""A pytest plugin in a judge's own process: a client that is made without an address gets the judged server's.

Some tests of etcd3 make ``etcd3.client()`` although their suite was told where the server is; the port that it takes then may be
anybody's. Its suite is of a time when Hypothesis allowed fixtures of function scope: today it must be told to. And some of its
examples stop two nodes of three each: three of them will do.
"""

from __future__ import annotations

import os

import etcd3
from hypothesis import HealthCheck, settings


def pytest_configure() -> None:
    host, _, port = os.environ["JUDGED_SERVER"].rpartition(":")
    for maker in (etcd3.client, etcd3.Etcd3Client.__init__):
        maker.__defaults__ = (host, int(port), *maker.__defaults__[2:])
    # The suite registers a profile of its own, which takes over what this one says and it does not.
    settings.register_profile("judge", max_examples=3, suppress_health_check=list(HealthCheck))
    settings.load_profile("judge")

"""One raftkv node with a gateway and one etcd for all tests here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from raftkv.lab.cluster import LocalCluster
from tests.gateway.http import Both, Http
from tests.server.conftest import etcd_endpoint as etcd_endpoint
from tests.server.grpc_api import Api
from tests.server.process import Servers, servers_in


@pytest.fixture(scope="package")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster.temporary(nodes=1, proxy=False, gateway=True) as cluster:
        cluster.start()
        cluster.wait_for_leader()
        yield cluster


@pytest.fixture(scope="package")
def ours(cluster: LocalCluster) -> Http:
    return Http(cluster.http_url("n1"))


@pytest.fixture(scope="package")
def over_grpc(cluster: LocalCluster) -> Iterator[Api]:
    """The same node over gRPC."""
    api = Api(cluster.endpoint("n1"))
    yield api
    api.close()


@pytest.fixture(scope="package")
def theirs(etcd_endpoint: str) -> Http:
    return Http(f"http://{etcd_endpoint}")


@pytest.fixture
def both(ours: Http, theirs: Http) -> Both:
    """Both, at the same revision: other tests may have written to one of them alone."""
    both = Both(ours, theirs)
    both.level()
    return both


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    with servers_in(tmp_path) as servers:
        yield servers


@pytest.fixture
def cluster_log(cluster: LocalCluster) -> list[str]:
    """What the node has logged so far, read when the test asks for it a second time: its own lines only."""
    return _Log(cluster)


class _Log(list[str]):
    def __init__(self, cluster: LocalCluster) -> None:
        super().__init__()
        self._cluster = cluster

    def __iter__(self) -> Iterator[str]:
        return iter(self._cluster.log_tail("n1", 1000))

"""A three-node raftkv cluster and a real etcd for all tests of this package, and servers of a test's own."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from raftkv.lab.cluster import LocalCluster
from raftkv.lab.ports import hold_ports, port_of
from raftkv.pb import rpc_pb2
from tests.server.beside_etcd import Beside
from tests.server.grpc_api import Api, Failed
from tests.server.leasing import revoke_all
from tests.server.process import Servers, servers_in


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    with servers_in(tmp_path) as servers:
        yield servers


@pytest.fixture(scope="package")
def cluster() -> Iterator[LocalCluster]:
    """Three nodes with a leader. Nobody kills any of them."""
    with LocalCluster.temporary(nodes=3, proxy=False) as cluster:
        cluster.up()
        yield cluster


@pytest.fixture(scope="package")
def nodes(cluster: LocalCluster) -> Iterator[dict[str, Api]]:
    """The cluster's nodes, by name."""
    apis = {name: Api(endpoint) for name, endpoint in cluster.endpoints.items()}
    yield apis
    for api in apis.values():
        api.close()


@pytest.fixture(params=["n1", "n2", "n3"])
def node(request: pytest.FixtureRequest, nodes: dict[str, Api]) -> Api:
    """Each node in its turn: one of them leads, the others forward."""
    return nodes[request.param]


@pytest.fixture(scope="package")
def etcd_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real etcd of one node. It begins and ends with the cluster: what one of them has had compacted, so has the other."""
    if shutil.which("etcd") is None:
        pytest.skip("etcd is not installed: nothing to compare with")
    directory = tmp_path_factory.mktemp("etcd")
    holders = hold_ports(2)
    client, peer = (f"http://127.0.0.1:{port_of(holder)}" for holder in holders)
    flags = {
        "name": "oracle",
        "data-dir": str(directory / "data"),
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"oracle={peer}",
        "log-level": "error",
    }
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ETCD_")}
    command = ["etcd", *(f"--{name}={value}" for name, value in flags.items())]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment) as process:
        try:
            api = Api(client.removeprefix("http://"))
            ready = api.kv(rpc_pb2.RangeRequest(key=b"health"), timeout_s=30.0)
            assert not isinstance(ready, Failed), ready
            yield api.endpoint
            api.close()
        finally:
            process.kill()
    for holder in holders:
        holder.close()


@pytest.fixture(scope="package")
def etcd(etcd_endpoint: str) -> Iterator[Api]:
    api = Api(etcd_endpoint)
    yield api
    api.close()


@pytest.fixture
def beside(node: Api, etcd: Api) -> Beside:
    """Each node in its turn, beside etcd."""
    return Beside(node, etcd)


@pytest.fixture
def no_lease_stays(nodes: dict[str, Api], etcd: Api) -> Iterator[None]:
    """For tests that make leases on the servers that all tests share."""
    yield
    for api in (nodes["n1"], etcd):
        revoke_all(api)

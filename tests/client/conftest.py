"""A real etcd where one is installed, and a fake store for every test that wants one."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest
import pytest_asyncio

import raftkv
from raftkv.pb import store_pb2
from tests.client.fakes import FakeStore
from tests.server.process import servers_in
from tests.support import free_port


@pytest.fixture(scope="session")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real etcd of one node, the oracle for the API's semantics."""
    if shutil.which("etcd") is None:
        pytest.skip("etcd is not installed (Debian: etcd-server)")
    directory = tmp_path_factory.mktemp("etcd")
    client, peer = f"http://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}"
    flags = {
        "data-dir": str(directory / "data"),
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"default={peer}",
    }
    command = ["etcd", *(f"--{name}={value}" for name, value in flags.items())]
    with (directory / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            with raftkv.connect(client, timeout=20) as kv:
                kv.get("health")
            yield client
        finally:
            process.kill()


@pytest.fixture(scope="package")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a raftkv of one node."""
    with servers_in(tmp_path_factory.mktemp("node")) as servers:
        yield servers.start().ready().endpoint


@pytest.fixture(params=["raftkv", "etcd"])
def endpoint(request: pytest.FixtureRequest) -> str:
    """A raftkv of one node, and a real etcd."""
    address: str = request.getfixturevalue("node" if request.param == "raftkv" else "etcd")
    return address


@pytest.fixture
def kv(endpoint: str) -> Iterator[raftkv.Client]:
    """A client of it."""
    with raftkv.connect(endpoint) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="function")
async def new_store() -> AsyncIterator[Callable[..., Awaitable[FakeStore]]]:
    """Makes fake stores that are stopped when the test ends."""
    stores: list[FakeStore] = []

    async def make(
        *, port: int = 0, batching: bool = True, sessions: dict[tuple[int, int], store_pb2.Answer] | None = None
    ) -> FakeStore:
        stores.append(FakeStore(batching=batching, sessions=sessions))
        return await stores[-1].start(port)

    yield make
    for store in stores:
        await store.stop()


@pytest_asyncio.fixture(loop_scope="function")
async def store(new_store: Callable[..., Awaitable[FakeStore]]) -> FakeStore:
    """A fake store that knows Batch."""
    return await new_store()

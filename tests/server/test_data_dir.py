"""Data directories and ports that a node cannot use: one line that says why, nothing changed, nothing lost."""

from __future__ import annotations

import errno
import json
import os
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from raftkv.pb import rpc_pb2
from tests.server.grpc_api import Api
from tests.server.process import Servers, servers_in
from tests.support import copy_data_dir


def contents(directory: Path) -> dict[str, tuple[int, list[tuple[int, bytes]]]]:
    """Length and data, with its places, of every file but the lock's pid. What a file only reserves, of the state 256 MiB, is no data."""
    files = (path for path in directory.rglob("*") if path.is_file() and path.name not in ("LOCK", "lock.mdb"))
    return {str(path.relative_to(directory)): (path.stat().st_size, data_of(path)) for path in files}


def data_of(path: Path) -> list[tuple[int, bytes]]:
    found = []
    with path.open("rb") as file:
        end = 0
        while True:
            try:
                start = os.lseek(file.fileno(), end, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                return found  # There is no data behind `end`.
            end = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            found.append((start, os.pread(file.fileno(), end - start, start)))


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with servers_in(tmp_path_factory.mktemp("stopped")) as servers:
        serving = servers.start().ready()
        api = Api(serving.endpoint)
        api.put(b"k", b"v")
        api.close()
        assert serving.stop() == 0
        return serving.data_dir


@pytest.fixture
def used(stopped: Path, servers: Servers) -> Path:
    """The data directory of a stopped node that holds key k."""
    copy_data_dir(stopped, servers.directory / "data")
    return servers.directory / "data"


def assert_intact(servers: Servers, data_dir: Path) -> None:
    """Its rightful owner starts, and finds what was written."""
    serving = servers.start(data_dir=data_dir).ready()
    api = Api(serving.endpoint)
    assert api.get(b"k").kvs[0].value == b"v"
    api.close()


# --- ports ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flag", ["--listen-client-urls", "--listen-peer-urls"])
def test_a_port_in_use_is_refused_and_its_owner_unharmed(servers: Servers, used: Path, flag: str) -> None:
    client, peer = servers.ports(2)
    urls = ("--listen-client-urls", f"http://127.0.0.1:{client}", "--listen-peer-urls", f"http://127.0.0.1:{peer}")
    owner = servers.start(*urls, data_dir=servers.directory / "owner").ready()
    taken = urls[urls.index(flag) + 1]

    line = servers.start(flag, taken, data_dir=used).refusal()

    assert line == f"{flag}: cannot listen on {taken}: Address already in use"
    assert owner.is_alive
    assert_intact(servers, used)


@pytest.mark.parametrize("flag", ["--listen-client-urls", "--listen-peer-urls"])
def test_an_address_of_another_machine_is_refused(servers: Servers, flag: str) -> None:
    line = servers.start(flag, "http://192.0.2.1:2379").refusal()

    assert line == f"{flag}: cannot listen on http://192.0.2.1:2379: Cannot assign requested address"


def test_a_host_that_does_not_exist_is_refused(servers: Servers) -> None:
    line = servers.start("--listen-client-urls", "http://nowhere.invalid:2379").refusal()

    assert line.startswith("--listen-client-urls: cannot listen on http://nowhere.invalid:2379: ")


# --- whose directory it is --------------------------------------------------------------------------------------------


def test_a_data_dir_in_use_names_the_process_that_uses_it(servers: Servers) -> None:
    owner = servers.start().ready()

    line = servers.start(data_dir=owner.data_dir).refusal()

    assert line == f"{owner.data_dir} is in use by process {owner.process.pid}"
    assert owner.is_alive


def test_a_data_dir_of_another_cluster_is_refused(servers: Servers, used: Path) -> None:
    before = contents(used)

    line = servers.start("--initial-cluster-token", "another", data_dir=used).refusal()

    assert str(used) in line
    assert "belongs to cluster" in line
    assert contents(used) == before
    assert_intact(servers, used)


def test_a_data_dir_of_another_node_is_refused(servers: Servers) -> None:
    one, two = servers.ports(2)
    members = ("--initial-cluster", f"n1=http://127.0.0.1:{one},n2=http://127.0.0.1:{two}")

    def node(name: str, port: int) -> tuple[str, ...]:
        url = f"http://127.0.0.1:{port}"
        return ("--name", name, "--listen-peer-urls", url, "--initial-advertise-peer-urls", url, *members)

    owner = servers.start(*node("n1", one))
    owner.wait_for("ready to serve")
    assert owner.stop() == 0

    line = servers.start(*node("n2", two), data_dir=owner.data_dir).refusal()

    assert "belongs to member" in line
    assert "(n1), this node is member" in line
    assert line.endswith("(n2)")


def test_a_directory_of_somebody_elses_files_is_refused(servers: Servers) -> None:
    photos = servers.directory / "photos"
    photos.mkdir()
    (photos / "cat.jpg").write_bytes(b"meow")

    line = servers.start(data_dir=photos).refusal()

    assert line == f"{photos} is not empty (it holds cat.jpg) and has no raftkv.json: not ours to use"
    assert (photos / "cat.jpg").read_bytes() == b"meow"


# --- what is in it ----------------------------------------------------------------------------------------------------


def _newer_format(data_dir: Path) -> None:
    file = data_dir / "raftkv.json"
    fields = json.loads(file.read_bytes())
    fields.pop("checksum")
    fields["format"] = 2
    fields["checksum"] = f"{zlib.crc32(json.dumps(fields, sort_keys=True).encode()):08x}"
    file.write_text(json.dumps(fields))


def _edit(name: str, text: str) -> Callable[[Path], None]:
    return lambda data_dir: (data_dir / name).write_text(text) and None


def _in_its_place(name: str) -> Callable[[Path], None]:
    """A file where a directory should be, or a directory where a file should be."""

    def damage(data_dir: Path) -> None:
        path = data_dir / name
        if path.is_dir():
            shutil.rmtree(path)
            path.write_bytes(b"")
        else:
            path.unlink()
            path.mkdir()

    return damage


def _remove(name: str) -> Callable[[Path], None]:
    return lambda data_dir: shutil.rmtree(data_dir / name) if (data_dir / name).is_dir() else (data_dir / name).unlink()


DAMAGES: dict[str, tuple[Callable[[Path], None], tuple[str, ...]]] = {
    "newer format": (_newer_format, ("has data format 2", "reads up to 1")),
    "raftkv.json is empty": (_edit("raftkv.json", ""), ("raftkv.json is damaged",)),
    "raftkv.json is no object": (_edit("raftkv.json", "[1, 2]"), ("raftkv.json is damaged",)),
    "raftkv.json is binary": (_edit("raftkv.json", "\0\x7f\0"), ("raftkv.json is damaged",)),
    "raftkv.json was edited": (
        lambda data_dir: _edit("raftkv.json", (data_dir / "raftkv.json").read_text().replace("default", "other"))(
            data_dir
        ),
        ("raftkv.json is damaged", "checksum"),
    ),
    "raftkv.json is a directory": (_in_its_place("raftkv.json"), ("raftkv.json", "Is a directory")),
    "the lock is a directory": (_in_its_place("LOCK"), ("LOCK", "Is a directory")),
    "the log's directory is a file": (_in_its_place("wal"), ("wal", "Not a directory")),
    "the state's directory is a file": (_in_its_place("state"), ("state",)),
    "the state is a directory": (_in_its_place("state/data.mdb"), ("state/data.mdb",)),
    "the state is garbage": (_edit("state/data.mdb", "garbage" * 10_000), ("state/data.mdb",)),
    "the state is cut": (
        lambda data_dir: os.truncate(data_dir / "state/data.mdb", 8192),
        ("state/data.mdb", "8192"),
    ),
    "the log is gone": (_remove("wal"), ("has lost its wal directory",)),
    "the state is gone": (_remove("state"), ("has lost its state directory",)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_data_dir_that_cannot_be_trusted_is_refused_unchanged(servers: Servers, used: Path, damage: str) -> None:
    inflict, expected = DAMAGES[damage]
    inflict(used)
    before = contents(used)

    line = servers.start(data_dir=used).refusal()

    assert all(part in line for part in expected), line
    after = contents(used)
    # Opening counts the run in raftkv.json before it looks at log and state; what they hold is not touched.
    assert {name: data for name, data in after.items() if name != "raftkv.json"} == {
        name: data for name, data in before.items() if name != "raftkv.json"
    }


def test_a_file_in_place_of_the_data_dir_is_refused(servers: Servers) -> None:
    file = servers.directory / "file"
    file.write_bytes(b"mine")

    assert servers.start(data_dir=file).refusal() == f"{file} is not a directory"
    assert "Not a directory" in servers.start(data_dir=file / "below").refusal()
    assert file.read_bytes() == b"mine"


def test_a_data_dir_that_cannot_be_made_is_refused(servers: Servers) -> None:
    line = servers.start(data_dir=Path("/proc/raftkv")).refusal()

    assert "/proc/raftkv" in line


def test_a_node_whose_state_was_put_back_from_an_older_copy_says_so(servers: Servers, used: Path) -> None:
    """The log was compacted behind it: what is missing in between is gone for good."""
    copy = servers.directory / "copy"
    copy_data_dir(used / "state", copy)
    serving = servers.start("--snapshot-count", "1", data_dir=used).ready()
    api = Api(serving.endpoint)
    for number in range(300):
        api.put(b"k%d" % number, b"v")
    for _ in range(2):  # Hashing commits, and a commit lets the log go; the second answer comes after both.
        api.call("etcdserverpb.Maintenance", "HashKV", rpc_pb2.HashKVRequest())
    api.close()
    assert serving.stop() == 0
    shutil.rmtree(used / "state")
    copy_data_dir(copy, used / "state")

    line = servers.start(data_dir=used).refusal()

    assert "the state is older than the log" in line

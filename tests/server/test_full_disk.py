"""A disk that is full, at the start and while a node runs: a clear error, and nothing lost that was acknowledged.

A small memory file system stands for the disk. Only root may mount one; without it these tests are skipped. What needs no
file system of its own is tested with a limit on file sizes (`test_stopping.py`) and a fake disk (`tests/storage`).
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from raftkv.pb import rpc_pb2
from tests.server.grpc_api import Api, Failed
from tests.server.process import Servers

MEGABYTE = 1 << 20

MakeDisk = Callable[[int], Path]


@pytest.fixture
def make_disk(tmp_path: Path) -> Iterator[MakeDisk]:
    """Disks of so many bytes, gone at the end of the test."""
    with ExitStack() as stack:

        def make(size: int) -> Path:
            place = tmp_path / f"disk{size}"
            place.mkdir()
            options = ("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place))
            if os.geteuid() != 0 or subprocess.run(["mount", *options], capture_output=True).returncode != 0:
                pytest.skip("mounting a small file system is not permitted here")
            stack.callback(subprocess.run, ["umount", "--lazy", str(place)], check=True)
            return place

        yield make


@pytest.fixture
def servers_on_disks(make_disk: MakeDisk, servers: Servers) -> Servers:
    """As `servers`, which end before the disks go."""
    return servers


@pytest.mark.parametrize("size", [4096, 64 << 10, MEGABYTE, 8 * MEGABYTE])
def test_a_node_does_not_start_on_a_disk_too_small_for_its_log(
    make_disk: MakeDisk, servers_on_disks: Servers, size: int
) -> None:
    disk = make_disk(size)

    line = servers_on_disks.start(data_dir=disk / "data").refusal()

    assert str(disk) in line
    assert "disk is full" in line or "No space left on device" in line


def test_a_start_that_failed_for_want_of_space_can_be_repeated(make_disk: MakeDisk, servers_on_disks: Servers) -> None:
    disk = make_disk(64 * MEGABYTE)
    filler = disk / "filler"
    filler.write_bytes(bytes(60 * MEGABYTE))
    servers_on_disks.start(data_dir=disk / "data").refusal()

    filler.unlink()

    api = Api(servers_on_disks.start(data_dir=disk / "data").ready().endpoint)
    assert not isinstance(api.put(b"k", b"v"), Failed)
    api.close()


def test_a_disk_that_fills_up_stops_the_node_and_loses_nothing(make_disk: MakeDisk, servers_on_disks: Servers) -> None:
    disk = make_disk(60 * MEGABYTE)
    serving = servers_on_disks.start(data_dir=disk / "data").ready()
    api = Api(serving.endpoint)
    acknowledged: list[bytes] = []
    refusal = None
    for number in range(200):
        answer = api.put(b"k%03d" % number, b"v" * MEGABYTE, timeout_s=10.0)
        if isinstance(answer, Failed):
            refusal = answer
            break
        acknowledged.append(b"k%03d" % number)
    api.close()

    assert refusal is not None, "the disk never filled up"
    assert refusal.code == "UNAVAILABLE", refusal
    assert refusal.outcome == "unknown"
    line = serving.refusal()
    assert "No space left" in line or "disk is full" in line or "cannot commit" in line, line

    # On the same full disk it may start and stop again, or not start, but says so each time.
    again = servers_on_disks.start(data_dir=disk / "data").refusal()
    assert "No space left" in again or "disk is full" in again or "cannot commit" in again, again

    subprocess.run(["mount", "-o", f"remount,size={300 * MEGABYTE}", str(disk)], check=True)
    api = Api(servers_on_disks.start(data_dir=disk / "data").ready().endpoint)
    found = {kv.key for kv in api.kv(rpc_pb2.RangeRequest(key=b"k", range_end=b"l", keys_only=True)).kvs}
    assert set(acknowledged) <= found
    assert len(acknowledged) >= 10
    api.close()

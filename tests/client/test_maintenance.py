"""Alarms, defragmentation and snapshots through both faces, against a real node and a real etcd."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest

import raftkv
from raftkv.client.snapshot_file import SnapshotFile, written_whole
from raftkv.lab.cluster import LocalCluster
from raftkv.pb import rpc_pb2
from raftkv.statemachine.restoring import snapshot_status
from tests.server.grpc_api import Api
from tests.support import free_port


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with LocalCluster.temporary(nodes=1, proxy=False) as cluster:
        cluster.start()
        cluster.wait_for_leader()
        yield cluster.endpoint("n1")


@pytest.fixture
def alarmed(endpoint: str) -> Iterator[str]:
    """Two alarms are on, raised by hand."""
    api = Api(endpoint)
    for member, kind in ((5, rpc_pb2.NOSPACE), (6, rpc_pb2.CORRUPT)):
        request = rpc_pb2.AlarmRequest(action=rpc_pb2.AlarmRequest.ACTIVATE, memberID=member, alarm=kind)
        api.call("etcdserverpb.Maintenance", "Alarm", request)
    yield endpoint
    with raftkv.connect(endpoint) as kv:
        kv.maintenance.disarm()
    api.close()


NOSPACE = raftkv.Alarm(member=5, kind="NOSPACE")
CORRUPT = raftkv.Alarm(member=6, kind="CORRUPT")


def test_alarms_are_listed_and_ended_one_by_one_or_all(alarmed: str) -> None:
    with raftkv.connect(alarmed) as kv:
        assert set(kv.maintenance.alarms()) == {NOSPACE, CORRUPT}
        with pytest.raises(raftkv.DataLoss, match="corrupt cluster") as caught:
            kv.put("k", "v")
        assert caught.value.outcome is raftkv.Outcome.NOT_APPLIED

        assert kv.maintenance.disarm(CORRUPT) == (CORRUPT,)
        assert kv.maintenance.disarm(CORRUPT) == ()
        with pytest.raises(raftkv.ResourceExhausted, match="database space exceeded"):
            kv.put("k", "v")

        assert kv.maintenance.disarm() == (NOSPACE,)
        assert kv.put("k", "v").revision > 1


async def test_the_async_face_does_the_same(alarmed: str, tmp_path: Path) -> None:
    async with raftkv.aio.connect(alarmed) as kv:
        assert set(await kv.maintenance.alarms()) == {NOSPACE, CORRUPT}
        assert set(await kv.maintenance.disarm()) == {NOSPACE, CORRUPT}
        assert await kv.maintenance.alarms() == ()
        await kv.maintenance.defragment(alarmed)
        await kv.put("saved", "here")
        size = await kv.snapshot(tmp_path / "saved.db")
        assert snapshot_status(tmp_path / "saved.db").summary.revision == (await kv.status()).revision
    assert size == (tmp_path / "saved.db").stat().st_size


def test_a_snapshot_goes_to_a_path_or_to_an_open_file(endpoint: str, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with raftkv.connect(endpoint) as kv:
        kv.put("saved", "here")
        kv.maintenance.defragment(endpoint)
        size = kv.snapshot(tmp_path / "saved.db", endpoint=endpoint)
        assert kv.snapshot(buffer) == size

    assert buffer.getvalue() == (tmp_path / "saved.db").read_bytes()
    assert [file.name for file in tmp_path.iterdir()] == ["saved.db"]


def test_a_snapshot_that_cannot_be_had_leaves_no_file(endpoint: str, tmp_path: Path) -> None:
    with raftkv.connect(f"127.0.0.1:{free_port()}") as kv, pytest.raises(raftkv.Unavailable, match="cannot connect"):
        kv.snapshot(tmp_path / "saved.db", timeout=1)
    with raftkv.connect(endpoint) as kv, pytest.raises(FileNotFoundError):
        kv.snapshot(tmp_path / "nowhere" / "saved.db")

    assert not list(tmp_path.iterdir())


def test_a_file_that_is_not_whole_does_not_take_its_name(tmp_path: Path) -> None:
    def save(blob: bytes) -> None:
        with written_whole(tmp_path / "saved.db") as file:
            whole = SnapshotFile(file)
            whole.write(blob)
            whole.finish()

    for blob in (b"", b"x" * 100, bytes(512 + 32)):
        with pytest.raises(raftkv.DataLoss):
            save(blob)
        assert not list(tmp_path.iterdir())

"""From a running cluster to a snapshot, and from there to a new cluster; and every file and place that is refused."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from raftkv.config import ServerConfig
from raftkv.errors import ConfigError, CorruptionError, DataDirError, RaftkvError, SessionExpired, StorageError
from raftkv.lab.cluster import LocalCluster
from raftkv.pb import rpc_pb2, store_pb2
from raftkv.server.restoring import restore
from raftkv.statemachine import StateMachine
from raftkv.statemachine.export import export_chunks, read_export
from raftkv.statemachine.restoring import snapshot_status
from raftkv.storage import DataDir
from tests.server.grpc_api import Api
from tests.server.process import wait_until
from tests.server.test_etcdctl import etcdctl
from tests.statemachine.support import BOOTSTRAP, apply, open_machine, put

MAINTENANCE = "etcdserverpb.Maintenance"
LEASE = 77


def raftkv(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "raftkv", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


# --- a cluster, its snapshot, another cluster -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(cluster: LocalCluster, nodes: dict[str, Api], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A snapshot with history and a deleted key in it, saved by raftkv."""
    api = nodes["n2"]
    for number in range(300):
        api.put(b"restored/%03d" % number, b"v" * 1000)
    api.put(b"restored/000", b"again")
    api.kv(rpc_pb2.DeleteRangeRequest(key=b"restored/299"))
    for other in nodes.values():
        other.get(b"restored/000")  # Linearizable: applied.
    path = tmp_path_factory.mktemp("saved") / "backup.db"
    done = raftkv("--endpoints", api.endpoint, "snapshot", "save", str(path))
    assert (done.returncode, done.stdout) == (0, f"Snapshot saved at {path}\n"), done
    assert [file.name for file in path.parent.iterdir()] == ["backup.db"]
    return path


def test_a_new_cluster_of_three_restored_from_one_file_serves_all_of_it(saved: Path, nodes: dict[str, Api]) -> None:
    wanted = nodes["n2"].kv(rpc_pb2.RangeRequest(key=b"\0", range_end=b"\0"))
    with LocalCluster.temporary(nodes=3, proxy=False) as cluster:
        members = ",".join(f"{name}={cluster.peer_url(name)}" for name in cluster.names)
        for name in cluster.names:
            done = raftkv(
                *("snapshot", "restore", str(saved), "--name", name, "--data-dir", str(cluster.data_path(name))),
                *("--initial-cluster", members, "--initial-cluster-token", cluster.state.token),
                *("--initial-advertise-peer-urls", cluster.peer_url(name)),
            )
            assert done.returncode == 0, done
        cluster.start()
        cluster.wait_for_leader()
        apis = [Api(endpoint) for endpoint in cluster.endpoints.values()]
        try:
            for api in apis:
                found = api.kv(rpc_pb2.RangeRequest(key=b"\0", range_end=b"\0"))
                assert found.kvs == wanted.kvs
                assert found.header.revision == wanted.header.revision
                assert found.header.cluster_id != wanted.header.cluster_id
                older = api.kv(rpc_pb2.RangeRequest(key=b"restored/000", revision=wanted.header.revision - 1))
                assert older.kvs[0].value == b"again"
            hashes = [api.call(MAINTENANCE, "HashKV", rpc_pb2.HashKVRequest()) for api in apis]
            assert len({(one.hash, one.hash_revision) for one in hashes}) == 1
            assert hashes[0].hash == nodes["n2"].call(MAINTENANCE, "HashKV", rpc_pb2.HashKVRequest()).hash

            written = apis[0].put(b"new", b"life")
            assert written.header.revision == wanted.header.revision + 1
            assert apis[2].get(b"new").kvs[0].value == b"life"
            listed = apis[1].call("etcdserverpb.Cluster", "MemberList", rpc_pb2.MemberListRequest()).members
            assert sorted(member.name for member in listed) == cluster.names
        finally:
            for api in apis:
                api.close()
        name = cluster.names[0]
        cluster.kill(name)
        cluster.start()  # From its own log now.
        cluster.wait_ready()
        again = Api(cluster.endpoint(name))
        wait_until(lambda: again.get(b"new").kvs[0].value == b"life")
        again.close()


def test_status_tells_the_revision_and_the_hash_that_the_node_tells(saved: Path, nodes: dict[str, Api]) -> None:
    of_node = nodes["n2"].call(MAINTENANCE, "HashKV", rpc_pb2.HashKVRequest())

    done = raftkv("snapshot", "status", str(saved), "-w", "json")

    status = snapshot_status(saved)
    assert (status.summary.hash, status.summary.revision) == (of_node.hash, of_node.hash_revision)
    assert done.stdout == (
        f'{{"hash":{of_node.hash},"revision":{of_node.hash_revision},"totalKey":{status.summary.records},'
        f'"totalSize":{saved.stat().st_size - 32}}}\n'
    )


@pytest.mark.skipif(shutil.which("etcdctl") is None, reason="etcdctl is not installed (Debian: etcd-client)")
def test_what_etcdctl_saves_is_what_we_save(nodes: dict[str, Api], tmp_path: Path) -> None:
    path = tmp_path / "by-etcdctl.db"

    printed = etcdctl(nodes["n1"].endpoint, "snapshot", "save", str(path))

    assert (printed.code, printed.out) == (0, f"Snapshot saved at {path}\n")
    assert path.stat().st_size % 512 == 32
    assert snapshot_status(path).summary.revision == nodes["n1"].get(b"-").header.revision


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved snapshot, made without a cluster."""
    directory = tmp_path_factory.mktemp("small")
    machine = open_machine(directory / "state")
    apply(machine, *(put(b"k%d" % number, b"v" * 100) for number in range(200)))
    alarm = rpc_pb2.AlarmRequest(action=rpc_pb2.AlarmRequest.ACTIVATE, memberID=1, alarm=rpc_pb2.NOSPACE)
    (_, opened, _) = apply(
        machine,
        store_pb2.Command(lease_grant=rpc_pb2.LeaseGrantRequest(ID=LEASE, TTL=3600)),
        store_pb2.Command(open_session=store_pb2.OpenSessionRequest()),
        store_pb2.Command(alarm=store_pb2.AlarmChange(request=alarm)),
    )
    in_session = put(b"leased", b"v", lease=LEASE)
    in_session.session, in_session.sequence = opened.session, 1
    apply(machine, in_session)
    machine.snapshot_to(directory / "sealed")
    machine.close()
    path = directory / "small.db"
    with (directory / "sealed").open("rb") as sealed:
        path.write_bytes(b"".join(export_chunks(sealed, (directory / "sealed").stat().st_size)))
    return path


def config(data_dir: Path, token: str = "another") -> ServerConfig:
    return ServerConfig(name="n1", data_dir=data_dir, initial_cluster_token=token)


def refused(path: Path, tmp_path: Path, *, skip_hash_check: bool = False) -> RaftkvError:
    """How a restore fails; it leaves nothing behind."""
    target = tmp_path / "target"
    with pytest.raises(RaftkvError) as caught:
        restore(path, config(target / "data"), skip_hash_check=skip_hash_check)
    assert not list(target.iterdir())
    return caught.value


def test_a_restored_directory_belongs_to_the_new_member_and_has_the_old_data(small: Path, tmp_path: Path) -> None:
    wanted = config(tmp_path / "data")

    identity = restore(small, wanted)

    assert (identity.cluster_id, identity.member_id) == (wanted.cluster_id, wanted.member_id)
    assert DataDir.identity_in(wanted.data_dir) == identity
    machine = StateMachine.open(wanted.data_dir / "state")
    assert machine.cluster_id == wanted.cluster_id
    assert machine.members == wanted.initial_members()
    assert machine.membership == wanted.initial_membership()
    assert machine.applied_index == 3
    assert machine.revision == 202
    assert not machine.is_applied(1, 1, 1), "what the old members proposed means nothing here"
    assert machine.alarms == ()
    lease = machine.leases.time_to_live(rpc_pb2.LeaseTimeToLiveRequest(ID=LEASE, keys=True))
    assert (lease.grantedTTL, list(lease.keys)) == (3600, [b"leased"])
    assert not list((wanted.data_dir / "state").glob("incoming*"))
    machine.close()


def test_a_session_of_the_old_cluster_is_unknown_in_the_new_one(small: Path, tmp_path: Path) -> None:
    first = open_machine(tmp_path / "first")  # Its first session has the id of the first one in the snapshot's cluster.
    (opened,) = apply(first, store_pb2.Command(open_session=store_pb2.OpenSessionRequest()))
    first.close()
    restore(small, config(tmp_path / "data"))
    machine = StateMachine.open(tmp_path / "data" / "state")
    again = put(b"leased", b"v")
    again.session, again.sequence = opened.session, 1

    (answer,) = apply(machine, again)

    assert isinstance(answer, SessionExpired)
    machine.close()


def test_a_truncated_snapshot_is_refused_wherever_it_ends(small: Path, tmp_path: Path) -> None:
    data = small.read_bytes()
    for size in (0, 10, 4096, len(data) // 2, len(data) - 512, len(data) - 32, len(data) - 1):
        path = tmp_path / "truncated.db"
        path.write_bytes(data[:size])
        for skip_hash_check in (False, True) if size <= len(data) // 2 else (False,):  # The data themselves are cut.
            assert isinstance(refused(path, tmp_path, skip_hash_check=skip_hash_check), StorageError), size
        with pytest.raises(CorruptionError):
            snapshot_status(path)


def test_an_altered_snapshot_is_refused_wherever_it_was_altered(small: Path, tmp_path: Path) -> None:
    data = small.read_bytes()
    for at in (0, 20, 5000, len(data) // 2, len(data) - 560, len(data) - 40, len(data) - 1):
        path = tmp_path / "altered.db"
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        assert isinstance(refused(path, tmp_path), CorruptionError), at


def test_a_snapshot_of_etcd_is_recognized(small: Path, tmp_path: Path, etcd: Api) -> None:
    path = tmp_path / "etcd.db"
    assert raftkv("--endpoints", etcd.endpoint, "snapshot", "save", str(path)).returncode == 0, (
        "its digest is like ours"
    )

    error = refused(path, tmp_path)

    assert "etcd" in str(error)
    done = raftkv("snapshot", "status", str(path))
    assert (done.returncode, done.stdout) == (1, "")
    assert "is a snapshot of etcd" in done.stderr


def test_any_other_file_is_refused(tmp_path: Path) -> None:
    for content in (b"", b"hello" * 1000, os.urandom(512) + bytes(32)):
        path = tmp_path / "any"
        path.write_bytes(content)
        assert "no snapshot of raftkv" in str(refused(path, tmp_path)), content[:20]
    sealed_nothing = b"hello" * 1024
    path.write_bytes(sealed_nothing + hashlib.sha256(sealed_nothing).digest())
    assert "no snapshot of raftkv" in str(refused(path, tmp_path))


def test_a_data_file_is_restored_where_the_digest_is_done_without(small: Path, tmp_path: Path) -> None:
    machine = open_machine(tmp_path / "state")
    apply(machine, put(b"k"))
    machine.close()
    data = tmp_path / "state" / "data.mdb"

    assert "snapshot missing hash" in str(refused(data, tmp_path)) or "digest" in str(refused(data, tmp_path))
    restore(data, config(tmp_path / "data"), skip_hash_check=True)

    machine = StateMachine.open(tmp_path / "data" / "state")
    assert machine.revision == 2
    machine.close()


def test_a_data_directory_that_exists_is_left_alone(small: Path, tmp_path: Path) -> None:
    (tmp_path / "used").mkdir()

    with pytest.raises(DataDirError, match=r'data-dir ".*used" exists'):
        restore(small, config(tmp_path / "used"))

    assert not list((tmp_path / "used").iterdir())


def test_a_new_cluster_must_not_have_the_id_of_the_old_one(tmp_path: Path) -> None:
    ours = config(tmp_path / "data")
    machine = StateMachine.open(
        tmp_path / "state",
        create=type(BOOTSTRAP)(
            cluster_id=ours.cluster_id, members=ours.initial_members(), membership=ours.initial_membership()
        ),
    )
    apply(machine, put(b"k"))
    machine.close()

    with pytest.raises(ConfigError, match="give another token"):
        restore(tmp_path / "state" / "data.mdb", ours, skip_hash_check=True)

    restore(tmp_path / "state" / "data.mdb", config(tmp_path / "data", token="yet another"), skip_hash_check=True)


def test_a_restore_that_was_killed_leaves_no_data_directory(small: Path, tmp_path: Path) -> None:
    """Killed when the state is in its place but for its name: the last moment at which it may be."""
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from raftkv.config import ServerConfig\n"
        "from raftkv.server.restoring import restore\n"
        "Path.rename = lambda self, target: os._exit(9)\n"
        "restore(Path(sys.argv[1]), ServerConfig(name='n1', data_dir=Path(sys.argv[2]), initial_cluster_token='t'))\n"
    )

    done = subprocess.run([sys.executable, "-c", script, str(small), str(tmp_path / "data")], check=False)

    assert done.returncode == 9
    assert [path.name.startswith(".data.restoring-") for path in tmp_path.iterdir()] == [True]
    restore(small, config(tmp_path / "data"))


def test_an_export_is_found_again_in_its_file(small: Path) -> None:
    export = read_export(small)

    assert export.is_sealed
    assert small.stat().st_size % 512 == 32
    assert export.data_bytes <= small.stat().st_size - 32 - 16


def test_a_data_directory_that_no_node_uses_is_defragmented(small: Path, tmp_path: Path) -> None:
    where = config(tmp_path / "data")
    restore(small, where)
    machine = StateMachine.open(where.data_dir / "state")
    before = machine.hash_kv()
    machine.close()

    assert raftkv("defrag", "--data-dir", str(where.data_dir)).returncode == 0

    held = DataDir.open(where.data_dir, create=None)
    in_use = raftkv("defrag", "--data-dir", str(where.data_dir))
    held.close()
    assert (in_use.returncode, "is in use by process" in in_use.stderr) == (1, True)
    assert raftkv("defrag", "--data-dir", str(tmp_path / "nowhere")).returncode == 1
    assert not (tmp_path / "nowhere").exists()
    machine = StateMachine.open(where.data_dir / "state")
    assert machine.hash_kv() == before
    machine.close()

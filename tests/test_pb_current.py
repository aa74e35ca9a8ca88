"""raftkv/pb is what protoc makes of proto/, and proto/ has every RPC of etcd 3.4."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.message import Message

from raftkv.pb import rpc_pb2, store_pb2
from raftkv.pb.services import methods

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "proto" / "raftkv" / "pb").glob("*.proto"))

# service -> RPCs; ">" the client streams, "<" the server streams. As listed by `api/etcdserverpb/rpc.proto`,
# `v3lock.proto` and `v3election.proto` of etcd 3.4.
ETCD_3_4 = {
    "etcdserverpb.KV": "Range Put DeleteRange Txn Compact",
    "etcdserverpb.Watch": "><Watch",
    "etcdserverpb.Lease": "LeaseGrant LeaseRevoke ><LeaseKeepAlive LeaseTimeToLive LeaseLeases",
    "etcdserverpb.Cluster": "MemberAdd MemberRemove MemberUpdate MemberList MemberPromote",
    "etcdserverpb.Maintenance": "Alarm Status Defragment Hash HashKV <Snapshot MoveLeader",
    "etcdserverpb.Auth": (
        "AuthEnable AuthDisable Authenticate UserAdd UserGet UserList UserDelete UserChangePassword UserGrantRole "
        "UserRevokeRole RoleAdd RoleGet RoleList RoleDelete RoleGrantPermission RoleRevokePermission"
    ),
    "v3lockpb.Lock": "Lock Unlock",
    "v3electionpb.Election": "Campaign Proclaim Leader <Observe Resign",
}


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with code generated afresh, by the command of `make proto`."""
    pytest.importorskip("grpc_tools")
    out = tmp_path_factory.mktemp("generated")
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I", str(ROOT / "proto")]
    command += [f"--python_out={out}", f"--pyi_out={out}", *map(str, SOURCES)]
    subprocess.run(command, check=True)
    return out


@pytest.mark.parametrize("source", [source.stem for source in SOURCES])
@pytest.mark.parametrize("suffix", ["_pb2.py", "_pb2.pyi"])
def test_generated_code_is_current(generated: Path, source: str, suffix: str) -> None:
    path = Path("raftkv") / "pb" / f"{source}{suffix}"

    assert (ROOT / path).read_text() == (generated / path).read_text(), f"{path} is stale: run `make proto`"


def test_there_is_no_generated_code_without_its_source() -> None:
    stems = {path.name.removesuffix("_pb2.py") for path in (ROOT / "raftkv" / "pb").glob("*_pb2.py")}

    assert stems == {source.stem for source in SOURCES}


@pytest.mark.parametrize(
    ("service", "rpc"), [(service, rpc) for service, rpcs in ETCD_3_4.items() for rpc in rpcs.split()]
)
def test_every_rpc_of_etcd_is_there_under_its_literal_path(service: str, rpc: str) -> None:
    name = rpc.lstrip("<>")

    method = methods()[service][name]

    assert method.path == f"/{service}/{name}"
    assert (method.client_streaming, method.server_streaming) == (">" in rpc, "<" in rpc)


def test_our_own_services_keep_their_names() -> None:
    batches = methods()["raftkv.store.Store"]["Batches"]

    assert (batches.path, batches.request_type, batches.response_type) == (
        "/raftkv.store.Store/Batches",
        store_pb2.NumberedRequest,
        store_pb2.NumberedResponse,
    )
    assert batches.client_streaming
    assert batches.server_streaming
    assert methods()["raftkv.peer.Peer"]["Stream"].client_streaming


def test_the_message_classes_are_the_generated_ones() -> None:
    assert methods()["etcdserverpb.KV"]["Range"].request_type is rpc_pb2.RangeRequest
    for service in methods().values():
        for method in service.values():
            assert issubclass(method.request_type, Message)
            assert issubclass(method.response_type, Message)

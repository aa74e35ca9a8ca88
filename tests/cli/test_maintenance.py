"""`raftkv snapshot`, `alarm` and `defrag` beside etcdctl, on real etcd: equal stdout, exit codes and words."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest

from raftkv.cli.printers import SavedSnapshot, Style, render
from raftkv.pb import rpc_pb2
from tests.cli.conftest import Command, Etcd, etcdctl

FORMATS = ("simple", "json", "table", "fields")


def raise_alarms(server: Etcd, *alarms: tuple[int, rpc_pb2.AlarmType]) -> None:
    with grpc.insecure_channel(server.endpoint) as channel:
        call = channel.unary_unary(
            "/etcdserverpb.Maintenance/Alarm",
            request_serializer=rpc_pb2.AlarmRequest.SerializeToString,
            response_deserializer=rpc_pb2.AlarmResponse.FromString,
        )
        for member, kind in alarms:
            call(rpc_pb2.AlarmRequest(action=rpc_pb2.AlarmRequest.ACTIVATE, memberID=member, alarm=kind), timeout=10)


def test_alarms_and_defragmentations_print_the_same(etcd: Etcd, raftkv: Command) -> None:
    script = (
        ["alarm", "list"],
        ["alarm", "list", "-w", "json"],
        ["alarm", "list", "-w", "table"],
        ["alarm", "list", "-w", "protobuf"],
        ["alarm", "list", "x"],
        ["alarm", "disarm", "x"],
        ["alarm", "disarm"],
        ["alarm", "disarm"],
        ["alarm", "disarm", "-w", "json"],
        ["alarm", "list", "-w", "json"],
        ["defrag"],
        ["defrag", "x"],
        ["defrag", "--cluster"],
        ["defrag", "-w", "json"],
    )
    outcomes = []
    for call in (etcdctl, raftkv):
        raise_alarms(etcd, (5, rpc_pb2.NOSPACE))  # Of several, etcd tells in any order.
        outcomes.append([call("--endpoints", etcd.endpoint, *words) for words in script])
    for words, theirs, ours in zip(script, *outcomes, strict=True):
        assert ours == theirs, words


def test_every_kind_of_alarm_is_listed_as_by_etcdctl(etcd: Etcd, raftkv: Command) -> None:
    raise_alarms(etcd, (5, rpc_pb2.NOSPACE), (6, rpc_pb2.CORRUPT), (8, rpc_pb2.NONE))

    theirs, ours = (call("--endpoints", etcd.endpoint, "alarm", "list") for call in (etcdctl, raftkv))

    assert sorted(ours.out.splitlines()) == sorted(theirs.out.splitlines())
    assert len(raftkv("--endpoints", etcd.endpoint, "alarm", "disarm").out.splitlines()) == 3


def test_what_cannot_be_defragmented_is_told_of_and_the_others_are(
    etcd: Etcd, dead_endpoint: str, raftkv: Command
) -> None:
    flags = ["--endpoints", f"{dead_endpoint},{etcd.endpoint}", "--command-timeout=1s", "--dial-timeout=500ms"]

    theirs, ours = etcdctl(*flags, "defrag"), raftkv(*flags, "defrag")

    assert (ours.code, ours.out) == (theirs.code, theirs.out) == (1, theirs.out)
    assert f"Failed to defragment etcd member[{dead_endpoint}] (".encode() in ours.err


def test_snapshots_are_refused_in_the_same_words(etcd: Etcd, raftkv: Command, tmp_path: Path) -> None:
    saved, used = str(tmp_path / "saved.db"), str(tmp_path / "used")
    Path(used).mkdir()
    assert raftkv("--endpoints", etcd.endpoint, "snapshot", "save", saved).code == 0
    for words in (
        ["snapshot", "save"],
        ["snapshot", "save", "a", "b"],
        ["snapshot", "save", str(tmp_path / "none" / "x")],
        ["snapshot", "status"],
        ["snapshot", "status", str(tmp_path / "none")],
        ["snapshot", "restore"],
        ["snapshot", "restore", str(tmp_path / "none"), "--data-dir", str(tmp_path / "new")],
    ):
        theirs = etcdctl("--endpoints", etcd.endpoint, *words)
        ours = raftkv("--endpoints", etcd.endpoint, *words)
        assert (ours.code, ours.out) == (theirs.code, theirs.out), words
        assert ours.err.splitlines()[-1] == theirs.err.splitlines()[-1], words
    several = ["--endpoints", f"{etcd.endpoint},127.0.0.1:1", "snapshot", "save", saved]
    assert raftkv(*several) == etcdctl(*several)
    restore = ["snapshot", "restore", saved, "--data-dir", used]
    assert raftkv(*restore).err == etcdctl(*restore).err, "the place is looked at before the file"


def test_a_snapshot_of_etcd_that_we_save_is_one_that_etcdctl_takes(etcd: Etcd, raftkv: Command, tmp_path: Path) -> None:
    path = str(tmp_path / "saved.db")

    ours = raftkv("--endpoints", etcd.endpoint, "snapshot", "save", path)

    assert (ours.code, ours.out) == (0, f"Snapshot saved at {path}\n".encode())
    assert etcdctl("snapshot", "restore", path, "--data-dir", str(tmp_path / "restored")).code == 0


@pytest.mark.parametrize("write_out", FORMATS)
def test_the_status_of_a_snapshot_is_printed_as_by_etcdctl(
    etcd: Etcd, raftkv: Command, tmp_path: Path, write_out: str
) -> None:
    """Of etcd's file, with the numbers that etcdctl found: ours cannot be read by it, nor its by us."""
    path = str(tmp_path / "saved.db")
    assert raftkv("--endpoints", etcd.endpoint, "snapshot", "save", path).code == 0
    numbers = [
        int(line.split(b" : ")[1]) for line in etcdctl("snapshot", "status", path, "-w", "fields").out.splitlines()
    ]
    saved = SavedSnapshot(hash=numbers[0], revision=numbers[1], keys=numbers[2], size=numbers[3])

    printed = render(write_out, "snapshot_status", Style())(saved)

    assert printed == etcdctl("snapshot", "status", path, "-w", write_out).out

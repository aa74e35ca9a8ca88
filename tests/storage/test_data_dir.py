"""data_dir: one process, one member, one format; creation is all or nothing."""

from __future__ import annotations

import errno
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from raftkv.errors import DataDirError
from raftkv.raft.types import HardState
from raftkv.storage import DataDir, Identity, Wal, WalOptions
from tests.storage.faulty_files import Crash, FaultyFiles
from tests.storage.helpers import entry, save

ME = Identity(cluster_id=0xC0FFEE, member_id=0xBEEF, name="n1")
NODE = Path("/var/n1.raftkv")
SMALL = WalOptions(segment_bytes=512)


def new_disk() -> FaultyFiles:
    files = FaultyFiles()
    files.mkdir(NODE.parent)
    return files


def edit(path: Path, **fields: Any) -> None:
    file = path / "raftkv.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def one_line(caught: pytest.ExceptionInfo[DataDirError]) -> str:
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_new_directory_is_made_with_everything_in_it(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "n1.raftkv"

    data = DataDir.open(path, create=ME)

    assert data.identity == ME
    assert data.incarnation == 1
    assert sorted(os.listdir(path)) == ["LOCK", "raftkv.json", "state", "wal"]
    assert data.wal_path == path / "wal"
    assert data.state_path == path / "state"
    assert path.stat().st_mode & 0o077 == 0
    wal, recovered = Wal.open(data.wal_path)
    assert recovered.entries == []
    wal.close()
    data.close()
    data.close()


def test_every_opening_is_another_incarnation(tmp_path: Path) -> None:
    for expected in range(1, 5):
        data = DataDir.open(tmp_path, create=ME)
        assert data.incarnation == expected
        data.close()


def test_it_can_be_opened_by_whoever_does_not_know_whose_it_is(tmp_path: Path) -> None:
    DataDir.open(tmp_path, create=ME).close()

    data = DataDir.open(tmp_path, create=None)

    assert data.identity == ME
    data.close()


def test_whose_data_it_is_can_be_asked_without_opening_it(tmp_path: Path) -> None:
    path = tmp_path / "n1"
    assert DataDir.identity_in(path) is None
    path.mkdir()
    assert DataDir.identity_in(path) is None
    data = DataDir.open(path, create=ME)

    assert DataDir.identity_in(path) == ME

    data.close()
    assert DataDir.open(path, create=ME).incarnation == 2, "asking is no opening"


def test_a_directory_in_use_is_refused_and_names_the_process(tmp_path: Path) -> None:
    data = DataDir.open(tmp_path, create=ME)

    with pytest.raises(DataDirError) as caught:
        DataDir.open(tmp_path, create=ME)
    assert one_line(caught) == f"{tmp_path} is in use by process {os.getpid()}"

    data.close()
    DataDir.open(tmp_path, create=ME).close()


def test_a_directory_in_use_by_another_process_is_refused_until_that_dies(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from raftkv.storage import DataDir, Identity\n"
        f"data = DataDir.open(Path({str(tmp_path)!r}), create=Identity({ME.cluster_id}, {ME.member_id}, 'n1'))\n"
        "print('open', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"open\n"
        with pytest.raises(DataDirError, match=f"is in use by process {holder.pid}$"):
            DataDir.open(tmp_path, create=ME)
        holder.kill()
        holder.wait()

    data = DataDir.open(tmp_path, create=ME)
    assert data.incarnation == 2
    data.close()


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (Identity(0xC0FFEE, 0xFACE, "n2"), "belongs to member beef (n1), this node is member face (n2)"),
        (Identity(0xDECAF, 0xBEEF, "n1"), "belongs to cluster c0ffee, this node is of cluster decaf"),
    ],
)
def test_a_directory_of_somebody_else_is_refused_and_not_touched(tmp_path: Path, other: Identity, says: str) -> None:
    DataDir.open(tmp_path, create=ME).close()
    before = (tmp_path / "raftkv.json").read_bytes()

    with pytest.raises(DataDirError) as caught:
        DataDir.open(tmp_path, create=other)

    assert one_line(caught) == f"{tmp_path} {says}"
    assert (tmp_path / "raftkv.json").read_bytes() == before
    DataDir.open(tmp_path, create=ME).close()  # And it is not locked.


def test_another_name_for_the_same_member_is_no_difference(tmp_path: Path) -> None:
    DataDir.open(tmp_path, create=ME).close()

    data = DataDir.open(tmp_path, create=Identity(ME.cluster_id, ME.member_id, "renamed"))

    assert data.identity.name == "n1"
    data.close()


def test_a_newer_format_says_so(tmp_path: Path) -> None:
    DataDir.open(tmp_path, create=ME).close()
    edit(tmp_path, format=2, shards=7)

    with pytest.raises(DataDirError) as caught:
        DataDir.open(tmp_path, create=ME)

    assert one_line(caught) == f"{tmp_path} has data format 2; this version of raftkv reads up to 1"


@pytest.mark.parametrize("field", ["cluster_id", "member_id", "name", "incarnation", "complete"])
def test_an_edited_description_is_damaged(tmp_path: Path, field: str) -> None:
    DataDir.open(tmp_path, create=ME).close()
    edit(tmp_path, **{field: "1"})

    with pytest.raises(DataDirError, match=r"raftkv\.json is damaged: the checksum does not match"):
        DataDir.open(tmp_path, create=ME)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", "3", '{"format": 1}', '{"format": "x"}', "\0" * 40, "[" * 9000]
)
def test_a_description_of_garbage_is_damaged(tmp_path: Path, content: str) -> None:
    DataDir.open(tmp_path, create=ME).close()
    (tmp_path / "raftkv.json").write_text(content)

    with pytest.raises(DataDirError, match=r"raftkv\.json is damaged"):
        DataDir.open(tmp_path, create=ME)


def test_every_flipped_bit_in_the_description_is_noticed(tmp_path: Path) -> None:
    DataDir.open(tmp_path, create=ME).close()
    file = tmp_path / "raftkv.json"
    whole = file.read_bytes()
    for offset in range(len(whole)):
        file.write_bytes(whole[:offset] + bytes([whole[offset] ^ 1]) + whole[offset + 1 :])
        if not whole[offset : offset + 1].isspace():
            with pytest.raises(DataDirError):
                DataDir.open(tmp_path, create=ME)


def test_a_directory_with_strangers_in_it_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")

    with pytest.raises(DataDirError, match=r"is not empty \(it holds thesis.tex\)"):
        DataDir.open(tmp_path, create=ME)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_fresh_file_system_is_taken(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()

    DataDir.open(tmp_path, create=ME).close()


def test_a_directory_that_lost_its_description_is_not_made_anew(tmp_path: Path) -> None:
    """A member that forgot its votes must not vote again."""
    DataDir.open(tmp_path, create=ME).close()
    (tmp_path / "raftkv.json").unlink()

    with pytest.raises(DataDirError, match=r"has no raftkv\.json"):
        DataDir.open(tmp_path, create=ME)


def test_a_directory_that_lost_its_log_is_refused(tmp_path: Path) -> None:
    DataDir.open(tmp_path, create=ME).close()
    for file in (tmp_path / "wal").iterdir():
        file.unlink()

    with pytest.raises(DataDirError, match="has lost its log"):
        DataDir.open(tmp_path, create=ME)
    (tmp_path / "wal").rmdir()
    with pytest.raises(DataDirError, match="has lost its wal directory"):
        DataDir.open(tmp_path, create=ME)


def test_without_an_identity_nothing_is_created(tmp_path: Path) -> None:
    with pytest.raises(DataDirError, match=r"it has no raftkv\.json"):
        DataDir.open(tmp_path, create=None)
    with pytest.raises(DataDirError, match="No such file or directory"):
        DataDir.open(tmp_path / "missing", create=None)
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_place_of_the_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(DataDirError, match="file is not a directory"):
        DataDir.open(tmp_path / "file", create=ME)
    with pytest.raises(DataDirError, match="Not a directory"):
        DataDir.open(tmp_path / "file" / "n1", create=ME)


@pytest.mark.parametrize("operation", ["mkdir", "listdir", "open", "create", "read", "write", "rename", "sync_dir"])
@pytest.mark.parametrize(
    ("error", "says"),
    [
        (PermissionError(errno.EACCES, "Permission denied", str(NODE)), "Permission denied"),
        (OSError(errno.EROFS, "Read-only file system", str(NODE)), "Read-only file system"),
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full"),
        (OSError(errno.EIO, "Input/output error"), "Input/output error"),
    ],
)
def test_a_disk_that_refuses_is_one_clear_line(operation: str, error: OSError, says: str) -> None:
    files = new_disk()
    if operation == "read":
        DataDir.open(NODE, create=ME, files=files).close()

    def refuse(name: str, path: Path) -> None:
        if name == operation:
            raise error

    files.fail = refuse
    with pytest.raises(DataDirError, match=says) as caught:
        DataDir.open(NODE, create=ME, files=files)

    assert str(NODE) in one_line(caught)
    assert not files.handles

    files.fail = lambda name, path: None
    DataDir.open(NODE, create=ME, files=files).close()


def test_a_crash_at_any_moment_of_the_creation_leaves_nothing_or_a_beginning() -> None:
    at = 0
    while True:
        at += 1
        files = new_disk()
        files.crash_at = at
        try:
            DataDir.open(NODE, create=ME, wal_options=SMALL, files=files)
        except Crash:
            for dice in range(8):
                survivor = files.after_crash(random.Random(at * 100 + dice))
                data = DataDir.open(NODE, create=ME, wal_options=SMALL, files=survivor)
                assert data.incarnation in (1, 2)
                _, recovered = Wal.open(data.wal_path, options=SMALL, files=survivor)
                assert recovered.hard_state == HardState()
            continue
        break
    assert at > 15


def test_a_crash_at_any_moment_of_a_start_costs_neither_data_nor_an_incarnation_twice() -> None:
    files = new_disk()
    data = DataDir.open(NODE, create=ME, wal_options=SMALL, files=files)
    wal, _ = Wal.open(data.wal_path, options=SMALL, files=files)
    wal.append([save(entry(1), hard_state=HardState(1, 5, 0))])
    wal.close()
    data.close()
    at = 0
    while True:
        at += 1
        twin = files.copy()
        twin.crash_at = at
        try:
            assert DataDir.open(NODE, create=ME, wal_options=SMALL, files=twin).incarnation == 2
        except Crash:
            for dice in range(8):
                survivor = twin.after_crash(random.Random(at * 100 + dice))
                data = DataDir.open(NODE, create=ME, wal_options=SMALL, files=survivor)
                assert data.incarnation in (2, 3)
                _, recovered = Wal.open(data.wal_path, options=SMALL, files=survivor)
                assert recovered.hard_state == HardState(1, 5, 0)
                assert recovered.entries == [entry(1)]
            continue
        break
    durable = DataDir.open(NODE, create=ME, wal_options=SMALL, files=twin.after_crash(random.Random(1)))
    assert durable.incarnation == 3

"""files: the operating system behind the port, and the names its errors get."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from raftkv.errors import DiskFullError, StorageError
from raftkv.storage.files import OS_FILES, disk_errors


def test_what_is_written_is_read(tmp_path: Path) -> None:
    handle = OS_FILES.open(tmp_path / "file", create=True)
    OS_FILES.write(handle, b"hello", 3)
    OS_FILES.write(handle, bytearray(b"J"), 3)

    assert OS_FILES.read(handle, 100, 0) == b"\0\0\0Jello"
    assert OS_FILES.read(handle, 2, 4) == b"el"
    assert OS_FILES.read(handle, 2, 100) == b""
    assert OS_FILES.size(handle) == 8
    OS_FILES.sync(handle)
    OS_FILES.sync_dir(tmp_path)
    OS_FILES.close(handle)


def test_a_missing_file_is_made_only_when_asked(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        OS_FILES.open(tmp_path / "file")
    OS_FILES.close(OS_FILES.open(tmp_path / "file", create=True))
    assert (tmp_path / "file").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("refusal", [None, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS])
def test_an_allocated_file_has_its_size_wherever_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: int | None
) -> None:
    """Some file systems cannot reserve space, and macOS has no call for it."""

    def refuse(handle: int, offset: int, size: int) -> None:
        raise OSError(refusal, "no")

    if refusal is not None:
        monkeypatch.setattr(os, "posix_fallocate", refuse, raising=False)
    handle = OS_FILES.open(tmp_path / "file", create=True)
    OS_FILES.write(handle, b"x" * 100, 0)
    OS_FILES.allocate(handle, 50)
    assert OS_FILES.size(handle) == 50
    OS_FILES.allocate(handle, 8192)
    assert OS_FILES.read(handle, 9000, 0) == b"x" * 50 + bytes(8142)
    OS_FILES.close(handle)


def test_a_full_disk_is_noticed_when_space_is_reserved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int, offset: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    handle = OS_FILES.open(tmp_path / "file", create=True)
    with pytest.raises(OSError, match="No space"):
        OS_FILES.allocate(handle, 100)
    OS_FILES.close(handle)


def test_a_write_cut_short_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda handle, data, offset: whole(handle, bytes(data)[:7], offset))
    handle = OS_FILES.open(tmp_path / "file", create=True)
    OS_FILES.write(handle, bytes(range(100)), 5)
    OS_FILES.close(handle)

    assert (tmp_path / "file").read_bytes() == bytes(5) + bytes(range(100))


def test_a_lock_holds_until_its_handle_is_closed(tmp_path: Path) -> None:
    first = OS_FILES.open(tmp_path / "LOCK", create=True)
    second = OS_FILES.open(tmp_path / "LOCK")
    assert OS_FILES.lock(first)
    assert not OS_FILES.lock(second)

    OS_FILES.close(first)

    assert OS_FILES.lock(second)
    OS_FILES.close(second)


def fail(number: int) -> None:
    with disk_errors(Path("/d/file")):
        raise OSError(number, os.strerror(number))


def test_errors_name_the_path_and_their_kind() -> None:
    for number in (errno.ENOSPC, errno.EDQUOT):
        with pytest.raises(DiskFullError, match=r"^/d/file: "):
            fail(number)
    with pytest.raises(StorageError, match=r"^/d/file: Input/output error$") as caught:
        fail(errno.EIO)
    assert not isinstance(caught.value, DiskFullError)

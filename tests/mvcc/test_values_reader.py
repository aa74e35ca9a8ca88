"""The values of a state, read by a process of their own: the same verdict as by one process, whatever becomes of it."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from raftkv.errors import CorruptionError, StorageError
from raftkv.mvcc import checking
from raftkv.mvcc.checking import check_state
from raftkv.mvcc.environment import DATA_FILE
from raftkv.mvcc.pages import PageFile, Tree
from raftkv.mvcc.values_reader import APART_BYTES, ValuesReader, values_reader
from tests.mvcc.test_checking import Change, change_behind_its_back, exchange_values, lose_a_value, written

apart = partial(values_reader, apart_bytes=0)


@pytest.fixture(autouse=True)
def two_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})


@pytest.fixture
def file(tmp_path: Path) -> Iterator[PageFile]:
    written(tmp_path).close()
    with PageFile(tmp_path / DATA_FILE) as file:
        yield file


@pytest.fixture
def values(file: PageFile) -> Tree:
    return file.subtrees()[b"revisions"]


def test_sum_and_pages_are_those_of_one_process(file: PageFile, values: Tree) -> None:
    with PageFile(file.path) as other:
        other.subtrees()
        with values_reader(other, values) as alone:
            expected = alone.sum()

        with apart(file, values) as reader:
            assert has_process(reader)
            assert reader.sum() == expected
        assert file.met == other.met


def has_process(reader: ValuesReader) -> bool:
    return reader._process is not None


def test_a_small_file_or_a_single_processor_has_no_other_process(
    file: PageFile, values: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert file.used_bytes < APART_BYTES
    with values_reader(file, values) as reader:
        assert not has_process(reader)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    with apart(file, values) as reader:
        assert not has_process(reader)


@pytest.mark.parametrize("change", [lose_a_value, exchange_values])
def test_damaged_values_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Change) -> None:
    written(tmp_path).close()
    monkeypatch.setattr(checking, "values_reader", apart)
    check_state(tmp_path / DATA_FILE)
    change_behind_its_back(tmp_path, change)

    with pytest.raises(CorruptionError, match="the values are not those that the index names"):
        check_state(tmp_path / DATA_FILE)


def test_a_damaged_page_is_named(file: PageFile, values: Tree) -> None:
    with file.path.open("r+b") as data:
        data.seek(values.root * file.meta.page_bytes)
        data.write(bytes(8))

    with apart(file, values) as reader, pytest.raises(CorruptionError, match=f"page {values.root} says"):
        reader.sum()


def test_a_page_that_another_tree_has_too_is_found(file: PageFile, values: Tree) -> None:
    with apart(file, values) as reader:
        list(file.leaves(values))
        with pytest.raises(CorruptionError, match=r"page \d+ is in two trees"):
            reader.sum()
    shared = max(number for number, is_met in enumerate(file.met) if is_met)
    with pytest.raises(CorruptionError, match=f"page {shared} is in two trees"):
        file.meet_all(bytes(shared) + b"\1" + bytes(len(file.met) - shared - 1))


def test_a_file_that_cannot_be_read_is_named(file: PageFile, values: Tree) -> None:
    file.path.unlink()

    with apart(file, values) as reader, pytest.raises(StorageError, match=r"cannot read .*: No such file"):
        reader.sum()


def test_what_a_process_that_failed_should_have_read_is_read_here(
    file: PageFile, values: Tree, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")

    with caplog.at_level(logging.WARNING), apart(file, values) as reader:
        assert has_process(reader)
        assert reader.sum()
    assert "ended with 1; they are read again" in caplog.text


def test_without_a_process_to_be_had_they_are_read_here(
    file: PageFile, values: Tree, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("sys.executable", str(file.path.parent / "no python"))

    with caplog.at_level(logging.WARNING), apart(file, values) as reader:
        assert not has_process(reader)
        assert reader.sum()
    assert "no process to read its values: No such file or directory" in caplog.text


def test_the_process_ends_with_the_check(file: PageFile, values: Tree) -> None:
    with pytest.raises(CorruptionError), apart(file, values) as reader:
        raise CorruptionError("of the index")
    assert reader._process is not None
    assert reader._process.returncode is not None

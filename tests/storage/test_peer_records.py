"""peer_records: who comes back with other or older data is refused; what was noted outlives a crash."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from raftkv.errors import CorruptionError, PeerDataError
from raftkv.storage import DataDir, DataMark, Identity, PeerRecords
from tests.storage.faulty_files import Crash, FaultyFiles

NODE = Path("/var/n1.raftkv")
KNOWN = DataMark(data_id=7, incarnation=3, run_id=30)


def new_disk() -> FaultyFiles:
    files = FaultyFiles()
    files.mkdir(NODE)
    return files


def test_every_opening_of_a_data_directory_is_another_run_of_the_same_data(tmp_path: Path) -> None:
    marks = []
    for _ in range(2):
        data = DataDir.open(tmp_path / "n1", create=Identity(1, 2, "n1"))
        marks.append(data.mark)
        data.close()

    assert marks[0].data_id == marks[1].data_id != 0
    assert [mark.incarnation for mark in marks] == [1, 2]
    assert marks[0].run_id != marks[1].run_id


@pytest.mark.parametrize(
    "mark",
    [KNOWN, DataMark(data_id=7, incarnation=4, run_id=40), DataMark(data_id=7, incarnation=9, run_id=90)],
    ids=["the same run", "the next run", "a later run"],
)
def test_a_peer_that_goes_on_is_welcome(mark: DataMark) -> None:
    files = new_disk()
    PeerRecords(NODE, files=files).meet(5, KNOWN)

    records = PeerRecords(NODE, files=files)
    records.meet(5, mark)

    assert PeerRecords(NODE, files=files).knows(5, mark)


@pytest.mark.parametrize(
    ("mark", "says"),
    [
        (DataMark(data_id=8, incarnation=1, run_id=31), "lost its data"),
        (DataMark(data_id=8, incarnation=9, run_id=31), "lost its data"),
        (DataMark(data_id=7, incarnation=2, run_id=31), "older copy"),
        (DataMark(data_id=7, incarnation=3, run_id=31), "older copy"),
    ],
)
def test_a_peer_with_other_or_older_data_is_refused_and_not_noted(mark: DataMark, says: str) -> None:
    files = new_disk()
    PeerRecords(NODE, files=files).meet(5, KNOWN)

    records = PeerRecords(NODE, files=files)
    with pytest.raises(PeerDataError, match=says):
        records.meet(5, mark)

    assert records.knows(5, KNOWN)
    records.meet(6, mark)


def test_a_power_cut_at_any_operation_leaves_what_was_noted() -> None:
    later = DataMark(data_id=7, incarnation=4, run_id=40)
    for crash_at in range(1, 100):
        files = new_disk()
        PeerRecords(NODE, files=files).meet(5, KNOWN)
        files.crash_at = files.operations + crash_at
        try:
            PeerRecords(NODE, files=files).meet(5, later)
        except Crash:
            found = PeerRecords(NODE, files=files.after_crash(random.Random(crash_at)))
            assert found.knows(5, KNOWN) or found.knows(5, later), f"crash at operation {crash_at}"
        else:
            return
    raise AssertionError("the crash never came to the end of it")


def test_damaged_records_stop_the_node(tmp_path: Path) -> None:
    PeerRecords(tmp_path).meet(5, KNOWN)
    file = tmp_path / "peers.json"
    text = file.read_text()
    file.write_text(text.replace('"incarnation": 3', '"incarnation": 2'))

    with pytest.raises(CorruptionError, match=r"peers\.json is damaged"):
        PeerRecords(tmp_path)


def test_who_was_removed_is_forgotten_and_the_others_are_not() -> None:
    files = new_disk()
    records = PeerRecords(NODE, files=files)
    for member in (5, 6):
        records.meet(member, KNOWN)

    records.forget([5, 9])
    before = files.operations
    records.forget([5, 9])

    assert files.operations == before, "nothing is left to write"
    again = PeerRecords(NODE, files=files)
    assert again.knows(6, KNOWN)
    assert not again.knows(5, KNOWN)

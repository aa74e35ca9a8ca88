"""The last record of the log torn at every byte, and a whole node started on it: all that was promised before is there."""

from __future__ import annotations

import shutil
from pathlib import Path

from raftkv.raft.types import HardState
from raftkv.storage import DataDir, PeerRecords, Wal
from raftkv.storage import format as fmt
from tests.statemachine.support import batch, everything, open_machine, put
from tests.storage_faults import driver
from tests.storage_faults.donor import copy_tree

ENTRIES = 4


def killed_member(directory: Path, parent: Path) -> None:
    """What a SIGKILL leaves: entries saved, not all of them applied, nothing closed."""
    data = DataDir.open(parent, create=driver.ME, wal_options=driver.SMALL)
    machine = open_machine(data.state_path)
    log, _ = Wal.open(data.wal_path, options=driver.SMALL)
    PeerRecords(data.path)
    for index in range(1, ENTRIES + 1):
        made = batch(index, put(b"k%03d" % index, b"x"))
        driver.save(log, [made], HardState(1, 1, index - 1))
        if index < ENTRIES:
            machine.apply([made])
            machine.commit()
    copy_tree(parent, directory)
    log.close()
    machine.close()
    data.close()


def last_record(segment: Path) -> tuple[int, int]:
    data = segment.read_bytes()
    salt = fmt.decode_segment_header(data[: fmt.SEGMENT_HEADER_BYTES]).salt
    begin, end = 0, fmt.SEGMENT_HEADER_BYTES
    while (record := fmt.decode_record(memoryview(data), end, salt)) is not None:
        begin, end = end, record.end
    return begin, end


def test_a_node_starts_on_a_log_torn_at_every_byte_of_its_last_record(tmp_path: Path) -> None:
    killed = tmp_path / "killed"
    killed_member(killed, tmp_path / "running")
    (segment,) = (killed / "wal").glob("*.wal")
    begin, end = last_record(segment)
    assert end - begin > 40
    for torn_at in range(begin, end + 1):
        directory = tmp_path / "torn"
        copy_tree(killed, directory)
        with (directory / segment.relative_to(killed)).open("r+b") as file:
            file.seek(torn_at)
            file.write(bytes(end - torn_at))
        promised = [("vote", 1), ("incarnation", 1), ("commit", ENTRIES - 1), ("entry", ENTRIES - (torn_at < end))]

        raft = driver.check(directory, promised)

        assert raft.last_index in {ENTRIES - (torn_at < end), ENTRIES}  # The record may end in zeros.
        assert driver.check(directory, promised).last_index == raft.last_index
        machine = open_machine(directory / "state")
        assert set(everything(machine)) >= {b"k%03d" % index for index in range(1, ENTRIES)}
        machine.close()
        shutil.rmtree(directory)

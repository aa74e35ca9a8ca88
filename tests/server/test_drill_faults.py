"""What is broken on a node ends by itself, and is felt only where it should be."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from raftkv.pb import rpc_pb2
from raftkv.pb.drill_pb2 import Fault
from raftkv.raft.messages import InstallSnapshot, Message
from raftkv.server.drill_faults import DrillFaults, DrillFiles, free_space, from_peers, log_files, to_peers
from raftkv.storage.files import OS_FILES

WAIT_S = 10.0


class Peers:
    """A transport that remembers what it was given."""

    def __init__(self) -> None:
        self.sent: list[Sequence[Message]] = []

    def send(self, messages: Sequence[Message]) -> None:
        self.sent.append(messages)

    async def send_snapshot(self, message: InstallSnapshot, path: Path) -> int:
        return message.snapshot.index

    def set_peers(self, members: Sequence[rpc_pb2.Member]) -> None:
        pass


def test_without_drills_nothing_stands_between_a_node_and_its_disk_or_its_peers() -> None:
    transport = Peers()
    heard: list[Sequence[Message]] = []

    assert log_files(None) is OS_FILES
    assert to_peers(None, transport) is transport
    assert from_peers(None, heard.append) == heard.append  # Itself, and nothing around it.


def test_a_fault_ends_by_itself() -> None:
    now = 100.0
    faults = DrillFaults(clock=lambda: now)
    faults.begin(Fault.CUT, duration_s=5.0)
    assert (faults.fault, faults.remaining_s) == (Fault.CUT, 5.0)

    now = 105.0

    assert (faults.fault, faults.remaining_s) == (Fault.NONE, 0.0)


def test_a_stalled_disk_holds_a_sync_until_it_is_healed(tmp_path: Path) -> None:
    faults = DrillFaults()
    files = DrillFiles(OS_FILES, faults)
    handle = files.open(tmp_path / "log", create=True)
    faults.begin(Fault.DISK_STALL, duration_s=60.0)
    synced = threading.Event()

    def sync() -> None:
        files.sync(handle)
        synced.set()

    thread = threading.Thread(target=sync)
    thread.start()
    assert not synced.wait(0.05)

    assert faults.heal() == Fault.DISK_STALL

    assert synced.wait(WAIT_S)
    thread.join()
    files.close(handle)


def test_a_stall_that_nobody_heals_ends_too(tmp_path: Path) -> None:
    faults = DrillFaults()
    files = DrillFiles(OS_FILES, faults)
    handle = files.open(tmp_path / "log", create=True)
    faults.begin(Fault.DISK_STALL, duration_s=0.05)

    files.sync(handle)

    assert faults.fault == Fault.NONE
    files.close(handle)


def test_a_full_disk_takes_what_has_its_space_already(tmp_path: Path) -> None:
    faults = DrillFaults()
    files = DrillFiles(OS_FILES, faults)
    handle = files.open(tmp_path / "log", create=True)
    files.allocate(handle, 4096)
    faults.begin(Fault.DISK_FULL, duration_s=60.0)

    files.write(handle, b"x" * 100, 0)
    files.sync(handle)
    with pytest.raises(OSError, match="No space left"):
        files.write(handle, b"x" * 100, 4090)
    with pytest.raises(OSError, match="No space left"):
        files.allocate(handle, 8192)

    assert free_space(faults)(tmp_path) == 0
    faults.heal()
    assert free_space(faults)(tmp_path) > 0
    files.close(handle)


@pytest.mark.parametrize(
    ("fault", "hears", "is_heard"),
    [(Fault.NONE, True, True), (Fault.DEAF, False, True), (Fault.MUTE, True, False), (Fault.CUT, False, False)],
    ids=["well", "deaf", "mute", "cut"],
)
def test_a_cut_goes_the_way_it_should(fault: Fault, hears: bool, is_heard: bool) -> None:
    faults, transport = DrillFaults(), Peers()
    heard: list[Sequence[Message]] = []
    if fault != Fault.NONE:
        faults.begin(fault, duration_s=60.0)

    from_peers(faults, heard.append)([])
    to_peers(faults, transport).send([])

    assert bool(heard) is hears
    assert bool(transport.sent) is is_heard

"""What a node does to its disk, in a fixed order, and what it promised so far: for the crash points.

    python -m tests.storage_faults.driver DIRECTORY DESCRIPTOR

Creates or opens the data directory, then: elections (term and vote), appends, applies, commits,
compactions, a snapshot made and one installed, what peers said of their data. After each promise a line goes to the descriptor.
`check` says whether a directory holds everything that was promised.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Sequence
from pathlib import Path

from raftkv.node import recover_raft
from raftkv.raft import Raft, RaftConfig
from raftkv.raft.ready import Save
from raftkv.raft.types import Entry, HardState, SavedMark, SnapshotMeta
from raftkv.statemachine import StateMachine, read_seal
from raftkv.storage import DataDir, DataMark, Identity, PeerRecords, Wal, WalOptions
from tests.statemachine.support import BOOTSTRAP, batch, everything, open_machine, put

ME = Identity(cluster_id=0xC1, member_id=1, name="n1")
SMALL = WalOptions(segment_bytes=4096)
TERMS, ENTRIES_A_TERM = 3, 6
INSTALLED_INDEX = 200


def entry(index: int, term: int) -> Entry:
    return batch(index, put(b"k%03d" % index, b"x" * 300), term=term)


def save(wal: Wal, entries: Sequence[Entry], state: HardState, reset_to: SnapshotMeta | None = None) -> None:
    """Durable when this returns. On this thread, as strace counts calls by thread; the writer's thread makes the same ones."""
    wal.append([Save(SavedMark(0, 0, 0, state), tuple(entries), state, reset_to)])
    wal.sync()


def drive(directory: Path, tell: int) -> None:
    def promise(what: str, number: int) -> None:
        os.write(tell, f"{what} {number}\n".encode())

    data = DataDir.open(directory, create=ME, wal_options=SMALL)
    promise("incarnation", data.incarnation)
    machine = open_machine(data.state_path)
    wal, _ = Wal.open(data.wal_path, options=SMALL)
    peers = PeerRecords(data.path)
    for term in range(1, TERMS + 1):
        save(wal, [], HardState(term, vote=1))
        promise("vote", term)
        first = (term - 1) * ENTRIES_A_TERM + 1
        for index in range(first, first + ENTRIES_A_TERM):
            made = entry(index, term)
            save(wal, [made], HardState(term, 1, index - 1))
            promise("entry", index)
            machine.apply([made])
        machine.commit()
        promise("commit", machine.durable_index)
        if term > 1:
            wal.compact(SnapshotMeta(first, term, BOOTSTRAP.membership))
        peers.meet(2, DataMark(7, term, term))
        promise("peer", term)
    machine.snapshot_to(directory / "made.snapshot")
    promise("snapshot", machine.applied_index)
    donated = Path(f"{directory}.donated")
    if donated.exists():
        meta = read_seal(donated).meta
        machine.install(donated, meta)
        promise("installed", meta.index)
        save(wal, [], HardState(TERMS, 1, meta.index), meta)
        promise("reset", meta.index)
    wal.close()
    machine.close()
    data.close()


def check(directory: Path, promised: list[tuple[str, int]]) -> Raft:
    """Open what the crash left, as a node does. AssertionError or StorageError if a promise is broken."""
    most = {what: max(number for key, number in promised if key == what) for what, _ in promised}
    data = DataDir.open(directory, create=ME, wal_options=SMALL)
    assert data.incarnation > most.get("incarnation", 0)
    machine = StateMachine.open(data.state_path, create=BOOTSTRAP)
    log, recovered = Wal.open(data.wal_path, options=SMALL)
    config = RaftConfig(node_id=1, election_timeout_ticks=10, heartbeat_interval_ticks=1)
    raft = recover_raft(config, log, recovered, machine, random.Random(1))
    assert raft.term >= most.get("vote", 0), f"term {raft.term}, vote promised in {most}"
    assert raft.term == 0 or raft.vote in (0, 1)
    assert raft.term != most.get("vote", 0) or raft.term == 0 or raft.vote == 1, "a vote was forgotten"
    assert raft.last_index >= max(most.get("entry", 0), most.get("reset", 0)), f"log ends at {raft.last_index}: {most}"
    assert machine.applied_index >= max(most.get("commit", 0), most.get("installed", 0))
    machine.apply([e for e in recovered.entries if machine.applied_index < e.index <= raft.last_index])
    stored = everything(machine)
    for index in range(1, min(most.get("entry", 0), machine.applied_index) + 1):
        assert "installed" in most or machine.applied_index >= INSTALLED_INDEX or stored[b"k%03d" % index], index
    if peer := most.get("peer"):
        marks = (DataMark(7, number, number) for number in (peer, peer + 1))
        assert any(PeerRecords(data.path).knows(2, mark) for mark in marks)
    log.close()
    machine.close()
    data.close()
    return raft


def donate(path: Path) -> None:
    """A snapshot of another, longer history, to be installed."""
    donor = open_machine(path.with_suffix(".donor"))
    donor.apply([batch(i, put(b"other%d" % i), term=TERMS) for i in range(1, INSTALLED_INDEX + 1)])
    donor.snapshot_to(path)
    donor.close()


if __name__ == "__main__":
    drive(Path(sys.argv[1]), int(sys.argv[2]))

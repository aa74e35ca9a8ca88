"""What a node makes of a data directory: it refuses it with a named error, or it has this in it.

    python -m tests.storage_faults.opening        reads directories from stdin, a line each; answers with a line of JSON each

The answer holds either `error` or `contents`. This is the start of a node up to where it would serve, in the order in which
`raftkv serve` does it, with the committed entries applied. A process of its own, because LMDB on a damaged file could kill it.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
from pathlib import Path
from typing import Any

from raftkv.errors import StorageError
from raftkv.mvcc.checking import check_state
from raftkv.mvcc.environment import DATA_FILE
from raftkv.node import recover_raft
from raftkv.pb import rpc_pb2
from raftkv.raft import RaftConfig
from raftkv.statemachine import Bootstrap, StateMachine, StoreLimits, verify_snapshot
from raftkv.storage import DataDir, Identity, PeerRecords, Wal
from raftkv.storage.data_dir import FORMAT_FILE
from raftkv.storage.flight_file import FlightFile
from raftkv.storage.peer_records import PEERS_FILE
from tests.statemachine.support import batch, delete, put
from tests.storage_faults.donor import SEALED

FROM_KEY = b"\0"
FLIGHT_S = 5.0


def open_member(directory: Path, me: Identity, bootstrap: Bootstrap) -> dict[str, Any]:
    """Everything a node would believe after a start on this directory.

    Raises:
        StorageError: it refuses to start.
    """
    data = DataDir.open(directory, create=me)
    try:
        machine = StateMachine.open(data.state_path, create=bootstrap, limits=StoreLimits(map_bytes=1 << 24))
        try:
            log, recovered = Wal.open(data.wal_path)
            try:
                config = RaftConfig(node_id=me.member_id, election_timeout_ticks=10, heartbeat_interval_ticks=1)
                raft = recover_raft(config, log, recovered, machine, random.Random(1))
                PeerRecords(data.path)
                flight = FlightFile(data.path, b"{}")
                flight.open()
                flight.close(FLIGHT_S)
                committed = [e for e in recovered.entries if machine.applied_index < e.index <= raft.commit_index]
                machine.apply(committed)
                contents = {
                    "identity": [
                        data.identity.cluster_id,
                        data.identity.member_id,
                        data.incarnation,
                        data.mark.data_id,
                    ],
                    "vote": [raft.term, raft.vote],
                    "log": [raft.first_index, raft.last_index, raft.commit_index, digest(repr(recovered.entries))],
                    "peers": json.loads((directory / PEERS_FILE).read_text())["peers"],
                    "members": [repr(machine.membership), digest(repr(machine.members))],
                    "state": state_of(machine),
                }
                go_on(machine)
                contents["later"] = state_of(machine)
                return contents
            finally:
                log.close()
        finally:
            machine.close()
            check_state(data.state_path / DATA_FILE)
    finally:
        data.close()


def go_on(machine: StateMachine) -> None:
    """Write on: what is damaged but not in use must not come into use."""
    for _ in range(2):
        changes = [put(b"key/%05d" % number, b"later" * number) for number in range(0, 1500, 97)]
        index = machine.applied_index + 1
        machine.apply([batch(index, *changes, delete(b"large/", b"large0"), incarnation=1 << 40, term=1 << 40)])
        machine.commit()


def state_of(machine: StateMachine) -> list[Any]:
    """All that a client can read: everything in order, now and at one revision in the past, and each key looked up alone."""
    hashed = machine.hash_kv()
    past = (max(machine.compact_revision, 1) + machine.revision) // 2
    present = machine.range(rpc_pb2.RangeRequest(key=FROM_KEY, range_end=FROM_KEY))
    readings = [rpc_pb2.RangeRequest(key=FROM_KEY, range_end=FROM_KEY, revision=past)]
    readings += [rpc_pb2.RangeRequest(key=item.key) for item in present.kvs]
    read = hashlib.sha256(present.SerializeToString())
    for request in readings:
        read.update(machine.range_bytes(request))
    numbers = [machine.applied_index, machine.applied_term, hashed.hash, hashed.revision, hashed.compact_revision]
    return [*numbers, read.hexdigest()]


def check_sealed(path: Path, expected: str | None) -> str:
    """What a node makes of a snapshot that it was sent: what it is said to be, or CorruptionError."""
    found = repr(verify_snapshot(path))
    if expected is not None and found != expected:
        raise StorageError(f"announced as another snapshot: {found}")  # As `StateMachine.install` does.
    return found


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def main() -> int:
    """Directories come from stdin; the first is the undamaged one."""
    me: Identity | None = None
    bootstrap: Bootstrap | None = None
    sealed: str | None = None
    for line in sys.stdin:
        directory = Path(line.strip())
        if me is None or bootstrap is None:
            me, bootstrap = who(directory)
        answer: dict[str, Any]
        try:
            if directory.name == SEALED:
                answer = {"contents": check_sealed(directory, sealed)}
            else:
                answer = {"contents": open_member(directory, me, bootstrap)}
                if sealed is None:
                    sealed = check_sealed(directory / SEALED, None)
        except StorageError as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        except Exception as error:
            answer = {"unnamed": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)  # noqa: T201
    return 0


def who(pristine: Path) -> tuple[Identity, Bootstrap]:
    """The identity and the first state of the member, as its flags would give them; nothing is damaged yet."""
    fields = json.loads((pristine / FORMAT_FILE).read_text())  # Not by opening it: that counts as a run.
    me = Identity(int(fields["cluster_id"], 16), int(fields["member_id"], 16), fields["name"])
    machine = StateMachine.open(pristine / "state")
    bootstrap = Bootstrap(cluster_id=machine.cluster_id, members=list(machine.members), membership=machine.membership)
    machine.close()
    return me, bootstrap


if __name__ == "__main__":
    sys.exit(main())

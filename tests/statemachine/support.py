"""Entries, batches and machines for the tests of the state machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from raftkv.pb import rpc_pb2 as rpc
from raftkv.pb import store_pb2
from raftkv.raft.types import Entry, EntryKind, Membership
from raftkv.statemachine import AppliedBatch, Bootstrap, StateMachine, StoreLimits

CLUSTER = 0xC1
US = (1, 1)
"""The origin and incarnation whose answers the tests want."""

BOOTSTRAP = Bootstrap(
    cluster_id=CLUSTER,
    members=[rpc.Member(ID=number, name=f"n{number}", peerURLs=[f"http://n{number}:2380"]) for number in (1, 2, 3)],
    membership=Membership(voters=frozenset({1, 2, 3})),
)


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def open_machine(
    path: Path, *, map_bytes: int = 1 << 24, clock: Callable[[], float] | None = None, **limits
) -> StateMachine:
    """Open the machine at `path`, creating it if need be. The clock stands still unless a test brings its own."""
    return StateMachine.open(
        path, create=BOOTSTRAP, limits=StoreLimits(map_bytes=map_bytes, **limits), clock=clock or Clock()
    )


def put(key: bytes, value: bytes = b"v", **options) -> store_pb2.Command:
    return store_pb2.Command(put=rpc.PutRequest(key=key, value=value, **options))


def delete(key: bytes, range_end: bytes = b"") -> store_pb2.Command:
    return store_pb2.Command(delete_range=rpc.DeleteRangeRequest(key=key, range_end=range_end))


def compact(revision: int, *, physical: bool = False) -> store_pb2.Command:
    return store_pb2.Command(compaction=rpc.CompactionRequest(revision=revision, physical=physical))


def txn(*operations: rpc.RequestOp) -> store_pb2.Command:
    return store_pb2.Command(txn=rpc.TxnRequest(success=operations))


def batch(
    index: int,
    *commands: store_pb2.Command,
    origin: int = US[0],
    incarnation: int = US[1],
    sequence: int | None = None,
    settled_below: int = 0,
    term: int = 1,
) -> Entry:
    """An entry that carries commands; its sequence is its index unless given."""
    payload = store_pb2.CommandBatch(
        origin=origin,
        incarnation=incarnation,
        sequence=index if sequence is None else sequence,
        settled_below=settled_below,
        commands=commands,
    )
    return Entry(index, term, EntryKind.COMMANDS, payload.SerializeToString())


def apply(machine: StateMachine, *commands: store_pb2.Command) -> list:
    """Apply one batch as the next entry; its answers."""
    batches: list[AppliedBatch] = machine.apply([batch(machine.applied_index + 1, *commands)], wanted=US)
    assert len(batches) == 1, batches
    return batches[0].answers


def get(machine: StateMachine, key: bytes, revision: int = 0) -> bytes | None:
    """A key's value, or None."""
    answer = machine.range(rpc.RangeRequest(key=key, revision=revision))
    return answer.kvs[0].value if answer.kvs else None


def everything(machine: StateMachine, revision: int = 0) -> dict[bytes, bytes]:
    answer = machine.range(rpc.RangeRequest(key=b"\0", range_end=b"\0", revision=revision))
    return {kv.key: kv.value for kv in answer.kvs}


def crash_and_reopen(machine: StateMachine, path: Path, **limits) -> StateMachine:
    """What is not committed is gone, as after a crash."""
    machine.close(commit=False)
    return open_machine(path, **limits)


def replay(machine: StateMachine, entries: Iterable[Entry]) -> None:
    """Apply what the machine has not applied yet, as a node does after a restart."""
    machine.apply([entry for entry in entries if entry.index > machine.applied_index])

"""What a node needs from the world, as narrow as it is: a log, peers, a state machine's thread.

The real ones are `storage.WalWriter`, `transport.PeerTransport` and `node.Applier`; a simulator puts its own in their place.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from raftkv.node.events import Called
from raftkv.pb import rpc_pb2
from raftkv.raft.messages import InstallSnapshot, Message
from raftkv.raft.ready import Save
from raftkv.raft.types import Entry, SavedMark, SnapshotMeta
from raftkv.statemachine import StateMachine


class LogPort(Protocol):
    """Saves reach stable storage in order; `done` may be called on another thread. After a failure nothing is acknowledged."""

    def save(self, save: Save, done: Callable[[SavedMark], None]) -> None: ...

    def compact(self, base: SnapshotMeta) -> None: ...


class TransportPort(Protocol):
    """Messages may be lost, never altered; `send` does not block and drops what a peer cannot take."""

    def send(self, messages: Sequence[Message]) -> None: ...

    def send_snapshot(self, message: InstallSnapshot, path: Path) -> Awaitable[int]: ...

    def set_peers(self, members: Sequence[rpc_pb2.Member]) -> None: ...


class ApplierPort(Protocol):
    """Jobs run one after another in the order given; reports come back as events."""

    def apply(self, entries: Sequence[Entry]) -> None: ...

    def install(self, path: Path, snapshot: SnapshotMeta) -> None: ...

    def call(self, job: Callable[[StateMachine], Any], done: Callable[[Any], None]) -> None: ...

    def observe(self, observer: Callable[[StateMachine], Called | None] | None) -> None: ...

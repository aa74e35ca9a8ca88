"""What plain puts will be answered, told while they wait to be applied.

The answer to a put without options is its revision, and that follows from its place in the log: one more than the write before.
So while the state machine's thread is in a commit, which takes it some ten milliseconds, this node need not let the callers of
such puts wait: they are committed in the sense of Raft, and every node will apply them so.

    log     ... 17   18   19   20   21   22
              applied └── puts ──┘    └─ a txn: what it does is known when it is done,
                      foreseen           and so is the revision of all that comes behind it

Nobody can tell the difference, apart from the time: a read that begins after the answer waits until the node that serves it has
applied that far (ReadIndex), or stands behind the put in the queue of the thread (serializable reads, watches, snapshots).

What may not live here: threads, LMDB, and anything that changes the state.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from raftkv.mvcc.schema import KEY_BYTES_MAX
from raftkv.pb import rpc_pb2, store_pb2
from raftkv.raft.types import Entry, EntryKind
from raftkv.statemachine.answers import Answer, AppliedBatch
from raftkv.statemachine.origins import Origins
from raftkv.statemachine.records import Records
from raftkv.statemachine.sessions import Session

_parse_batch = store_pb2.CommandBatch.FromString
_new_put_response = rpc_pb2.PutResponse


@dataclass(slots=True)
class _Forecast:
    """A session as it will be: as it is, and what has been foreseen of it."""

    session: Session
    settled_below: int
    sequences: set[int] = field(default_factory=set)

    def admit(self, sequence: int, settled_below: int) -> bool:
        """Whether a write with this number will certainly be applied; if so it counts as applied from now on."""
        if settled_below > self.settled_below:
            self.settled_below = settled_below
        if sequence < self.settled_below or sequence in self.sequences:
            return False
        if not self.session.is_new(sequence, others=len(self.sequences)):
            return False
        self.sequences.add(sequence)
        return True


class Outlook:
    """How things will be once entries are applied that follow those that are. It holds for as long as the state stands still."""

    def __init__(self, records: Records, revision: int, *, wanted: tuple[int, int]) -> None:
        """Begin with the state as it is.

        Args:
            records: looked at, never changed.
            revision: the store's.
            wanted: (origin, incarnation) whose batches are to be answered.
        """
        self._records = records
        self.index = records.applied.index
        """It is foreseen what comes of everything up to here."""
        self._revision = revision
        self._wanted = wanted
        self._ours = store_pb2.CommandBatch(origin=wanted[0], incarnation=wanted[1]).SerializeToString()
        """What the entries of wanted batches begin with: without one among them nothing need be parsed."""
        self._origins: dict[int, Origins] = {}
        self._sessions: dict[int, _Forecast] = {}
        self._is_clear = True
        """Nothing has come yet that cannot be foreseen."""

    def foresee(self, entries: Iterable[Entry]) -> list[AppliedBatch]:
        """The answers to those wanted batches that can be told, and have not been told before.

        Args:
            entries: committed, not applied, in order; those seen before may be among them.
        """
        new = [entry for entry in entries if entry.index > self.index]
        if not self._is_clear or not any(entry.data.startswith(self._ours) for entry in new):
            return []
        foreseen: list[AppliedBatch] = []
        for entry in new:
            if entry.index != self.index + 1:  # A snapshot will be installed before it.
                self._is_clear = False
                break
            if entry.kind is EntryKind.COMMANDS:
                batch = _parse_batch(entry.data)
                answers = self._foresee(batch)
                if answers is None:
                    self._is_clear = False
                    break
                if answers and (batch.origin, batch.incarnation) == self._wanted:
                    foreseen.append(AppliedBatch(batch.sequence, answers))
            elif entry.kind is not EntryKind.NOOP:
                self._is_clear = False
                break
            self.index = entry.index
        return foreseen

    def _foresee(self, batch: store_pb2.CommandBatch) -> list[Answer] | None:
        """The answers to a batch; none if it has been applied before. None: they cannot be told.

        Mirrors `Application._apply_batch`.
        """
        if not self._will_admit(batch):
            return []
        revision = self._revision
        answers: list[Answer] = []
        for command in batch.commands:
            if not command.HasField("put") or not self._will_apply(command):
                return None
            revision += 1
            response = _new_put_response()
            response.header.revision = revision
            answers.append(response)
        self._revision = revision
        return answers

    def _will_admit(self, batch: store_pb2.CommandBatch) -> bool:
        if not (origin := batch.origin):
            return True
        origins = self._origins.get(origin)
        if origins is None:
            origins = self._origins[origin] = self._records.origins.copy_of(origin)
        return origins.admit(origin, batch.incarnation, batch.sequence, batch.settled_below)

    def _will_apply(self, command: store_pb2.Command) -> bool:
        """Whether a put has no options, and nothing stands against it."""
        put = command.put
        if not 0 < len(put.key) <= KEY_BYTES_MAX or put.lease or put.prev_kv or put.ignore_value or put.ignore_lease:
            return False
        if not (session_id := command.session):
            return True
        known = self._sessions.get(session_id)
        if known is None:
            session = self._records.sessions.find(session_id)
            if session is None:
                return False
            known = self._sessions[session_id] = _Forecast(session, session.settled_below)
        return known.admit(command.sequence, command.settled_below)

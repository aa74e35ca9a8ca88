"""What clients' sessions have had applied, and what it was answered: what makes a write that is sent again take effect once.

A client opens a session through the log and numbers its writes in it. When an answer is lost on the way, it sends the write
again, to any node: here its number is known, and it gets the answer that it had the first time. The client says below which
number it will not ask again, so what must be kept is what it has in flight.

Sessions are part of the replicated state: they decide what is applied, are written with each commit, and travel in snapshots.
They expire by the clock that the log carries, never by a node's own.

Source: Raft dissertation §6.3.

What may not live here: LMDB, clocks, and what a command does.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Final

from google.protobuf.message import DecodeError

from raftkv import wire
from raftkv.errors import (
    ANSWER_NOT_KEPT,
    SESSION_FULL,
    SESSION_SETTLED,
    SESSION_SHARED,
    TOO_MANY_SESSIONS,
    CorruptionError,
    FailedPrecondition,
    Outcome,
    RequestError,
    ResourceExhausted,
)
from raftkv.pb import rpc_pb2, store_pb2
from raftkv.statemachine.answers import Answer

SESSION_TTL_MS = 10 * 60 * 1000
"""A session that has not been used for so long is forgotten. Longer than any client asks for the answer to one write."""
SESSIONS_MAX = 100_000
"""Some hundred bytes each, as long as nothing is in flight. One more takes the place of one in which nothing was ever written: who
opens sessions and does not use them must not keep out those who do."""
ANSWERS_MAX = 65_536
"""In one session: a client that settles nothing must not fill every node's memory."""
ANSWER_BYTES_MAX = 16 * 1024 * 1024
"""The same, by the size of its answers."""
ALL_ANSWER_BYTES_MAX = 128 * 1024 * 1024
"""Of all sessions: beyond this none is kept but the revisions of plain puts."""
KEPT_ANSWER_BYTES_MAX = 256 * 1024
"""A larger answer is given once; who asks again is told that the write was made, and that its answer is gone."""


@dataclass(slots=True)
class Session:
    """One client's. Invariant: no sequence in `answers` is below `settled_below`."""

    used_at_ms: int
    settled_below: int = 1
    answers: dict[int, tuple[int, int | bytes]] = field(default_factory=dict)
    """Sequence to a check sum of the command, and the revision of a plain put or an encoded `Answer`."""
    answer_bytes: int = 0

    @property
    def was_written_in(self) -> bool:
        return bool(self.answers) or self.settled_below > 1

    def settle(self, below: int) -> None:
        """The client needs no answer to what is below."""
        if below <= self.settled_below:
            return
        self.settled_below = below
        settled = [sequence for sequence in self.answers if sequence < below]
        for sequence in settled:
            _, answer = self.answers.pop(sequence)
            if isinstance(answer, bytes):
                self.answer_bytes -= len(answer)

    def is_new(self, sequence: int, *, others: int = 0) -> bool:
        """Whether a write with this number is to be applied; else `answer_again` says what it is answered.

        `others`: so many plain puts are going to be answered before it.
        """
        return (
            sequence >= self.settled_below
            and sequence not in self.answers
            and len(self.answers) + others < ANSWERS_MAX
            and self.answer_bytes < ANSWER_BYTES_MAX
        )

    def answer_again(self, command: store_pb2.Command) -> Answer:
        """The answer to a write that is not new. An error of the session's means that this copy was not applied."""
        if (known := self.answers.get(command.sequence)) is not None:
            return _decoded(known[1]) if known[0] == _check_of(command) else FailedPrecondition(SESSION_SHARED)
        if command.sequence < self.settled_below:
            return FailedPrecondition(SESSION_SETTLED)
        return ResourceExhausted(SESSION_FULL)

    def keep(self, command: store_pb2.Command, answer: Answer, *, room: int) -> None:
        """Remember what a write was answered, if that takes no more than `room` bytes; else that it was made."""
        kept = _encoded(command, answer)
        if isinstance(kept, bytes) and len(kept) > min(room, KEPT_ANSWER_BYTES_MAX):
            kept = _NOT_KEPT
        self._keep(command.sequence, _check_of(command), kept)

    def _keep(self, sequence: int, check: int, answer: int | bytes) -> None:
        self.answers[sequence] = (check, answer)
        if isinstance(answer, bytes):
            self.answer_bytes += len(answer)

    def encode(self) -> bytes:
        """Equal sessions give equal bytes."""
        record = store_pb2.SessionRecord(used_at_ms=self.used_at_ms, settled_below=self.settled_below)
        for sequence in sorted(self.answers):
            check, answer = self.answers[sequence]
            record.sequences.append(sequence)
            record.checks.append(check)
            if isinstance(answer, int):
                record.revisions.append(answer)
            else:
                record.revisions.append(0)
                record.answers.append(store_pb2.Answer.FromString(answer))
        return record.SerializeToString(deterministic=True)

    @staticmethod
    def decode(data: bytes) -> Session:
        """The inverse of `encode`.

        Raises:
            CorruptionError
        """
        try:
            record = store_pb2.SessionRecord.FromString(data)
            session = Session(record.used_at_ms, record.settled_below)
            answers = iter(record.answers)
            for sequence, check, revision in zip(record.sequences, record.checks, record.revisions, strict=True):
                session._keep(sequence, check, revision or next(answers).SerializeToString(deterministic=True))
        except (DecodeError, ValueError, StopIteration) as error:
            raise CorruptionError(f"the record of a session makes no sense: {error}") from error
        return session


_NOT_KEPT: Final = store_pb2.Answer(
    failure=wire.encode_error(ResourceExhausted(ANSWER_NOT_KEPT, outcome=Outcome.UNKNOWN))
).SerializeToString(deterministic=True)


class Sessions:
    """All of them, and which changed since `take_changed` was last called.

    Args:
        cluster_id: goes into every id, so that one of another cluster is unknown here.
        opened: how many have ever been opened.
        sessions: by id.
    """

    def __init__(self, cluster_id: int, opened: int = 0, sessions: Mapping[int, Session] | None = None) -> None:
        self._cluster_id = cluster_id
        self._sessions = dict(sorted((sessions or {}).items(), key=lambda one: one[1].used_at_ms))
        """By id, the one used least lately first."""
        self._changed: set[int] = set()
        self._answer_bytes = sum(session.answer_bytes for session in self._sessions.values())
        self.opened = opened
        self._idle = self._all_idle()
        """A heap of (when it was used, id) of all in which nothing was ever written, among others."""

    def __len__(self) -> int:
        return len(self._sessions)

    def open(self, now_ms: int) -> int | RequestError:
        """A new session's id, never used before in this cluster.

        Args:
            now_ms: the replicated clock.
        """
        if len(self._sessions) >= SESSIONS_MAX and not self._forget_idle():
            return ResourceExhausted(TOO_MANY_SESSIONS)
        self.opened += 1
        name = f"{self._cluster_id:x}/{self.opened}".encode()
        session_id = int.from_bytes(hashlib.sha256(name).digest()[:7], "big") or 1
        self._sessions[session_id] = Session(now_ms)
        self._changed.add(session_id)
        if len(self._idle) >= 2 * SESSIONS_MAX:
            self._idle = self._all_idle()
        else:
            heappush(self._idle, (now_ms, session_id))
        return session_id

    def find(self, session_id: int) -> Session | None:
        """A session, without using it; None: it is unknown."""
        return self._sessions.get(session_id)

    def used(self, session_id: int, now_ms: int) -> Session | None:
        """A session that is used now; None: it is unknown."""
        session = self._sessions.get(session_id)
        if session is None:
            return None
        self._changed.add(session_id)
        if session.used_at_ms != now_ms:
            session.used_at_ms = now_ms
            self._sessions[session_id] = self._sessions.pop(session_id)
        return session

    def settle(self, session: Session, below: int) -> None:
        """See `Session.settle`."""
        self._answer_bytes -= session.answer_bytes
        session.settle(below)
        self._answer_bytes += session.answer_bytes

    def keep(self, session: Session, command: store_pb2.Command, answer: Answer) -> None:
        """Remember what a write was answered, as far as there is room for it."""
        room = ALL_ANSWER_BYTES_MAX - self._answer_bytes
        self._answer_bytes -= session.answer_bytes
        session.keep(command, answer, room=room)
        self._answer_bytes += session.answer_bytes

    def expire(self, now_ms: int) -> None:
        """Forget the sessions that have not been used for `SESSION_TTL_MS`."""
        while self._sessions:
            session_id, session = next(iter(self._sessions.items()))
            if session.used_at_ms + SESSION_TTL_MS > now_ms:
                return
            self._forget(session_id)

    def _forget(self, session_id: int) -> None:
        self._answer_bytes -= self._sessions.pop(session_id).answer_bytes
        self._changed.add(session_id)

    def _forget_idle(self) -> bool:
        """Forget the session used least lately, the smallest id first, of those in which nothing was ever written; False: there is none."""
        while self._idle:
            used_at_ms, session_id = heappop(self._idle)
            session = self._sessions.get(session_id)
            if session is None or session.was_written_in:
                continue
            if session.used_at_ms != used_at_ms:
                heappush(self._idle, (session.used_at_ms, session_id))
                continue
            self._forget(session_id)
            return True
        return False

    def _all_idle(self) -> list[tuple[int, int]]:
        """All in which nothing was ever written; a sorted list is a heap."""
        return sorted(
            (session.used_at_ms, session_id)
            for session_id, session in self._sessions.items()
            if not session.was_written_in
        )

    def take_changed(self) -> list[tuple[int, Session | None]]:
        """The sessions that changed, in order of id; None for one that is gone."""
        changed = sorted(self._changed)
        self._changed.clear()
        return [(session_id, self._sessions.get(session_id)) for session_id in changed]


def check_of_put(key: bytes, value: bytes) -> int:
    """`_check_of` a put."""
    return zlib.crc32(value, zlib.crc32(key))


def _check_of(command: store_pb2.Command) -> int:
    """Tells apart what two clients of one session would send under one number."""
    if command.HasField("put"):
        return check_of_put(command.put.key, command.put.value)
    plain = store_pb2.Command()
    plain.CopyFrom(command)
    plain.ClearField("settled_below")
    return zlib.crc32(plain.SerializeToString(deterministic=True))


def _encoded(command: store_pb2.Command, answer: Answer) -> int | bytes:
    if isinstance(answer, rpc_pb2.PutResponse) and not answer.HasField("prev_kv"):
        return answer.header.revision
    encoded = store_pb2.Answer()
    if isinstance(answer, RequestError):
        encoded.failure.CopyFrom(wire.encode_error(answer))
    else:
        operation = command.WhichOneof("operation")
        assert operation is not None, "a command without an operation has an answer"
        getattr(encoded, operation).CopyFrom(answer)
    return encoded.SerializeToString(deterministic=True)


def _decoded(kept: int | bytes) -> Answer:
    if isinstance(kept, int):
        return rpc_pb2.PutResponse(header=rpc_pb2.ResponseHeader(revision=kept))
    answer = store_pb2.Answer.FromString(kept)
    result = answer.WhichOneof("result")
    assert result is not None, "an empty answer was kept"
    if result == "failure":
        return wire.decode_error(answer.failure)
    found: Answer = getattr(answer, result)
    return found

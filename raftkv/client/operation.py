"""One operation on its way: made by a caller, queued, in flight, settled. And the frame it becomes in a batch.

What may not live here: queues, connections, and what the arguments of a call mean (see `calls.py`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

from raftkv.errors import Outcome
from raftkv.pb import rpc_pb2, store_pb2

if TYPE_CHECKING:
    from raftkv.client.session import Session

T = TypeVar("T")

_COMMANDS_TAG: Final = 15 << 3 | 2  # BatchRequest.commands, length-delimited.
_SESSION_TAG: Final = bytes((13 << 3,))  # Command.session, a varint.
_SEQUENCE_TAG: Final = bytes((14 << 3,))  # Command.sequence
_SETTLED_BELOW_TAG: Final = bytes(
    (16 << 3 & 127 | 128, 16 >> 4)
)  # Command.settled_below: two bytes, as 16 << 3 is 128.


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of operation.

    Attributes:
        name: the field in `store.Answer` that answers it, and in `store.Command` that asks it.
        tag: the wire tag of that field in `store.Command`; 0 for what has no place in a batch.
        path: the unary RPC that does the same.
        parse: reads the RPC's response.
        reads: it changes nothing, so it may be sent twice.
    """

    name: str
    tag: int = 0
    path: str
    parse: Callable[[bytes], Any]
    reads: bool = False


_KV: Final = "/etcdserverpb.KV/"
PUT: Final = Kind(name="put", tag=1 << 3 | 2, path=_KV + "Put", parse=rpc_pb2.PutResponse.FromString)
DELETE: Final = Kind(
    name="delete_range", tag=2 << 3 | 2, path=_KV + "DeleteRange", parse=rpc_pb2.DeleteRangeResponse.FromString
)
TXN: Final = Kind(name="txn", tag=3 << 3 | 2, path=_KV + "Txn", parse=rpc_pb2.TxnResponse.FromString)
RANGE: Final = Kind(
    name="range", tag=6 << 3 | 2, path=_KV + "Range", parse=rpc_pb2.RangeResponse.FromString, reads=True
)
# A physical compaction answers when the old revisions are gone; in a batch it would hold everybody up.
COMPACT: Final = Kind(name="compaction", path=_KV + "Compact", parse=rpc_pb2.CompactionResponse.FromString)
MEMBERS: Final = Kind(
    name="members",
    path="/etcdserverpb.Cluster/MemberList",
    parse=rpc_pb2.MemberListResponse.FromString,
    reads=True,
)
STATUS: Final = Kind(
    name="status", path="/etcdserverpb.Maintenance/Status", parse=rpc_pb2.StatusResponse.FromString, reads=True
)
HASH_KV: Final = Kind(
    name="hash_kv", path="/etcdserverpb.Maintenance/HashKV", parse=rpc_pb2.HashKVResponse.FromString, reads=True
)

_CLUSTER: Final = "/etcdserverpb.Cluster/"
MEMBER_ADD: Final = Kind(name="member_add", path=_CLUSTER + "MemberAdd", parse=rpc_pb2.MemberAddResponse.FromString)
MEMBER_REMOVE: Final = Kind(
    name="member_remove", path=_CLUSTER + "MemberRemove", parse=rpc_pb2.MemberRemoveResponse.FromString
)
MEMBER_UPDATE: Final = Kind(
    name="member_update", path=_CLUSTER + "MemberUpdate", parse=rpc_pb2.MemberUpdateResponse.FromString
)
MEMBER_PROMOTE: Final = Kind(
    name="member_promote", path=_CLUSTER + "MemberPromote", parse=rpc_pb2.MemberPromoteResponse.FromString
)
OPEN_SESSION: Final = Kind(
    name="open_session",
    path="/raftkv.store.Store/OpenSession",
    parse=store_pb2.OpenSessionResponse.FromString,
    reads=True,  # One that nobody uses is forgotten.
)
MOVE_LEADER: Final = Kind(
    name="move_leader", path="/etcdserverpb.Maintenance/MoveLeader", parse=rpc_pb2.MoveLeaderResponse.FromString
)


class Waiter(Protocol):
    """Where the answer goes: an `asyncio.Future`, or a `ThreadWaiter`."""

    def done(self) -> bool: ...
    def set_result(self, result: Any, /) -> None: ...
    def set_exception(self, exception: BaseException, /) -> None: ...


SIGNALS_S: Final = 0.5
"""How long a thread sleeps before it looks at signals. One that comes when the main thread has looked for the last time, and does
not sleep yet, is only noted: its handler would run when there is an answer, or another signal."""


class ThreadWaiter:
    """The answer to one operation, for a thread that sleeps until it is there.

    A bare lock rather than a `concurrent.futures.Future`: that costs several times as much for what one waiter needs.
    """

    __slots__ = ("_exception", "_lock", "_result", "_set")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self._set = False
        self._result: Any = None
        self._exception: BaseException | None = None

    def done(self) -> bool:
        """Whether an answer or an exception is there."""
        return self._set

    def set_result(self, result: Any) -> None:
        """Wake the thread with an answer. Called once, on the loop's thread."""
        assert not self._set, "an operation was answered twice"
        self._set = True
        self._result = result
        self._lock.release()

    def set_exception(self, exception: BaseException) -> None:
        """Wake the thread with an exception. Called once, on the loop's thread."""
        assert not self._set, "an operation was answered twice"
        self._set = True
        self._exception = exception
        self._lock.release()

    def wait(self) -> Any:
        """Sleep until the answer is there; return or raise it."""
        while not self._lock.acquire(timeout=SIGNALS_S):
            pass
        if self._exception is not None:
            raise self._exception
        return self._result


class Operation(Generic[T]):
    """One caller's operation.

    Attributes:
        kind: which RPC.
        request: the RPC's request, encoded.
        convert: makes the caller's result of the RPC's response; runs where the caller runs.
        alone: do not put it into a batch, its answer may be large or late.
        deadline: on `time.monotonic()`; set when submitted.
        waiter: who waits for the response; set when submitted.
        session: in which it is numbered, so that it may be sent again; set when it is first sent, if at all.
        sequence: its number there.
        in_doubt: a copy of it went out of which nobody knows what it became.
    """

    __slots__ = ("alone", "convert", "deadline", "in_doubt", "kind", "request", "sequence", "session", "waiter")

    def __init__(self, kind: Kind, request: bytes, convert: Callable[[Any], T], *, alone: bool = False) -> None:
        self.kind = kind
        self.request = request
        self.convert = convert
        self.alone = alone or not kind.tag
        self.deadline = 0.0
        self.waiter: Waiter
        self.session: Session | None = None
        self.sequence = 0
        self.in_doubt = False

    @property
    def is_repeatable(self) -> bool:
        """Whether sending it twice does no more than sending it once."""
        return self.kind.reads or self.session is not None

    @property
    def outcome_unsent(self) -> Outcome:
        """What became of it, if it is not sent again."""
        return Outcome.UNKNOWN if self.in_doubt else Outcome.NOT_APPLIED

    def settle(self, response: Any) -> None:
        """Give the caller the response, unless it has one or has gone away."""
        if not self.waiter.done():
            self.waiter.set_result(response)

    def fail(self, error: BaseException) -> None:
        """Give the caller an exception of its own, unless it has an answer or has gone away."""
        if not self.waiter.done():
            self.waiter.set_exception(error)


def batch_request(operations: Iterable[Operation[Any]]) -> bytes:
    """An encoded `store.BatchRequest` around requests that are encoded already.

    `commands { <kind> { request } session sequence settled_below }` each, by hand: a tenth of the cost of building messages. What
    is settled is said once for each session, with its first write.
    """
    frames = []
    last: Session | None = None
    for operation in operations:
        command, session = _nested(operation.kind.tag, operation.request), operation.session
        if session is not None:
            command += session.tag + _SEQUENCE_TAG + _varint(operation.sequence)
            if session is not last:
                command += _SETTLED_BELOW_TAG + _varint(session.settled_below)
                last = session
        frames.append(_nested(_COMMANDS_TAG, command))
    return b"".join(frames)


def _nested(tag: int, content: bytes) -> bytes:
    size = len(content)
    return bytes((tag, size)) + content if size < 128 else bytes((tag,)) + _varint(size) + content


def session_field(session_id: int) -> bytes:
    """`session`, encoded."""
    return _SESSION_TAG + _varint(session_id)


def _varint(number: int) -> bytes:
    if number < 128:
        return bytes((number,))
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)

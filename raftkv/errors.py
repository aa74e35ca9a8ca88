"""Every exception of raftkv, one tree, for servers, clients and tools alike.

    RaftkvError
    ├── ConfigError               a flag, field or argument is wrong: says which, and what is allowed
    ├── RequestError              the answer to a request; has .code (gRPC status), .message (etcd's text), .outcome
    │   ├── InvalidArgument
    │   ├── NotFound
    │   │   └── LeaseLost         a lease, and the lock or office that hangs on it, is not ours any more
    │   ├── FailedPrecondition
    │   │   └── SessionExpired    the client's session is not known any more
    │   ├── OutOfRange
    │   │   ├── Compacted         the revision asked for was compacted away
    │   │   └── FutureRevision    the revision asked for has not happened yet
    │   ├── ResourceExhausted
    │   ├── PermissionDenied
    │   ├── Unauthenticated
    │   ├── Unimplemented
    │   ├── DataLoss
    │   ├── Unavailable           no leader, server stopping, connection lost
    │   ├── DeadlineExceeded      no answer in time
    │   └── Cancelled
    ├── StorageError              this node's disk or data directory
    │   ├── DataDirError          in use, of another node or cluster, unreadable, of a newer format
    │   ├── CorruptionError       stored bytes are not what was written
    │   └── DiskFullError
    ├── ListenError               an address cannot be listened on
    ├── MemberRemovedError        this node is no member of its cluster any more
    └── PeerError                 a peer of another cluster, id or protocol version
        └── PeerDataError         a peer that has lost its data, or has an older copy of it

A write that raises has an ``outcome``: NOT_APPLIED (it never will be) or UNKNOWN (it may have been, or may yet be). Reads
change nothing; theirs is NOT_APPLIED.

What may not live here: anything that imports gRPC. Codes are plain numbers with gRPC's meaning.

Source: the texts are etcd's (3.4.23, rpctypes); Go clients map errors by text.
"""

from __future__ import annotations

from enum import Enum, IntEnum


class Code(IntEnum):
    """gRPC status codes, https://grpc.io/docs/guides/status-codes/."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class Outcome(Enum):
    """What became of a write that raised."""

    NOT_APPLIED = "not applied"
    UNKNOWN = "unknown"


class RaftkvError(Exception):
    """The root of all exceptions raised by raftkv on purpose."""


class ConfigError(RaftkvError, ValueError):
    """A configuration value is wrong. The message is one line: what it is, and what is allowed."""


class RequestError(RaftkvError):
    """A request was answered with an error.

    Attributes:
        code: a gRPC status code.
        message: etcd's text, as sent.
        outcome: of a write: NOT_APPLIED or UNKNOWN.
    """

    code: Code = Code.UNKNOWN
    default_outcome: Outcome = Outcome.NOT_APPLIED

    def __init__(self, message: str, *, outcome: Outcome | None = None, code: Code | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.outcome = self.default_outcome if outcome is None else outcome
        if code is not None:
            self.code = code


class InvalidArgument(RequestError):
    code = Code.INVALID_ARGUMENT


class NotFound(RequestError):
    code = Code.NOT_FOUND


class LeaseLost(NotFound):
    """A lease is not ours any more, and neither is what hangs on it: keys, a lock, an office.

    Raised by the owner's own clock, without asking a server: when no renewal was confirmed within the TTL.
    """


class FailedPrecondition(RequestError):
    code = Code.FAILED_PRECONDITION


class SessionExpired(FailedPrecondition):
    """The session of a write is unknown: it was not used for too long, or is of another cluster."""


class OutOfRange(RequestError):
    code = Code.OUT_OF_RANGE


class Compacted(OutOfRange):
    """The revision asked for was compacted away; a later one must be asked for.

    Attributes:
        compact_revision: the oldest revision that is left, where the server told it (to a watch); 0: it did not.
    """

    def __init__(
        self, message: str, *, outcome: Outcome | None = None, code: Code | None = None, compact_revision: int = 0
    ) -> None:
        super().__init__(message, outcome=outcome, code=code)
        self.compact_revision = compact_revision


class FutureRevision(OutOfRange):
    """The revision asked for has not happened yet."""


class ResourceExhausted(RequestError):
    code = Code.RESOURCE_EXHAUSTED


class PermissionDenied(RequestError):
    code = Code.PERMISSION_DENIED


class Unauthenticated(RequestError):
    code = Code.UNAUTHENTICATED


class Unimplemented(RequestError):
    code = Code.UNIMPLEMENTED


class DataLoss(RequestError):
    code = Code.DATA_LOSS


class Unavailable(RequestError):
    """The service could not answer. Whether a write took effect stands in ``outcome``."""

    code = Code.UNAVAILABLE
    default_outcome = Outcome.UNKNOWN


class DeadlineExceeded(RequestError):
    """No answer in time. A write may have been applied, or may yet be."""

    code = Code.DEADLINE_EXCEEDED
    default_outcome = Outcome.UNKNOWN


class Cancelled(RequestError):
    code = Code.CANCELLED
    default_outcome = Outcome.UNKNOWN


class StorageError(RaftkvError):
    """This node's disk or data directory failed it; the node stops rather than guess."""


class DataDirError(StorageError):
    """The data directory cannot be used: in use, of another node or cluster, unreadable, or of a newer format."""


class CorruptionError(StorageError):
    """Stored bytes are not what was written. Nothing was changed or cut off."""


class DiskFullError(StorageError):
    """No space left, or the quota is used up."""


class ListenError(RaftkvError):
    """An address cannot be listened on: its port is in use, or it is not this machine's."""


class MemberRemovedError(RaftkvError):
    """This node was removed from its cluster: it stops, and its data is of no further use."""


class PeerError(RaftkvError):
    """A peer is of another cluster, has another id, or speaks another protocol version."""


class PeerDataError(PeerError):
    """A peer's data is not what it was: lost, or replaced by an older copy. It must not take part."""


# The texts, in etcd's words.

KEY_NOT_PROVIDED = "etcdserver: key is not provided"
KEY_NOT_FOUND = "etcdserver: key not found"
VALUE_PROVIDED = "etcdserver: value is provided"
LEASE_PROVIDED = "etcdserver: lease is provided"
TOO_MANY_OPERATIONS = "etcdserver: too many operations in txn request"
DUPLICATE_KEY = "etcdserver: duplicate key given in txn request"
INVALID_SORT_OPTION = "etcdserver: invalid sort option"
REQUEST_TOO_LARGE = "etcdserver: request is too large"
COMPACTED = "etcdserver: mvcc: required revision has been compacted"
FUTURE_REVISION = "etcdserver: mvcc: required revision is a future revision"
NO_SPACE = "etcdserver: mvcc: database space exceeded"
CORRUPT = "etcdserver: corrupt cluster"
TOO_MANY_REQUESTS = "etcdserver: too many requests"
LEASE_NOT_FOUND = "etcdserver: requested lease not found"
LEASE_EXISTS = "etcdserver: lease already exists"
LEASE_TTL_TOO_LARGE = "etcdserver: too large lease TTL"
NO_LEADER = "etcdserver: no leader"
NOT_LEADER = "etcdserver: not leader"
LEADER_CHANGED = "etcdserver: leader changed"
BAD_TRANSFEREE = "etcdserver: bad leader transferee"
TRANSFER_TIMED_OUT = "etcdserver: request timed out, leader transfer took too long"
MEMBER_NOT_FOUND = "etcdserver: member not found"
MEMBER_EXISTS = "etcdserver: member ID already exist"
PEER_URLS_EXIST = "etcdserver: Peer URLs already exists"
BAD_MEMBER_URLS = "etcdserver: given member URLs are invalid"
NOT_ENOUGH_STARTED = "etcdserver: re-configuration failed due to not enough started members"
NOT_A_LEARNER = "etcdserver: can only promote a learner member"
LEARNER_NOT_READY = "etcdserver: can only promote a learner member which is in sync with leader"
TOO_MANY_LEARNERS = "etcdserver: too many learner members in cluster"
UNHEALTHY = "etcdserver: unhealthy cluster"
STOPPED = "etcdserver: server stopped"
REMOVED = "etcdserver: the member has been permanently removed from the cluster"
TIMED_OUT = "etcdserver: request timed out"
TIMED_OUT_LEADER_FAILURE = "etcdserver: request timed out, possibly due to previous leader failure"
SESSION_EXPIRED = "raftkv: the session is unknown or has expired"
SESSION_SETTLED = "raftkv: the client has settled this write of its session already"
SESSION_SHARED = "raftkv: another write has this number in the session: two clients use it"
SESSION_FULL = "raftkv: too many writes of the session are not settled"
TOO_MANY_SESSIONS = "raftkv: too many sessions"
TOO_MANY_ALARMS = "raftkv: too many alarms of ids that are no members"
ANSWER_TOO_LARGE = "raftkv: what the request writes was written; its answer, of more than {size} MiB, cannot be given"
ANSWER_NOT_KEPT = "raftkv: the write was made; its answer was too large to be kept for asking again"
COMPARES_TOO_MUCH = "raftkv: the compares of the txn look at more than {keys:,} keys"
BATCH_ANSWERS_TOO_LARGE = (
    "raftkv: the answers to one batch are too large together: ask for fewer at a time, or for each by itself"
)
KEY_TOO_LONG = "etcdserver: key is longer than {limit} bytes, the limit of raftkv's storage engine"

_CLASS_BY_CODE: dict[Code, type[RequestError]] = {
    cls.code: cls
    for cls in (
        InvalidArgument,
        NotFound,
        FailedPrecondition,
        OutOfRange,
        ResourceExhausted,
        PermissionDenied,
        Unauthenticated,
        Unimplemented,
        DataLoss,
        Unavailable,
        DeadlineExceeded,
        Cancelled,
    )
}
_CLASS_BY_MESSAGE: dict[str, type[RequestError]] = {
    COMPACTED: Compacted,
    FUTURE_REVISION: FutureRevision,
    SESSION_EXPIRED: SessionExpired,
}


def request_error(code: int, message: str, *, outcome: Outcome | None = None) -> RequestError:
    """The exception for a gRPC status code and text; texts decide first, as in etcd's own clients."""
    known = Code(code) if code in Code._value2member_map_ else Code.UNKNOWN
    cls = _CLASS_BY_MESSAGE.get(message) or _CLASS_BY_CODE.get(known, RequestError)
    return cls(message, outcome=outcome, code=known)

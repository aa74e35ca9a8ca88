"""What callers say, as operations: arguments to encoded requests, responses to values. Pure functions.

What may not live here: sending, and anything that differs between the two faces.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import index
from typing import Any, Final, Literal, SupportsIndex

from raftkv.client import operation as kinds
from raftkv.client.operation import Operation
from raftkv.client.values import (
    CompactResult,
    DeleteResult,
    HashResult,
    KeyValue,
    Member,
    PutResult,
    RangeResult,
    Status,
    TxnResult,
)
from raftkv.errors import ConfigError
from raftkv.pb import mvcc_pb2, rpc_pb2

Key = str | bytes
"""A key: bytes, or text that is sent as UTF-8."""

Value = str | bytes
"""A value: bytes, or text that is sent as UTF-8."""

Sort = Literal["key", "version", "create_revision", "mod_revision", "value"]

WHOLE_END: Final = b"\0"
"""As the end of a range: everything from the start on."""

_SORT_TARGETS: Final[dict[str, rpc_pb2.RangeRequest.SortTarget]] = {
    "key": rpc_pb2.RangeRequest.KEY,
    "version": rpc_pb2.RangeRequest.VERSION,
    "create_revision": rpc_pb2.RangeRequest.CREATE,
    "mod_revision": rpc_pb2.RangeRequest.MOD,
    "value": rpc_pb2.RangeRequest.VALUE,
}


def to_bytes(text: object, what: str = "key") -> bytes:
    """UTF-8 of a string, bytes as they are.

    Raises:
        TypeError: neither.
    """
    if isinstance(text, str):
        return text.encode()
    if isinstance(text, bytes):
        return text
    raise TypeError(f"a {what} is str or bytes, not {type(text).__name__}")


def prefix_end(prefix: bytes) -> bytes:
    """The end of the range of all keys that begin with `prefix`; the empty prefix means all keys."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes((stem[-1] + 1,)) if stem else WHOLE_END


def span(start: Key | None, end: Key | None, prefix: Key | None) -> tuple[bytes, bytes]:
    """Start and end on the wire of `[start, end)`, or of a prefix, or of everything."""
    if prefix is not None:
        if start is not None or end is not None:
            raise ConfigError("a range has either a prefix or a start and an end, not both")
        stem = to_bytes(prefix, "prefix")
        return stem or b"\0", prefix_end(stem)
    first = b"\0" if start is None else to_bytes(start) or b"\0"
    return first, WHOLE_END if end is None else to_bytes(end)


# Requests.


def put_request(key: Key, value: Value, *, lease: SupportsIndex = 0, previous: bool = False) -> rpc_pb2.PutRequest:
    """A put. A lease is a number, or an object that knows its own and raises LeaseLost where that is ours no more."""
    return rpc_pb2.PutRequest(key=to_bytes(key), value=to_bytes(value, "value"), lease=index(lease), prev_kv=previous)


def get_request(key: Key, *, revision: int = 0, serializable: bool = False) -> rpc_pb2.RangeRequest:
    """A range over one key."""
    return rpc_pb2.RangeRequest(key=to_bytes(key), revision=revision, serializable=serializable)


def range_request(
    start: Key | None = None,
    end: Key | None = None,
    *,
    prefix: Key | None = None,
    limit: int | None = None,
    revision: int = 0,
    sort: Sort = "key",
    descending: bool = False,
    keys_only: bool = False,
    serializable: bool = False,
) -> rpc_pb2.RangeRequest:
    """A range; the limit 0 of the wire, none, is written None here."""
    if limit is not None and limit < 1:
        raise ConfigError(f"limit is {limit}; it must be at least 1, or None for no limit")
    if sort not in _SORT_TARGETS:
        raise ConfigError(f"sort is {sort!r}; allowed: {', '.join(_SORT_TARGETS)}")
    first, last = span(start, end, prefix)
    ascending = rpc_pb2.RangeRequest.NONE if sort == "key" else rpc_pb2.RangeRequest.ASCEND
    return rpc_pb2.RangeRequest(
        key=first,
        range_end=last,
        limit=limit or 0,
        revision=revision,
        sort_order=rpc_pb2.RangeRequest.DESCEND if descending else ascending,
        sort_target=_SORT_TARGETS[sort],
        keys_only=keys_only,
        serializable=serializable,
    )


def delete_request(
    key: Key | None = None, *, prefix: Key | None = None, end: Key | None = None, previous: bool = False
) -> rpc_pb2.DeleteRangeRequest:
    """A deletion of one key, of `[key, end)` or of a prefix; of everything only when asked for with `prefix=""`."""
    if key is None and prefix is None:
        raise ConfigError("delete needs a key or a prefix")
    if key is not None and prefix is None and end is None:
        return rpc_pb2.DeleteRangeRequest(key=to_bytes(key), prev_kv=previous)
    first, last = span(key, end, prefix)
    return rpc_pb2.DeleteRangeRequest(key=first, range_end=last, prev_kv=previous)


# Operations.


def put(key: Key, value: Value, *, lease: SupportsIndex = 0, previous: bool = False) -> Operation[PutResult]:
    """Store a value."""
    request = put_request(key, value, lease=lease, previous=previous)
    return Operation(kinds.PUT, request.SerializeToString(), put_result)


def get(key: Key, *, revision: int = 0, serializable: bool = False) -> Operation[KeyValue | None]:
    """Read one key."""
    request = get_request(key, revision=revision, serializable=serializable)
    return Operation(kinds.RANGE, request.SerializeToString(), _first_item)


def count(
    start: Key | None, end: Key | None, *, prefix: Key | None, revision: int, serializable: bool
) -> Operation[int]:
    """Count keys."""
    request = range_request(start, end, prefix=prefix, revision=revision, serializable=serializable)
    request.count_only = True
    return Operation(kinds.RANGE, request.SerializeToString(), _count)


def range_page(request: rpc_pb2.RangeRequest) -> Operation[RangeResult]:
    """Read what `request` says. Without a limit the answer may be large and keeps nobody else waiting."""
    return Operation(kinds.RANGE, request.SerializeToString(), range_result, alone=not request.limit)


def delete(
    key: Key | None = None, *, prefix: Key | None = None, end: Key | None = None, previous: bool = False
) -> Operation[DeleteResult]:
    """Delete keys."""
    request = delete_request(key, prefix=prefix, end=end, previous=previous)
    return Operation(kinds.DELETE, request.SerializeToString(), delete_result)


def txn(request: rpc_pb2.TxnRequest) -> Operation[TxnResult]:
    """Compare, and do one of two lists of operations, all at one revision."""
    return Operation(kinds.TXN, request.SerializeToString(), txn_result)


def compact(revision: int, *, physical: bool = False) -> Operation[CompactResult]:
    """Drop history before `revision`."""
    request = rpc_pb2.CompactionRequest(revision=revision, physical=physical)
    return Operation(kinds.COMPACT, request.SerializeToString(), _compact_result)


def status() -> Operation[Status]:
    """Ask a member how it is."""
    return Operation(kinds.STATUS, b"", _status)


def members(*, linearizable: bool = True) -> Operation[tuple[Member, ...]]:
    """Read the member table."""
    request = rpc_pb2.MemberListRequest(linearizable=linearizable)
    return Operation(kinds.MEMBERS, request.SerializeToString(), _members)


def hash_kv(revision: int = 0) -> Operation[HashResult]:
    """Hash a member's keys and revisions up to `revision`."""
    request = rpc_pb2.HashKVRequest(revision=revision)
    return Operation(kinds.HASH_KV, request.SerializeToString(), _hash_result)


def add_member(peer_urls: Sequence[str], *, learner: bool) -> Operation[Member]:
    """Add a member that has yet to be started."""
    request = rpc_pb2.MemberAddRequest(peerURLs=peer_urls, isLearner=learner)
    return Operation(kinds.MEMBER_ADD, request.SerializeToString(), lambda response: _member(response.member))


def remove_member(member: int) -> Operation[tuple[Member, ...]]:
    """Remove a member."""
    request = rpc_pb2.MemberRemoveRequest(ID=member)
    return Operation(kinds.MEMBER_REMOVE, request.SerializeToString(), _members)


def update_member(member: int, peer_urls: Sequence[str]) -> Operation[tuple[Member, ...]]:
    """Give a member other peer URLs."""
    request = rpc_pb2.MemberUpdateRequest(ID=member, peerURLs=peer_urls)
    return Operation(kinds.MEMBER_UPDATE, request.SerializeToString(), _members)


def promote_member(member: int) -> Operation[tuple[Member, ...]]:
    """Have a learner vote."""
    request = rpc_pb2.MemberPromoteRequest(ID=member)
    return Operation(kinds.MEMBER_PROMOTE, request.SerializeToString(), _members)


def move_leader(member: int) -> Operation[None]:
    """Ask the leader to hand over."""
    request = rpc_pb2.MoveLeaderRequest(targetID=member)
    return Operation(kinds.MOVE_LEADER, request.SerializeToString(), lambda _: None)


# Responses.


def key_value(kv: mvcc_pb2.KeyValue) -> KeyValue:
    """A stored key as a value of ours."""
    return KeyValue(kv.key, kv.value, kv.create_revision, kv.mod_revision, kv.version, kv.lease)


def put_result(response: rpc_pb2.PutResponse) -> PutResult:
    """A put's answer."""
    previous = key_value(response.prev_kv) if response.HasField("prev_kv") else None
    return PutResult(response.header.revision, previous)


def range_result(response: rpc_pb2.RangeResponse) -> RangeResult:
    """A range's answer."""
    items = tuple([key_value(kv) for kv in response.kvs])
    return RangeResult(response.header.revision, items, response.count, response.more)


def delete_result(response: rpc_pb2.DeleteRangeResponse) -> DeleteResult:
    """A deletion's answer."""
    previous = tuple([key_value(kv) for kv in response.prev_kvs])
    return DeleteResult(response.header.revision, response.deleted, previous)


def txn_result(response: rpc_pb2.TxnResponse) -> TxnResult:
    """A transaction's answer, nested ones included."""
    revision = response.header.revision
    return TxnResult(response.succeeded, revision, _responses(response.responses, revision))


def _responses(
    answers: Sequence[rpc_pb2.ResponseOp], revision: int
) -> tuple[PutResult | DeleteResult | RangeResult | TxnResult, ...]:
    return tuple([_response(answer, revision) for answer in answers])


def _response(answer: rpc_pb2.ResponseOp, revision: int) -> PutResult | DeleteResult | RangeResult | TxnResult:
    match answer.WhichOneof("response"):
        case "response_put":
            return put_result(answer.response_put)
        case "response_delete_range":
            return delete_result(answer.response_delete_range)
        case "response_txn":
            # etcd leaves the header of a nested transaction empty; it shares the revision of the outer one.
            nested = answer.response_txn
            return TxnResult(nested.succeeded, revision, _responses(nested.responses, revision))
        case _:
            return range_result(answer.response_range)


def _first_item(response: rpc_pb2.RangeResponse) -> KeyValue | None:
    return key_value(response.kvs[0]) if response.kvs else None


def _count(response: rpc_pb2.RangeResponse) -> int:
    return response.count


def _compact_result(response: rpc_pb2.CompactionResponse) -> CompactResult:
    return CompactResult(response.header.revision)


def _status(response: rpc_pb2.StatusResponse) -> Status:
    return Status(
        cluster_id=response.header.cluster_id,
        member_id=response.header.member_id,
        revision=response.header.revision,
        version=response.version,
        leader=response.leader,
        raft_term=response.raftTerm,
        raft_index=response.raftIndex,
        raft_applied_index=response.raftAppliedIndex,
        db_size=response.dbSize,
        db_size_in_use=response.dbSizeInUse,
        is_learner=response.isLearner,
        errors=tuple(response.errors),
    )


def _members(response: Any) -> tuple[Member, ...]:
    """From any response that holds the member table."""
    return tuple(_member(member) for member in response.members)


def _member(member: rpc_pb2.Member) -> Member:
    return Member(
        id=member.ID,
        name=member.name,
        peer_urls=tuple(member.peerURLs),
        client_urls=tuple(member.clientURLs),
        is_learner=member.isLearner,
    )


def _hash_result(response: rpc_pb2.HashKVResponse) -> HashResult:
    return HashResult(
        hash=response.hash,
        compact_revision=response.compact_revision,
        revision=response.hash_revision or response.header.revision,
    )


def operation_of(kind: kinds.Kind, request: bytes) -> Operation[Any]:
    """An operation whose result is the response message itself."""
    return Operation(kind, request, _itself)


def _itself(response: Any) -> Any:
    return response

"""Put, DeleteRange, Txn and Compaction on a store, exactly as etcd 3.4 applies them.

Each function is one command: it changes the store, or raises a `RequestError` and has changed nothing (but for an answer that
is too large to be given: see `allowance`). The header of an answer has `revision` alone; the server adds the rest. With `wanted`
false no answer is built: of the nodes that apply a command, one has a client waiting.

What may not live here: request checks that need no state (`validate`); but whatever arrives, nothing here may crash: these
functions run on every node at once.

Source: etcd 3.4 server/etcdserver/apply.go, and its answers (tests/mvcc/test_against_etcd.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from raftkv.errors import (
    COMPACTED,
    FUTURE_REVISION,
    KEY_NOT_FOUND,
    KEY_NOT_PROVIDED,
    KEY_TOO_LONG,
    LEASE_NOT_FOUND,
    Compacted,
    FutureRevision,
    InvalidArgument,
    NotFound,
)
from raftkv.mvcc.allowance import Allowance
from raftkv.mvcc.reading import select
from raftkv.mvcc.schema import KEY_BYTES_MAX, VERSION
from raftkv.mvcc.store import Store
from raftkv.pb import mvcc_pb2, rpc_pb2

_unpack_version = VERSION.unpack
_parse_key_value = mvcc_pb2.KeyValue.FromString
_new_put_response = rpc_pb2.PutResponse


# --- put --------------------------------------------------------------------------------------------------------------


def put(store: Store, request: rpc_pb2.PutRequest, *, wanted: bool) -> rpc_pb2.PutResponse | None:
    """Raises: NotFound (unknown lease), InvalidArgument (no previous value where one is needed; a bad key)."""
    key = request.key
    if not 0 < len(key) <= KEY_BYTES_MAX:
        raise _bad_key(key)
    if request.lease and not store.leases.exists(request.lease):
        raise NotFound(LEASE_NOT_FOUND)
    response = _put(store, request, wanted)
    revision = store.end_write()
    if response is not None:
        response.header.revision = revision
    return response


def _put(store: Store, request: rpc_pb2.PutRequest, wanted: bool) -> rpc_pb2.PutResponse | None:
    """The put itself, within a write; raises before it changes anything."""
    key = request.key
    if not (request.prev_kv or request.ignore_value or request.ignore_lease):
        store.put(key, request.value, request.lease)
        return _new_put_response() if wanted else None
    packed = store.latest(key)
    if packed is None and (request.ignore_value or request.ignore_lease):
        raise InvalidArgument(KEY_NOT_FOUND)
    previous = None if packed is None else _parse_key_value(store.value(packed))
    value, lease = request.value, request.lease
    if previous is not None and request.ignore_value:
        value = previous.value
    if previous is not None and request.ignore_lease:
        lease = previous.lease
    store.put(key, value, lease)
    if not wanted:
        return None
    return rpc_pb2.PutResponse(prev_kv=previous if request.prev_kv else None)


def _bad_key(key: bytes) -> InvalidArgument:
    return InvalidArgument(KEY_TOO_LONG.format(limit=KEY_BYTES_MAX) if key else KEY_NOT_PROVIDED)


# --- delete -----------------------------------------------------------------------------------------------------------


def delete_range(
    store: Store, request: rpc_pb2.DeleteRangeRequest, *, wanted: bool, answers: Allowance | None = None
) -> rpc_pb2.DeleteRangeResponse | None:
    """Deletes nothing, and then makes no revision, when the range is empty.

    Raises:
        ResourceExhausted: the keys are deleted, and what they held is too large for an answer (`allowance`).
    """
    answers = answers or Allowance()
    response = _delete_range(store, request, wanted, answers)
    revision = store.end_write()
    if response is not None and request.prev_kv:
        answers.check_answer()
    if response is not None:
        response.header.revision = revision
    return response


def _delete_range(
    store: Store, request: rpc_pb2.DeleteRangeRequest, wanted: bool, answers: Allowance
) -> rpc_pb2.DeleteRangeResponse | None:
    store.operation_counts.deletes += 1
    found = select(store, request.key, request.range_end, store.read_revision)
    response = rpc_pb2.DeleteRangeResponse(deleted=len(found)) if wanted else None
    if response is not None and request.prev_kv:
        for _, packed in found:
            stored = store.value(packed)
            if not answers.has_room(len(stored)):
                break
            response.prev_kvs.append(_parse_key_value(stored))
    for key, packed in found:
        store.delete(key, _unpack_version(packed)[4])
    return response


# --- txn --------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Plan:
    """The branch a txn takes. Every compare, nested ones too, is decided before anything is changed."""

    succeeded: bool
    steps: list[rpc_pb2.RequestOp | _Plan]


def txn(
    store: Store,
    request: rpc_pb2.TxnRequest,
    *,
    wanted: bool,
    compares: Allowance | None = None,
    answers: Allowance | None = None,
) -> rpc_pb2.TxnResponse | None:
    """All changes of a txn are one revision; reads in it see the changes made before them.

    Raises:
        InvalidArgument, NotFound: a put on the branch taken cannot be done, or the compares look at too much.
        Compacted, FutureRevision: a range on it asks for such a revision.
        ResourceExhausted: it was carried out, and its answer is too large to be given (`allowance`).
    """
    plan = _plan(store, request, compares or Allowance())
    _check_puts(store, plan)
    _check_ranges(store, plan)
    store.operation_counts.txns += _operation_count(plan) > 1
    response = rpc_pb2.TxnResponse() if wanted else None
    answers = answers or Allowance()
    is_whole = _run(store, plan, response, answers)
    revision = store.end_write()
    if not is_whole:
        answers.check_answer()
    if response is not None:
        response.header.revision = revision
    return response


def is_readonly(request: rpc_pb2.TxnRequest) -> bool:
    """Whether a txn holds ranges alone and need not go through the log. A nested txn counts as a write, as in etcd."""
    return all(op.WhichOneof("request") == "request_range" for ops in (request.success, request.failure) for op in ops)


def is_serializable(request: rpc_pb2.TxnRequest) -> bool:
    """Whether a txn asks for nothing but what a node has, perhaps behind the cluster.

    Etcd says so of a txn without operations too. That is one who asks whether its compares hold, whether it still has a lock
    perhaps, and has not said that an old answer will do.
    """
    operations = (*request.success, *request.failure)
    return bool(operations) and all(op.request_range.serializable for op in operations)


def _plan(store: Store, request: rpc_pb2.TxnRequest, allowance: Allowance) -> _Plan:
    succeeded = all(_holds(store, compare, allowance) for compare in request.compare)
    steps: list[rpc_pb2.RequestOp | _Plan] = [
        _plan(store, op.request_txn, allowance) if op.WhichOneof("request") == "request_txn" else op
        for op in (request.success if succeeded else request.failure)
    ]
    return _Plan(succeeded, steps)


def _operation_count(plan: _Plan) -> int:
    return sum(_operation_count(step) if isinstance(step, _Plan) else 1 for step in plan.steps)


def _check_puts(store: Store, plan: _Plan) -> None:
    for step in plan.steps:
        if isinstance(step, _Plan):
            _check_puts(store, step)
        elif step.WhichOneof("request") == "request_put":
            request = step.request_put
            if not 0 < len(request.key) <= KEY_BYTES_MAX:
                raise _bad_key(request.key)
            if (request.ignore_value or request.ignore_lease) and store.latest(request.key) is None:
                raise InvalidArgument(KEY_NOT_FOUND)
            if request.lease and not store.leases.exists(request.lease):
                raise NotFound(LEASE_NOT_FOUND)


def _check_ranges(store: Store, plan: _Plan) -> None:
    """Unlike outside a txn, a negative revision counts as compacted here if it is below the compact revision: etcd's way."""
    for step in plan.steps:
        if isinstance(step, _Plan):
            _check_ranges(store, step)
        elif step.WhichOneof("request") == "request_range":
            revision = step.request_range.revision
            if revision > store.revision:
                raise FutureRevision(FUTURE_REVISION)
            if revision != 0 and revision < store.compact_revision:
                raise Compacted(COMPACTED)


def _run(store: Store, plan: _Plan, response: rpc_pb2.TxnResponse | None, answers: Allowance) -> bool:
    """Carry a checked plan out. Nested TxnResponses have a header, and nothing in it: etcd's way.

    False: something that was read did not fit into the answer.
    """
    if response is not None:
        response.succeeded = plan.succeeded
        response.header.SetInParent()
    wanted = response is not None
    is_whole = True
    for step in plan.steps:
        answer = rpc_pb2.ResponseOp() if response is None else response.responses.add()
        if isinstance(step, _Plan):
            is_whole &= _run(store, step, answer.response_txn if wanted else None, answers)
            continue
        match step.WhichOneof("request"):
            case "request_range":
                if wanted and not answers.is_spent:
                    answer.response_range.MergeFromString(answers.read(store, step.request_range))
                is_whole &= not (wanted and answers.is_spent)
            case "request_put":
                if (put_response := _put_in_txn(store, step.request_put, wanted)) is not None:
                    answer.response_put.CopyFrom(put_response)
            case "request_delete_range":
                delete_response = _delete_range(store, step.request_delete_range, wanted, answers)
                is_whole &= not (wanted and step.request_delete_range.prev_kv and answers.is_spent)
                if delete_response is not None:
                    delete_response.header.revision = store.read_revision
                    answer.response_delete_range.CopyFrom(delete_response)
            case _:
                pass  # Nothing asked for, nothing answered.
    return is_whole


def _put_in_txn(store: Store, request: rpc_pb2.PutRequest, wanted: bool) -> rpc_pb2.PutResponse | None:
    """A put whose condition held before the txn; etcd crashes if a delete earlier in the txn has taken the key away."""
    if (request.ignore_value or request.ignore_lease) and store.latest(request.key) is None:
        store.put(request.key, request.value, request.lease)
        response = rpc_pb2.PutResponse() if wanted else None
    else:
        response = _put(store, request, wanted)
    if response is not None:
        response.header.revision = store.read_revision
    return response


# --- compare ----------------------------------------------------------------------------------------------------------

Compare = rpc_pb2.Compare


def _holds(store: Store, compare: rpc_pb2.Compare, allowance: Allowance) -> bool:
    """Whether a comparison holds for every key in its range; a key that does not exist has 0 everywhere, and no value."""
    is_empty = True
    for found in allowance.compared(store, compare):
        is_empty = is_empty and not found
        if compare.target == Compare.VALUE:
            if not all(_compare_value(compare, store.value(packed)) for _, packed in found):
                return False
        elif not all(_compare_numbers(compare, _unpack_version(packed)) for _, packed in found):
            return False
    return not is_empty or (compare.target != Compare.VALUE and _compare_numbers(compare, (0, 0, 0, 0, 0, 0)))


def _compare_value(compare: rpc_pb2.Compare, stored: bytes) -> bool:
    actual = _parse_key_value(stored).value
    expected = compare.value if compare.WhichOneof("target_union") == "value" else b""
    return _matches(compare, (actual > expected) - (actual < expected))


def _compare_numbers(compare: rpc_pb2.Compare, version: tuple[int, ...]) -> bool:
    """A target the request has no number for is compared with 0."""
    mod, _, create, count, lease, _ = version
    match compare.target:
        case Compare.VERSION:
            actual, expected = count, compare.version
        case Compare.CREATE:
            actual, expected = create, compare.create_revision
        case Compare.MOD:
            actual, expected = mod, compare.mod_revision
        case Compare.LEASE:
            actual, expected = lease, compare.lease
        case _:
            actual, expected = 0, 0  # An unknown target compares equal.
    return _matches(compare, (actual > expected) - (actual < expected))


def _matches(compare: rpc_pb2.Compare, sign: int) -> bool:
    match compare.result:
        case Compare.EQUAL:
            return sign == 0
        case Compare.NOT_EQUAL:
            return sign != 0
        case Compare.GREATER:
            return sign > 0
        case Compare.LESS:
            return sign < 0
    return True  # An unknown relation holds.


# --- compaction -------------------------------------------------------------------------------------------------------


def compact(store: Store, request: rpc_pb2.CompactionRequest, *, wanted: bool) -> rpc_pb2.CompactionResponse | None:
    """Forget history below a revision: for readers at once, on disk little by little (`compaction`).

    Raises:
        Compacted: it, or a later one, was compacted already.
        FutureRevision
    """
    if request.revision <= store.compact_revision:
        raise Compacted(COMPACTED)
    if request.revision > store.revision:
        raise FutureRevision(FUTURE_REVISION)
    store.compact_to(request.revision)
    if not wanted:
        return None
    response = rpc_pb2.CompactionResponse()
    response.header.revision = store.revision
    return response

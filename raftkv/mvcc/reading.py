"""Range requests: all of etcd's options, in slices, straight into the bytes of a RangeResponse.

An answer is made by concatenation, not by building messages: stored values are serialized KeyValues already, and protobuf
merges what is concatenated. So the server may append another header (cluster, member, term) behind these bytes, and a
reader sees one header. `header.revision` is set here.

What may not live here: writes.

Two quirks of etcd 3.4 are kept on purpose: `count` is the number of keys in the range before filters and limit; and with a
sort target other than KEY but no sort order, the limit cuts in key order *before* the sort.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

from raftkv.errors import COMPACTED, Compacted
from raftkv.mvcc.schema import KEY_BYTES_MAX, VERSION, varint
from raftkv.mvcc.store import Store
from raftkv.pb import mvcc_pb2, rpc_pb2

FROM_KEY = b"\0"
"""As a range end: no end."""

SLICE_KEYS = 1000
SLICE_BYTES = 1 << 20

_KVS_TAG = b"\x12"  # RangeResponse.kvs
_MORE = b"\x18\x01"  # RangeResponse.more = true
_COUNT_TAG = b"\x20"  # RangeResponse.count
_REVISION_TAG = b"\x18"  # ResponseHeader.revision
_HEADER_TAG = b"\x0a"  # RangeResponse.header
_COUNT_ONE = b"\x20\x01"

_unpack_version = VERSION.unpack

Found = tuple[bytes, bytes]
"""A user key and the packed version of it that a read sees."""

Looked = Callable[[int], object] | None

RangeRequest = rpc_pb2.RangeRequest


def read_range(store: Store, request: RangeRequest) -> bytes:
    """The serialized RangeResponse, header.revision set.

    Raises:
        Compacted, FutureRevision
    """
    if _is_plain_get(request):
        store.operation_counts.ranges += 1
        return _get(store, request)
    return b"".join(read_range_slices(store, request, slice_keys=SLICE_KEYS, pin=False))


def read_range_slices(
    store: Store, request: RangeRequest, *, slice_keys: int = SLICE_KEYS, pin: bool = True, looked: Looked = None
) -> Iterator[bytes]:
    """The same bytes in pieces, some of them empty: each costs about `slice_keys` keys, or a megabyte, of work.

    Between two pieces the store may be written, committed and compacted: the revision is fixed when this is called, and
    what it needs is kept from physical removal until the iterator ends or is closed. `looked` is called with the number of
    keys looked at, slice by slice; those that are deleted count.

    Raises:
        Compacted, FutureRevision: at once. From the iterator only Compacted, when another state was installed meanwhile.
    """
    store.operation_counts.ranges += 1
    present = store.read_revision
    revision = store.resolve(request.revision)
    slices = select_slices(store, request.key, request.range_end, revision, slice_keys, looked)
    pieces = _range_pieces(store, request, slices, present, slice_keys)
    return _pinned(store, revision, pieces) if pin else pieces


def select(store: Store, key: bytes, range_end: bytes, revision: int) -> list[Found]:
    """Everything in a range at a revision, in key order."""
    return [found for piece in select_slices(store, key, range_end, revision, SLICE_KEYS) for found in piece]


def select_slices(
    store: Store, key: bytes, range_end: bytes, revision: int, slice_keys: int, looked: Looked = None
) -> Iterator[list[Found]]:
    """As `select`, in lists made from at most `slice_keys` keys each; the store may be changed in between."""
    if not range_end:
        if looked is not None:
            looked(1)
        packed = store.version_at(key, revision)
        if packed is not None:
            yield [(key, packed)]
        return
    end = None if range_end == FROM_KEY else range_end
    # No stored key is longer than KEY_BYTES_MAX: behind a longer start comes what is behind its first bytes.
    start = key[:KEY_BYTES_MAX]
    is_after = len(key) > KEY_BYTES_MAX
    while True:
        found, last, count = _select_slice(store, start, is_after, end, revision, slice_keys)
        if looked is not None:
            looked(count)
        yield found
        if last is None:
            return
        start, is_after = last, True


def _select_slice(
    store: Store, start: bytes, is_after: bool, end: bytes | None, revision: int, keys: int
) -> tuple[list[Found], bytes | None, int]:
    """One slice from `start` (or behind it), the last key looked at, or None when the range is at its end, and how many were."""
    store.begin()
    cursor = store.index_cursor
    is_found = cursor.set_range(start) if start else cursor.first()
    if is_found and is_after and cursor.key() == start:
        is_found = cursor.next_nodup()
    found: list[Found] = []
    next_key, item, last_dup = cursor.next_nodup, cursor.item, cursor.last_dup
    key = start
    for count in range(keys):
        if not is_found:
            return found, None, count
        last_dup()
        key, packed = item()
        if end is not None and key >= end:
            return found, None, count + 1
        version = _unpack_version(packed)
        if version[0] > revision:
            older = store.version_under_cursor(key, revision)
            if older is not None:
                found.append((key, older))
        elif version[3]:
            found.append((key, packed))
        is_found = next_key()
    return found, key, keys


# --- one key ----------------------------------------------------------------------------------------------------------


def _is_plain_get(request: RangeRequest) -> bool:
    return not (
        request.range_end
        or request.keys_only
        or request.count_only
        or request.min_mod_revision
        or request.max_mod_revision
        or request.min_create_revision
        or request.max_create_revision
    )


def _get(store: Store, request: RangeRequest) -> bytes:
    key = request.key
    if request.revision:
        present = store.read_revision
        packed = store.version_at(key, store.resolve(request.revision))
    else:
        present = store.read_revision
        packed = store.latest(key)
    if packed is None:
        return _header(present)
    stored = store.value(packed)
    return b"".join((_header(present), _KVS_TAG, varint(len(stored)), stored, _COUNT_ONE))


def _header(revision: int) -> bytes:
    body = _REVISION_TAG + varint(revision)
    return _HEADER_TAG + varint(len(body)) + body


# --- many keys --------------------------------------------------------------------------------------------------------


def _pinned(store: Store, revision: int, pieces: Iterator[bytes]) -> Iterator[bytes]:
    with store.pinned(revision):
        for piece in pieces:
            yield piece
            if store.removed_through[0] > revision:
                raise Compacted(COMPACTED)


def _range_pieces(
    store: Store, request: RangeRequest, slices: Iterator[list[Found]], present: int, slice_keys: int
) -> Iterator[bytes]:
    """The pieces of an answer: values, slice by slice, and at the end header, `more` and `count`."""
    limit = max(request.limit, 0)
    count = 0
    matched = 0
    if request.count_only:
        for found in slices:
            count += len(found)
            yield b""
    elif _sort_key(request) is None:
        is_match = _filter(request)
        for found in slices:
            count += len(found)
            matching = found if is_match is None else [one for one in found if is_match(one)]
            wanted = matching if not limit else matching[: max(limit - matched, 0)]
            matched += len(matching)
            yield from _value_pieces(store, wanted, request.keys_only)
    else:
        everything: list[Found] = []
        for found in slices:
            everything += found
            yield b""
        count = len(everything)
        chosen = _filter_and_sort(store, request, everything, limit)
        matched = len(chosen)
        wanted_in_order = iter(chosen[:limit] if limit else chosen)
        while part := list(islice(wanted_in_order, slice_keys)):
            yield from _value_pieces(store, part, request.keys_only)
    more = _MORE if limit and matched > limit else b""
    yield _header(present) + more + (_COUNT_TAG + varint(count) if count else b"")


def _value_pieces(store: Store, found: list[Found], keys_only: bool) -> Iterator[bytes]:
    """`kvs` fields, at least one piece, cut when a piece has grown large."""
    parts: list[bytes] = []
    size = 0
    for key, packed in found:
        stored = _without_value(key, packed) if keys_only else store.value(packed)
        parts += (_KVS_TAG, varint(len(stored)), stored)
        size += len(stored)
        if size > SLICE_BYTES:
            yield b"".join(parts)
            parts.clear()
            size = 0
    yield b"".join(parts)


def _without_value(key: bytes, packed: bytes) -> bytes:
    mod, _, create, version, lease, _ = _unpack_version(packed)
    message = mvcc_pb2.KeyValue(key=key, create_revision=create, mod_revision=mod, version=version, lease=lease)
    return message.SerializeToString()


def _filter(request: RangeRequest) -> Callable[[Found], bool] | None:
    """Whether a version passes the request's bounds on revisions; None if it sets none. 0 is no bound, as in etcd."""
    min_mod, max_mod = request.min_mod_revision, request.max_mod_revision
    min_create, max_create = request.min_create_revision, request.max_create_revision
    if not (min_mod or max_mod or min_create or max_create):
        return None

    def is_match(found: Found) -> bool:
        mod, _, create, _, _, _ = _unpack_version(found[1])
        return (
            (not max_mod or mod <= max_mod)
            and (not min_mod or mod >= min_mod)
            and (not max_create or create <= max_create)
            and (not min_create or create >= min_create)
        )

    return is_match


def _sort_key(request: RangeRequest) -> int | None:
    """The sort target, or None when key order is right already."""
    target, order = request.sort_target, request.sort_order
    if target == RangeRequest.KEY and order in (RangeRequest.NONE, RangeRequest.ASCEND):
        return None
    return int(target)


def _filter_and_sort(store: Store, request: RangeRequest, found: list[Found], limit: int) -> list[Found]:
    is_match = _filter(request)
    if is_match is not None:
        found = [one for one in found if is_match(one)]
    elif limit and request.sort_order == RangeRequest.NONE:
        found = found[: limit + 1]  # The quirk told above: one more than the limit, for `more`.
    by: Callable[[Found], object]
    match request.sort_target:
        case RangeRequest.VERSION:
            by = lambda one: _unpack_version(one[1])[3]  # noqa: E731
        case RangeRequest.CREATE:
            by = lambda one: _unpack_version(one[1])[2]  # noqa: E731
        case RangeRequest.MOD:
            by = lambda one: _unpack_version(one[1])[0]  # noqa: E731
        case RangeRequest.VALUE:
            by = lambda one: mvcc_pb2.KeyValue.FromString(store.value(one[1])).value  # noqa: E731
        case _:
            by = lambda one: one[0]  # noqa: E731
    return sorted(found, key=by, reverse=request.sort_order == RangeRequest.DESCEND)

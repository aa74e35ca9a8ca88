"""Events and responses as bytes. Events are encoded once, for whoever gets them; a response is its head and its events.

What may not live here: who gets what.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from raftkv.mvcc.history import Change
from raftkv.mvcc.schema import varint
from raftkv.pb import rpc_pb2

Header = Callable[[int], rpc_pb2.ResponseHeader]
"""The header of a response at a revision."""

PROGRESS_ID = -1
"""Progress that was asked for concerns all watches of a stream."""
REFUSED_ID = -1

_TYPE_DELETE = b"\x08\x01"  # Event.type
_KV_TAG = b"\x12"  # Event.kv
_PREVIOUS_TAG = b"\x1a"  # Event.prev_kv
_EVENTS_TAG = b"\x5a"  # WatchResponse.events


def event_of(change: Change, *, previous: bool) -> bytes:
    """One `WatchResponse.events` field; with the previous value, if there was one, where `previous`."""
    parts = [b"" if change.is_put else _TYPE_DELETE, _KV_TAG, varint(len(change.stored)), change.stored]
    if previous and change.previous is not None:
        parts += (_PREVIOUS_TAG, varint(len(change.previous)), change.previous)
    event = b"".join(parts)
    return _EVENTS_TAG + varint(len(event)) + event


def created(header: rpc_pb2.ResponseHeader, watch_id: int) -> bytes:
    return rpc_pb2.WatchResponse(header=header, watch_id=watch_id, created=True).SerializeToString()


def refused(header: rpc_pb2.ResponseHeader, reason: str) -> bytes:
    """The answer to a create request that makes no watch."""
    return rpc_pb2.WatchResponse(
        header=header, watch_id=REFUSED_ID, created=True, canceled=True, cancel_reason=reason
    ).SerializeToString()


def canceled(header: rpc_pb2.ResponseHeader, watch_id: int) -> bytes:
    return rpc_pb2.WatchResponse(header=header, watch_id=watch_id, canceled=True).SerializeToString()


def compacted(header: rpc_pb2.ResponseHeader, watch_id: int, compact_revision: int) -> bytes:
    """The end of a watch whose place in the history is gone. The header's revision is 0, as in etcd."""
    return rpc_pb2.WatchResponse(
        header=header, watch_id=watch_id, canceled=True, compact_revision=compact_revision
    ).SerializeToString()


def progress(header: rpc_pb2.ResponseHeader, watch_id: int) -> bytes:
    return rpc_pb2.WatchResponse(header=header, watch_id=watch_id).SerializeToString()


def with_events(
    header: rpc_pb2.ResponseHeader, watch_id: int, events: Sequence[bytes], *, fragment_bytes: int = 0
) -> Iterator[bytes]:
    """A response with events, or several, all but the last marked as fragments, where it would exceed `fragment_bytes`.

    Without `fragment_bytes` it is one, however large.
    """
    head = rpc_pb2.WatchResponse(header=header, watch_id=watch_id).SerializeToString()
    if not fragment_bytes or len(events) < 2 or len(head) + sum(map(len, events)) < fragment_bytes:
        yield b"".join((head, *events))
        return
    fragment_head = rpc_pb2.WatchResponse(header=header, watch_id=watch_id, fragment=True).SerializeToString()
    first = 0
    while first < len(events):
        behind, size = first + 1, len(fragment_head) + len(events[first])
        while behind < len(events) and size + len(events[behind]) < fragment_bytes:
            size += len(events[behind])
            behind += 1
        yield b"".join((head if behind == len(events) else fragment_head, *events[first:behind]))
        first = behind

"""One watch: what it wants to hear of, and where in the history it is.

What may not live here: moving it (`hub`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftkv.mvcc.schema import KEY_BYTES_MAX
from raftkv.pb import rpc_pb2

if TYPE_CHECKING:
    from raftkv.watch.group import WatcherGroup
    from raftkv.watch.outbox import Outbox

SMALLEST_KEY = b"\0"
NO_END = b"\0"
"""As a request's range end: from the key on, without an end."""
BOUND_BYTES_MAX = KEY_BYTES_MAX + 1
"""What is kept of a longer key or range end: no stored key is on another side of it."""
BEHIND_EVERYTHING = b"\xff" * BOUND_BYTES_MAX
"""Larger than any key that can be stored."""

_Create = rpc_pb2.WatchCreateRequest


class Watcher:
    """A watch of one stream.

    Attributes:
        watch_id: unique within the stream.
        key: the key, or the first of a range.
        end: the end of the range; None: the single key.
        next_revision: it has been given everything below this, and wants nothing below it. While it is in a group, the
            group may have gone on; what counts then is the group's place.
        tolerated_revision: the client asked to start at what was the compact revision already: what is gone there is gone.
        has_progress: it was sent something since the last progress notification.
        group: where it is; None while it is parked.
    """

    __slots__ = (
        "deletes",
        "end",
        "fragment",
        "group",
        "has_progress",
        "key",
        "next_revision",
        "outbox",
        "previous",
        "progress",
        "puts",
        "tolerated_revision",
        "watch_id",
    )

    def __init__(self, request: rpc_pb2.WatchCreateRequest, watch_id: int, outbox: Outbox) -> None:
        self.watch_id = watch_id
        self.outbox = outbox
        self.key, self.end = watched_range(request)
        self.puts = _Create.NOPUT not in request.filters
        self.deletes = _Create.NODELETE not in request.filters
        self.previous = request.prev_kv
        self.fragment = request.fragment
        self.progress = request.progress_notify
        self.has_progress = False
        self.next_revision = 0
        self.tolerated_revision = 0
        self.group: WatcherGroup | None = None


def watched_range(request: rpc_pb2.WatchCreateRequest) -> tuple[bytes, bytes | None]:
    """Key and end as a `Watcher` has them."""
    key = request.key[:BOUND_BYTES_MAX] or SMALLEST_KEY
    if not request.range_end:
        return key, None
    return key, BEHIND_EVERYTHING if request.range_end == NO_END else request.range_end[:BOUND_BYTES_MAX]


def is_empty(key: bytes, end: bytes | None) -> bool:
    """Whether a range can hold no key; from a key beyond all that can be stored there is none, and that is no mistake."""
    return end is not None and end != BEHIND_EVERYTHING and key >= end

"""Where a watch is in the history, without a socket: what to ask a server for, and what its responses mean.

A watch that lost its server asks the next one for everything from the last revision it has seen, *that one included*, and
drops what it knows. Asking for the revision behind it would do, but for compaction: at the compact revision itself servers
have forgotten deletions, and would pass over one in silence. So asked, they say that history is gone.

What may not live here: connections.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from raftkv.client.calls import Key, key_value, span, to_bytes
from raftkv.client.values import KeyValue
from raftkv.errors import (
    COMPACTED,
    Cancelled,
    Compacted,
    ConfigError,
    InvalidArgument,
    PermissionDenied,
    RequestError,
    ResourceExhausted,
)
from raftkv.pb import mvcc_pb2, rpc_pb2

Only = Literal["put", "delete"]

_FILTERS: Final[dict[str, rpc_pb2.WatchCreateRequest.FilterType]] = {
    "put": rpc_pb2.WatchCreateRequest.NODELETE,
    "delete": rpc_pb2.WatchCreateRequest.NOPUT,
}

_REASONS: Final[dict[str, type[RequestError]]] = {
    "etcdserver: too many": ResourceExhausted,
    "etcdserver: permission denied": PermissionDenied,
    "mvcc: watcher range is empty": InvalidArgument,
}


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One key that was put or deleted.

    Attributes:
        kind: "put" or "delete".
        item: the key as it was put; of a deletion only `key` and `mod_revision` mean something.
        previous: the key as it was before, where that was asked for and there was something.
    """

    kind: Literal["put", "delete"]
    item: KeyValue
    previous: KeyValue | None = None

    @property
    def key(self) -> bytes:
        """The key's bytes."""
        return self.item.key

    @property
    def value(self) -> bytes:
        """The value's bytes; empty for a deletion."""
        return self.item.value


@dataclass(frozen=True, slots=True)
class WatchBatch:
    """Everything of one revision that a watch wants to know, in the order in which it was done; iterates over its events.

    A batch without events tells of progress: everything up to `revision` has been given.
    """

    revision: int
    events: tuple[WatchEvent, ...] = ()

    def __iter__(self) -> Iterator[WatchEvent]:
        return iter(self.events)

    def __len__(self) -> int:
        return len(self.events)


def watch_request(
    key: Key | None,
    end: Key | None,
    *,
    prefix: Key | None,
    revision: int,
    previous: bool,
    only: Only | None,
) -> rpc_pb2.WatchCreateRequest:
    """A watch of one key, of `[key, end)` or of a prefix; of everything only when asked for with `prefix=""`.

    Raises:
        ConfigError: an argument is out of range, or contradicts another.
    """
    if key is None and prefix is None:
        raise ConfigError("watch needs a key or a prefix")
    if revision < 0:
        raise ConfigError(f"revision is {revision}; it must be 0 (from now on) or the first revision to hear of")
    if only is not None and only not in _FILTERS:
        raise ConfigError(f"only is {only!r}; allowed: put, delete, or None for both")
    if key is not None and prefix is None and end is None:
        first, last = to_bytes(key), b""
    else:
        first, last = span(key, end, prefix)
    return rpc_pb2.WatchCreateRequest(
        key=first,
        range_end=last,
        start_revision=revision,
        prev_kv=previous,
        filters=() if only is None else (_FILTERS[only],),
        progress_notify=True,  # So that a quiet watch knows how far it is, and can go on from there.
    )


class WatchCursor:
    """The place of one watch.

    Attributes:
        revision: everything up to here has been taken; 0: nothing is known yet.
        is_created: some server has accepted it.
    """

    def __init__(self, request: rpc_pb2.WatchCreateRequest, *, progress: bool) -> None:
        """Args:
        request: from `watch_request`.
        progress: give batches without events when the server tells of progress.
        """
        self._request = request
        self._progress = progress
        self.revision = 0
        self.is_created = False

    def request(self) -> bytes:
        """What to ask a server for, now."""
        if self.revision:
            self._request.start_revision = self.revision
        return rpc_pb2.WatchRequest(create_request=self._request).SerializeToString()

    def take(self, raw: bytes) -> list[WatchBatch]:
        """The batches in a response.

        Raises:
            Compacted: history was compacted away behind the place.
            RequestError: the server refused the watch, or ended it.
            google.protobuf.message.DecodeError: these bytes are no response.
        """
        response = rpc_pb2.WatchResponse.FromString(raw)
        if response.canceled:
            raise _end_of(response)
        if response.created:
            self._created(response.header.revision)
            return []
        if response.events:
            return self._batches(response.events)
        return self._told_progress(response)

    def _created(self, revision: int) -> None:
        if not self.is_created and not self._request.start_revision:
            self.revision = revision  # "From now on": from behind this.
        self.is_created = True

    def _batches(self, events: Iterable[mvcc_pb2.Event]) -> list[WatchBatch]:
        """Events as batches of one revision each. Servers do not split a revision over responses that are not fragments."""
        batches: list[WatchBatch] = []
        same: list[WatchEvent] = []
        for event in events:
            revision = event.kv.mod_revision
            if revision <= self.revision:
                continue
            if same and same[0].item.mod_revision != revision:
                batches.append(WatchBatch(same[0].item.mod_revision, tuple(same)))
                same = []
            same.append(_event(event))
        if same:
            batches.append(WatchBatch(same[0].item.mod_revision, tuple(same)))
        if batches:
            self.revision = batches[-1].revision
        return batches

    def _told_progress(self, response: rpc_pb2.WatchResponse) -> list[WatchBatch]:
        """Progress that was asked for (watch id -1) older etcds tell before events that are under way: not to be built upon."""
        revision = response.header.revision
        if response.watch_id >= 0:
            self.revision = max(self.revision, revision)
        return [WatchBatch(revision)] if self._progress else []


def _event(event: mvcc_pb2.Event) -> WatchEvent:
    kind: Literal["put", "delete"] = "put" if event.type == mvcc_pb2.Event.PUT else "delete"
    previous = key_value(event.prev_kv) if event.HasField("prev_kv") else None
    return WatchEvent(kind, key_value(event.kv), previous)


def _end_of(response: rpc_pb2.WatchResponse) -> RequestError:
    """Why a server ended, or refused, a watch."""
    compacted = response.compact_revision
    if compacted:
        return Compacted(f"{COMPACTED}: the oldest revision left is {compacted}", compact_revision=compacted)
    reason = response.cancel_reason or "the server ended the watch"
    for start, kind in _REASONS.items():
        if reason.startswith(start):
            return kind(reason)
    return Cancelled(reason)

"""Where a watch is, and what it makes of responses: pure."""

from __future__ import annotations

import pytest

from raftkv.client.watch_cursor import WatchBatch, WatchCursor, watch_request
from raftkv.errors import Cancelled, Compacted, ConfigError, ResourceExhausted
from raftkv.pb import mvcc_pb2, rpc_pb2


def cursor(revision: int = 0, *, progress: bool = False) -> WatchCursor:
    request = watch_request("a", None, prefix=None, revision=revision, previous=False, only=None)
    return WatchCursor(request, progress=progress)


def asked(place: WatchCursor) -> int:
    return rpc_pb2.WatchRequest.FromString(place.request()).create_request.start_revision


def response(revision: int, *events: int, **fields: object) -> bytes:
    return rpc_pb2.WatchResponse(
        header=rpc_pb2.ResponseHeader(revision=revision),
        events=[mvcc_pb2.Event(kv=mvcc_pb2.KeyValue(key=b"a", mod_revision=event)) for event in events],
        **fields,  # type: ignore[arg-type]
    ).SerializeToString()


def revisions(batches: list[WatchBatch]) -> list[tuple[int, int]]:
    return [(batch.revision, len(batch)) for batch in batches]


def test_a_watch_from_now_on_goes_on_from_where_it_was_created() -> None:
    place = cursor()
    assert asked(place) == 0

    place.take(response(7, created=True))

    assert (place.revision, asked(place)) == (7, 7)


def test_a_response_of_several_revisions_is_a_batch_for_each() -> None:
    place = cursor(3)

    assert revisions(place.take(response(9, 3, 3, 5, 8))) == [(3, 2), (5, 1), (8, 1)]
    assert asked(place) == 8


def test_what_comes_twice_after_a_failover_is_dropped() -> None:
    place = cursor(3)
    place.take(response(9, 3, 5))
    place.take(response(9, created=True))

    assert revisions(place.take(response(9, 5, 6))) == [(6, 1)]


def test_a_watch_that_has_seen_nothing_goes_on_from_its_start() -> None:
    place = cursor(3)
    place.take(response(9, created=True))

    assert asked(place) == 3


def test_progress_moves_the_place_and_is_told_where_that_was_asked_for() -> None:
    quiet, curious = cursor(3), cursor(3, progress=True)

    assert quiet.take(response(12)) == []
    assert revisions(curious.take(response(12))) == [(12, 0)]
    assert (asked(quiet), asked(curious)) == (12, 12)


def test_progress_for_a_whole_stream_does_not_move_the_place() -> None:
    """etcd 3.4 tells it before events that are on their way."""
    place = cursor(3, progress=True)

    assert revisions(place.take(response(12, watch_id=-1))) == [(12, 0)]
    assert revisions(place.take(response(12, 11))) == [(11, 1)]


def test_a_compacted_place_raises_and_names_the_revision_that_is_left() -> None:
    with pytest.raises(Compacted, match="the oldest revision left is 40") as raised:
        cursor(3).take(response(0, canceled=True, compact_revision=40))

    assert raised.value.compact_revision == 40


def test_a_refused_watch_says_why() -> None:
    with pytest.raises(ResourceExhausted, match="limit"):
        cursor().take(response(1, created=True, canceled=True, cancel_reason="etcdserver: too many watches: the limit"))
    with pytest.raises(Cancelled, match="for a reason"):
        cursor().take(response(1, created=True, canceled=True, cancel_reason="for a reason"))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"key": None, "end": None, "prefix": None}, "key or a prefix"),
        ({"key": "a", "end": None, "prefix": "b"}, "not both"),
        ({"key": "a", "end": None, "prefix": None, "revision": -1}, "revision is -1"),
        ({"key": "a", "end": None, "prefix": None, "only": "puts"}, "only is 'puts'"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        watch_request(**({"revision": 0, "previous": False, "only": None} | arguments))  # type: ignore[arg-type]


def test_ranges_are_those_of_the_other_calls() -> None:
    def bounds(**arguments: object) -> tuple[bytes, bytes]:
        given = {"key": None, "end": None, "prefix": None, "revision": 0, "previous": False, "only": None} | arguments
        request = watch_request(**given)  # type: ignore[arg-type]
        return request.key, request.range_end

    assert bounds(key="a") == (b"a", b"")
    assert bounds(key="a", end="c") == (b"a", b"c")
    assert bounds(prefix="a/") == (b"a/", b"a0")
    assert bounds(prefix="") == (b"\0", b"\0")

from __future__ import annotations

from raftkv.client import calls
from raftkv.client.pages import PAGE_MAX, Pages
from raftkv.client.values import KeyValue, RangeResult
from raftkv.pb import rpc_pb2


def page(keys: list[bytes], *, more: bool, revision: int = 5, size: int = 1) -> RangeResult:
    return RangeResult(revision, tuple(KeyValue(key, b"x" * size, 1, 1, 1) for key in keys), len(keys), more)


def asked(pages: Pages) -> rpc_pb2.RangeRequest:
    operation = pages.next_page()
    assert operation is not None, "there is a page to ask for"
    return rpc_pb2.RangeRequest.FromString(operation.request)


def test_the_first_answer_fixes_the_revision_of_all_pages() -> None:
    pages = Pages(calls.range_request(prefix="k"), page=2)
    assert asked(pages).revision == 0

    pages.got(page([b"k1", b"k2"], more=True, revision=9))

    request = asked(pages)
    assert (request.revision, request.key, request.range_end) == (9, b"k2\0", b"l")


def test_a_revision_asked_for_stays_the_one_although_answers_carry_the_current() -> None:
    pages = Pages(calls.range_request(prefix="k", revision=3), page=1)

    pages.got(page([b"k1"], more=True, revision=9))

    assert asked(pages).revision == pages.revision == 3


def test_the_limit_holds_over_all_pages() -> None:
    pages = Pages(calls.range_request(limit=3), page=2)
    assert asked(pages).limit == 2

    pages.got(page([b"a", b"b"], more=True))
    assert asked(pages).limit == 1
    pages.got(page([b"c"], more=True))

    assert pages.next_page() is None


def test_no_page_is_asked_for_after_the_last() -> None:
    pages = Pages(calls.range_request())

    pages.got(page([b"a"], more=False))

    assert pages.next_page() is None


def test_pages_of_large_values_shrink_and_pages_of_small_ones_grow() -> None:
    large, small = Pages(calls.range_request(), page=2), Pages(calls.range_request(), page=2)

    large.got(page([b"a", b"b"], more=True, size=1_000_000))
    small.got(page([b"a", b"b"], more=True, size=1))

    assert asked(large).limit == 1
    assert 2 < asked(small).limit <= PAGE_MAX


def test_other_orders_come_in_one_answer() -> None:
    pages = Pages(calls.range_request(sort="mod_revision", descending=True), page=2)

    assert asked(pages).limit == 0
    pages.got(page([b"b", b"a"], more=False))

    assert pages.next_page() is None

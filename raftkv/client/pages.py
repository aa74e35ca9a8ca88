"""A long range in pages, all at one revision: which page to ask for next.

The first answer fixes the revision; later pages ask for that one, so the whole is a snapshot however long it takes, and
however much is written meanwhile. The size of a page follows the size of what it holds.

What may not live here: sending; the faces iterate.
"""

from __future__ import annotations

from typing import Final

from raftkv.client import calls
from raftkv.client.operation import Operation
from raftkv.client.values import KeyValue, RangeResult
from raftkv.pb import rpc_pb2

PAGE_FIRST: Final = 256
PAGE_MAX: Final = 10_000
_PAGE_BYTES: Final = 512 << 10  # What a page should hold: large enough to be cheap, small enough to hold nobody up.
_GROWTH_MAX: Final = 4


class Pages:
    """The pages of one range.

    Attributes:
        revision: the one that all pages are read at; 0 before the first answer to a range "at the current revision".
    """

    def __init__(self, request: rpc_pb2.RangeRequest, *, page: int = PAGE_FIRST) -> None:
        self.revision = request.revision
        self._request = request
        self._left = request.limit or None
        self._page = page
        self._done = False
        # Only in the order of keys does the last key of a page say where the next begins.
        self._paged = request.sort_order == rpc_pb2.RangeRequest.NONE

    def next_page(self) -> Operation[RangeResult] | None:
        """The next page to ask for; None when there is none."""
        if self._done:
            return None
        if self._paged:
            self._request.limit = self._page if self._left is None else min(self._page, self._left)
            self._request.revision = self.revision
        return calls.range_page(self._request)

    def got(self, result: RangeResult) -> tuple[KeyValue, ...]:
        """Take note of a page's answer; return its items."""
        items = result.items
        self.revision = self.revision or result.revision
        if self._left is not None:
            self._left -= len(items)
        self._done = not (self._paged and result.more and items and self._left != 0)
        if not self._done:
            self._request.key = items[-1].key + b"\0"
            self._page = _next_size(len(items), sum(len(item.key) + len(item.value) for item in items))
        return items


def _next_size(count: int, size: int) -> int:
    fitting = count * _PAGE_BYTES // max(size, 1)
    return max(1, min(fitting, count * _GROWTH_MAX, PAGE_MAX))

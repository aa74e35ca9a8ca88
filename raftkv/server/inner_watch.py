"""A watch of the node's own: through the service that serves everybody's, without a connection.

What may not live here: what is watched, and why.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Any, Final, NoReturn, Self

from raftkv.errors import Outcome, Unavailable
from raftkv.pb import rpc_pb2
from raftkv.server.watch import WatchService

WAITING_MAX: Final = 16
"""Responses that nobody has taken yet; beyond that, the hub keeps history for us, not memory."""


class InnerWatch:
    """One stream of watches. A context manager; `next` gives responses with events, or the one that ends a watch."""

    def __init__(self, service: WatchService, *watches: rpc_pb2.WatchCreateRequest) -> None:
        self._service = service
        self._watches = watches
        self._responses: asyncio.Queue[bytes] = asyncio.Queue(WAITING_MAX)

    async def next(self) -> rpc_pb2.WatchResponse:
        """The next response that tells something.

        Raises:
            Unavailable: the server stops.
        """
        while True:
            taking = asyncio.ensure_future(self._responses.get())
            try:
                await asyncio.wait((taking, self._serving), return_when=asyncio.FIRST_COMPLETED)
                if not taking.done():
                    self._serving.result()
                    raise AssertionError("a watch ended without a reason")
                response = rpc_pb2.WatchResponse.FromString(taking.result())
            finally:
                taking.cancel()
            if response.events or response.canceled:
                return response

    async def __aenter__(self) -> Self:
        self._serving = asyncio.create_task(self._service.watch(self._requests(), self), name="raftkv-inner-watch")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._serving.cancel()
        await asyncio.wait((self._serving,))
        if not self._serving.cancelled():
            self._serving.exception()  # `next` has told it, or nobody wants to know any more.

    async def _requests(self) -> AsyncIterator[bytes]:
        for watch in self._watches:
            yield rpc_pb2.WatchRequest(create_request=watch).SerializeToString()

    # What the service takes for gRPC's context ------------------------------------------------------------------------

    def peer(self) -> str:
        """A client of its own: its watches are counted with nobody's."""
        return f"inner:{id(self):x}"

    def invocation_metadata(self) -> Sequence[tuple[str, str]]:
        """No wish to be told when the leader is lost: whoever waits for something goes on waiting."""
        return ()

    async def write(self, response: bytes) -> None:
        await self._responses.put(response)

    async def abort(self, _code: Any, message: str, _trailing: Any) -> NoReturn:
        raise Unavailable(message, outcome=Outcome.NOT_APPLIED)

"""What a method may ask of the call it serves, and do to it: no more than this, so that a call need not come over gRPC.

gRPC's `ServicerContext` satisfies it, and so does the JSON gateway's call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn, Protocol

import grpc


class Call(Protocol):
    """One call, unary or of streams."""

    def invocation_metadata(self) -> Sequence[tuple[str, str | bytes]] | None:
        """Headers that the client sent, names in lower case."""

    def time_remaining(self) -> float | None:
        """Seconds to the client's deadline; None: it has none."""

    def peer(self) -> str:
        """Which client connection this is."""

    async def write(self, response: Any) -> None:
        """Send one response of a stream, serialized; returns when there is room for the next."""

    async def abort(
        self, code: grpc.StatusCode, details: str = "", trailing_metadata: Sequence[tuple[str, str | bytes]] = ()
    ) -> NoReturn:
        """End the call with an error; raises an exception that must not be held up."""

    def code(self) -> grpc.StatusCode | int | None:
        """The status it was ended with; None: none was set."""

"""How many streams each client connection has: what every service with streams sets a bound to.

What may not live here: the bounds, and what tells one connection from another (`front.connection_of`).
"""

from __future__ import annotations

from collections import Counter


class StreamCounts:
    """By connection; one that has none takes no room."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def of(self, connection: str) -> int:
        return self._counts[connection]

    def opened(self, connection: str) -> None:
        self._counts[connection] += 1

    def closed(self, connection: str) -> None:
        self._counts[connection] -= 1
        if not self._counts[connection]:
            del self._counts[connection]

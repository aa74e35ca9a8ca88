"""Strangers come back every second: what was said about one is not said again for a while.

What may not live here: deciding who is a stranger.
"""

from __future__ import annotations

import logging
import time

SAY_AGAIN_S = 600.0
TEXTS_MAX = 100
"""Beyond this all is forgotten, and may be said once more: the memory is ours, the texts are the strangers'."""


class Refusals:
    """Remembers what has been logged, by the reason: a stranger's address has another port each time."""

    def __init__(self) -> None:
        self._said_at: dict[str, float] = {}

    def tell(self, log: logging.Logger, what: str, reason: Exception) -> None:
        """Log a refusal, unless the same reason was logged within SAY_AGAIN_S."""
        text, now = str(reason), time.monotonic()
        if now - self._said_at.get(text, -SAY_AGAIN_S) < SAY_AGAIN_S:
            return
        if len(self._said_at) >= TEXTS_MAX:
            self._said_at.clear()
        self._said_at[text] = now
        log.warning("%s: %s (said once in %d minutes)", what, text, SAY_AGAIN_S // 60)

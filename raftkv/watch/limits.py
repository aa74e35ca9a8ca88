"""The bounds of a node's watches.

What may not live here: what is done about them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class WatchLimits:
    """Bounds of a node's watches. Sizes are bytes.

    `deliveries_per_step` is how many (watcher, revision) pairs one step handles, some microseconds each. `events_gathered` of one
    revision are the first occasion to look who will have room for them.
    """

    watches_per_connection: int = 20_000
    outbox_bytes: int = 1024 * 1024
    outboxes_bytes: int = 64 * 1024 * 1024
    fragment_bytes: int = 2 * 1024 * 1024
    slice_records: int = 1000
    slice_bytes: int = 1024 * 1024
    deliveries_per_step: int = 500
    events_gathered: int = 5000

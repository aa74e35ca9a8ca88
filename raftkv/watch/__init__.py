"""Watches, without a socket, a clock or a thread: who hears of which change, from where on, and what waits to be sent.

     changes as they are applied              a slice of history
                │ Hub.live                            │ Hub.caught_up
                ▼                                     ▼
         ┌─ live group ─────────┐   falls    ┌─ cohorts, by the revision they go on from ─┐
         │ dict: single keys    │ ─ behind ─►│  the same kind of group each; one is read  │
         │ interval index:      │◄─ has ─────│  at a time and picks up those it reaches   │
         │ ranges               │   caught up└─────────────────────────────────▲──────────┘
         └──────┬───────────────┘                                              │ has room again
                │ Outbox.offer: room? ── no: parked, at the first revision it could not take
                ▼
         one outbox a stream, bounded in bytes ──► the stream's writer, at the client's pace

A watcher is at one place of the history and goes on from there: live, behind, or parked. It is moved between the three and
loses nothing, because each move carries the first revision it has not been given. Whoever is behind reads history in
slices that the node works off between two applies; whoever does not read is parked and costs nothing but its outbox; if
history is compacted away meanwhile it is told so, with the compact revision.

All events of a revision are in one response (unless the client allows fragments). While a client lags, events of further
revisions are added to the response that still waits: it gets fewer, larger ones.

    interval_index   ranges that hold a key           responses   events and responses as bytes
    group            watchers of a key                outbox      what waits for one stream; budgets
    watcher          one watch, and its place         hub         all watches of a node
    limits           how much of all that

The work is done in steps of bounded size (`Hub.step`), so that ten thousand watchers of one key hold nobody up. A revision is not
divided, but no more of it is gathered for a stream than about twice what it can take.

Source: the answers are etcd's (tests/server/test_watch.py asks both); its synced and unsynced groups are the model.

Not done: one encoding of a response for many watchers (each pays for its own); a watcher's events are not compressed to
the last of a key, however far behind it is.
"""

from __future__ import annotations

from raftkv.watch.hub import Hub
from raftkv.watch.limits import WatchLimits
from raftkv.watch.outbox import Budget, Outbox

__all__ = ["Budget", "Hub", "Outbox", "WatchLimits"]

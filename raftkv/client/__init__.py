"""The Python client: put, get, range, delete, transactions; sync and async; against raftkv and against etcd.

    with raftkv.connect("10.0.0.1:2379,10.0.0.2:2379") as kv:
        kv.put("config/mode", "blue")
        kv.get("config/mode").text

One implementation, two faces:

    Client (threads) ──► runner: a loop on a thread ──┐
                                                      ├─► engine ─► pool ─► connection ─► gRPC
    AsyncClient (tasks) ──────────────────────────────┘    │
        │                                                  queue, flights, deadlines, sending again
        └── calls, transaction, pages: arguments to encoded operations, responses to values

**Many callers, few calls.** A gRPC call costs a Python process a quarter of a millisecond on either side, an operation in
a batch a few microseconds. So callers do not make calls: they queue operations, and whatever has queued while the calls
in flight ran goes as one `/raftkv.store.Store/Batch` call. Nobody waits for a batch to fill. A server that does not
know the call (etcd) is found out by the first one and gets plain RPCs from then on.

**A write never lies.** It returns (applied, at a revision) or raises with an `outcome`: NOT_APPLIED, or UNKNOWN where the
connection broke, or time ran out, with the write under way. It is sent again only when it surely was not applied: it had
never left, or the server said so (`outcomes.py` has the table). Reads are sent again until the deadline.

**Endpoints.** One is used while it works. When its connection breaks, the others are tried at once; when it is silent for
a second with calls waiting (a stopped process, a cut cable), new operations and unanswered reads go to another, while
writes under way wait for their answer where they are (`pool.py`).

**Deadlines.** Every call has one, five seconds unless told otherwise, and ends by it, whatever the servers do.

**Watches** have a connection of their own (`watch_pool.py`). Where a watch is, and what it asks the next server for when one
fails, is decided without a socket (`watch_cursor.py`); a task follows the servers (`watching.py`).

Not done: leases, locks and sessions. So a write whose connection broke is UNKNOWN, where a session would let the
client send it again and learn the first answer. No TLS and no users and passwords. Descending and otherwise sorted
ranges come in one answer, not in pages. An async client does not survive a fork, a sync one does.
"""

from __future__ import annotations

from raftkv.client.asynchronous import AsyncClient, AsyncRange, AsyncTxn
from raftkv.client.engine import Limits
from raftkv.client.synchronous import Client, Range, Txn, connect
from raftkv.client.transaction import Condition, KeyReference, TxnOperation
from raftkv.client.values import (
    CompactResult,
    DeleteResult,
    HashResult,
    KeyValue,
    Member,
    PutResult,
    RangeResult,
    Status,
    TxnResult,
)
from raftkv.client.watch_cursor import WatchBatch, WatchEvent
from raftkv.client.watching import AsyncWatch
from raftkv.client.watching_sync import Watch

__all__ = [
    "AsyncClient",
    "AsyncRange",
    "AsyncTxn",
    "AsyncWatch",
    "Client",
    "CompactResult",
    "Condition",
    "DeleteResult",
    "HashResult",
    "KeyReference",
    "KeyValue",
    "Limits",
    "Member",
    "PutResult",
    "Range",
    "RangeResult",
    "Status",
    "Txn",
    "TxnOperation",
    "TxnResult",
    "Watch",
    "WatchBatch",
    "WatchEvent",
    "connect",
]

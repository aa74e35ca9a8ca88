"""The Python client: put, get, range, delete, transactions; sync and async; against raftkv and against etcd.

    with raftkv.connect("10.0.0.1:2379,10.0.0.2:2379") as kv:
        kv.put("config/mode", "blue")
        kv.get("config/mode").text

One implementation, two faces:

    Client (threads) ──► runner: a loop on a thread ──┐
                                                      ├─► engine ─► pool ─► connection ─► gRPC
    AsyncClient (tasks) ──────────────────────────────┘    │
        │                                                  queue, flights, deadlines, session, sending again
        └── calls, transaction, pages: arguments to encoded operations, responses to values

**Many callers, one stream.** A gRPC call costs a Python process half a millisecond, a message on a stream that is open less
than half of that, an operation in a batch a few microseconds. So callers do not make calls: they queue operations, and
whatever has queued while the flights under way took goes as one batch, and a connection's batches go on one
`/raftkv.store.Store/Batches` stream, which answers them in any order (`batch_stream.py`). Nobody waits for a batch to fill. A
server that does not know the stream (etcd) is found out by the first batch and gets plain RPCs from then on.

**A write takes effect once, and never lies.** The first write of a client opens a session; each write is numbered in it, and
every replica remembers what it was answered until the client has that (`session.py`). So what failed on the way is sent again,
to whatever endpoint answers, until the deadline, and a failover costs callers time and no error. A write returns (applied, at
a revision) or raises with an `outcome`: NOT_APPLIED, or UNKNOWN where time ran out with a copy of it under way
(`outcomes.py` has the table). A server without sessions (etcd) gets each write once, unless it surely was not applied.

**Endpoints.** One is used while it works. When its connection breaks, the others are tried at once; when it is silent for
half a second with calls waiting (a stopped process, a cut cable), new operations go to another, and so does what waits and
may be sent twice (`pool.py`).

**Deadlines.** Every call has one, five seconds unless told otherwise, and ends by it, whatever the servers do.

**Ctrl-C** may come at any step of a thread that waits. It waits on a bare lock (`operation.py`, `errand.py`), so that nothing the loop
needs is left taken.

**Watches** have a connection of their own (`watch_pool.py`). Where a watch is, and what it asks the next server for when one
fails, is decided without a socket (`watch_cursor.py`); a task follows the servers (`watching.py`).

**Maintenance**: alarms, defragmentation and snapshots (`maintenance.py`); a snapshot has a connection of its own, and its file is whole
or does not exist (`snapshot_file.py`).

**Leases** are renewed by plain calls, three in a TTL, which go where other calls go (`lease_calls.py`, `leasing.py`), and are lost by
the owner's own clock (`tenure.py`): a process that was stopped for too long knows as soon as it asks. **Locks and elections** are
places in a queue of keys (`contending.py`, `contender.py`, `locking.py`, `electing.py`), the one of etcd's Go client. A holder
cannot know that it is paused, so what a lock guards checks its fencing token: `kv.txn().when(lock.fence)`.

Not done: one call for the renewals of many leases: a thousand leases of 10 s cost 300 calls a second. A lock whose key somebody
deletes under its living lease does not hear of it; its fence holds all the same. No TLS and no users and passwords. Descending and
otherwise sorted ranges come in one answer, not in pages. An async client does not survive a fork, a sync one does.
"""

from __future__ import annotations

from raftkv.client.asynchronous import AsyncClient, AsyncRange, AsyncTxn
from raftkv.client.electing import AsyncElection, AsyncObservation
from raftkv.client.electing_sync import Election, Observation
from raftkv.client.leasing import AsyncLease
from raftkv.client.leasing_sync import Lease
from raftkv.client.limits import Limits
from raftkv.client.locking import AsyncLock
from raftkv.client.locking_sync import Lock
from raftkv.client.maintenance import Alarm, AsyncMaintenance, Maintenance
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
    "Alarm",
    "AsyncClient",
    "AsyncElection",
    "AsyncLease",
    "AsyncLock",
    "AsyncMaintenance",
    "AsyncObservation",
    "AsyncRange",
    "AsyncTxn",
    "AsyncWatch",
    "Client",
    "CompactResult",
    "Condition",
    "DeleteResult",
    "Election",
    "HashResult",
    "KeyReference",
    "KeyValue",
    "Lease",
    "Limits",
    "Lock",
    "Maintenance",
    "Member",
    "Observation",
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

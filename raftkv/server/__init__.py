"""What clients see of a node: etcd's gRPC API, and raftkv's batching service, on one port.

      etcdctl, etcd clients             raftkv's client
             │ /etcdserverpb.KV/…            │ /raftkv.store.Store/Batches
             ▼                               ▼
       KvService  ClusterService  MaintenanceService  StoreService      check the request, by etcd's rules and texts
             └───────────────┬───────────────┘
                        Node.submit        Node.read        Node.read_local
                     (held through          (ReadIndex)      (serializable)
                      an election)

Every node takes every request: the node forwards to the leader, wherever that is. A request is held until the client's
deadline; a write that then fails carries the trailing metadata `raftkv-outcome: not-applied` or `unknown`, because a client
must be able to tell.

raftkv's client has one stream for each of its connections, on which its batches come and their answers go, in any order
(`batch_stream.py`); what a batch is, `store.py` says.

`assembly.py` puts a whole node together: directories, log, state machine, core, transport and these services.

Other ways in than gRPC (`raftkv.gateway`) are built on the server: `doors.py` says what one is, and what it may look at. A
method sees of its call no more than `call.py` has, so it need not have come over gRPC.

Watches have streams of their own (`watch.py`); what they hear of is read by `watch_feed.py` and given out by `raftkv.watch`.
Renewals of leases come on streams too (`lease.py`), and enter the log as what they are: writes.

Locks and elections (`lock.py`, `election.py`) are queues of keys (`contending.py`), built on transactions, watches and leases
as a client would build them.

Two alarms are raised by the nodes themselves, through the log: NOSPACE (`space.py`) and CORRUPT (`corruption.py`); what is refused
while one is on, `limits.py` says. `snapshots.py` streams a state to a client, `restoring.py` makes a new cluster's data directory of it.

Not done: Auth and Downgrade answer UNIMPLEMENTED. No TLS. A defragmentation holds up its node for as long as it takes
to write and read the state once.
"""

from __future__ import annotations

from raftkv.server.assembly import Server
from raftkv.server.doors import Door, MakeDoors, Sources

__all__ = ["Door", "MakeDoors", "Server", "Sources"]

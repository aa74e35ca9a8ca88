"""How nodes reach each other: one long-lived gRPC stream per pair, and a stream of its own for each snapshot.

      smaller id                                   larger id
    ┌───────────┐   Stream: Frame, Frame, …   ┌───────────┐
    │  PeerLink ├────────────────────────────►│  PeerLink │     the smaller id dials, and dials again;
    │           │◄────────────────────────────┤           │     the first frame each way is a Hello
    └─────┬─────┘                             └─────┬─────┘
          └──── InstallSnapshot: SnapshotChunk, … ──┘           whoever leads dials

A frame carries every message that queued while the last one was being written: batching without waiting. A queue has a bound;
what does not fit is dropped, because Raft expects loss and a peer that cannot keep up must not cost memory.

A broken stream is reported to the node (`PeerLost`): what was on its way is lost, and the node asks again.

`Hello` keeps strangers out: a peer of another cluster, with another id, of another protocol version, or that is no member is
refused with a status that says which, on both ends. It also tells which data the peer has: one that has lost its data, or got
an older copy of it back, is told so and must not vote; the node notes that in its data directory and decides (`meet`).

Beside the streams there are two calls (`roster.py`): nodes that miss each other exchange the member tables that they have applied, so
that one which was removed while it was away is told, and one that was left behind learns of the new members; and a change of the
members is passed on to the leader. And one in `hashes.py`: the leader asks for a peer's HashKV.

Anybody who reaches the port can call. Whoever is not who it says it is must not stop a node: what cannot be true, or cannot be
used, is that caller's failure, and what a caller tells of the members is hearsay.

Not done: TLS between peers. Whoever knows a member's id and data can pass for it, and is believed as it is. A node that has lost
the majority of those it knows goes by hearsay, and tells such peers which data it has.
"""

from __future__ import annotations

from raftkv.transport.transport import PeerTransport

__all__ = ["PeerTransport"]

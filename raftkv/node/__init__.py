"""A node: the shell around one Raft core.

      clients' commands          peers' messages             ticks
            │ submit, read             │ Received              │
            ▼                          ▼                       ▼
      ┌──────────────────────────────────────────────────────────────┐
      │ Node (event loop, one callback at a time) ── owns ──► Raft   │
      └───┬───────────────────┬──────────────────────┬───────────────┘
          │ Save              │ committed entries    │ messages
          ▼                   ▼                      ▼
      WalWriter thread    Applier thread         PeerTransport
          │ Saved             │ Applied, answers
          └────────► Inbox ◄──┘

- `node.py` feeds the core and carries out its `Ready`; nothing there waits, so no decision is made on stale state.
- `ticker.py` is its clock, and knows how late it is.
- `requests.py` is what clients wait for, given to the core as far as it takes it, and refused while the node is cut off.
  `proposals.py` holds commands through elections and makes proposing them twice harmless; `reads.py` does the same for reads;
  `patience.py` says when to ask again.
- `watchdogs.py` looks at the log's thread, the state machine's, the loop and the disk; `health.py` makes a verdict of it, by which
  the core hands leadership over.
- `applier.py` is the thread that owns LMDB. A slow disk or a long apply delays answers, never heartbeats; and of plain puts not
  even the answers: while the state is committed to disk, what they will be is told beforehand.
- `saves.py` keeps promises until the disk has kept them; `leader_watch.py`, `succession.py`: waiting for a leader, becoming one.
- `snapshots.py`, `compaction.py`: followers that fall behind, and a log that stays bounded.
- `members.py`: changes of the membership, checked and proposed by the leader; `newcomers.py`: who is being added, and must be
  reachable before that is done; `transfer.py`: leadership moved on request, or before a node stops.
- `lease_duty.py`: the leader's word on how much time has passed, for leases.
- `recovery.py`: what a crash may leave behind, and what is made of it.
- `flight_record.py`: what the node remembers of elections, failures and their evidence, for `raftkv why`.
- `ports.py`: the three things a node needs from the world, so that a simulator can provide them.

Not done: a node whose disk is full stops when a write fails; its peers go on without it.
"""

from __future__ import annotations

from raftkv.node.applier import Applier, ApplyQueue
from raftkv.node.config import NodeConfig
from raftkv.node.node import Node
from raftkv.node.recovery import recover_raft

__all__ = ["Applier", "ApplyQueue", "Node", "NodeConfig", "recover_raft"]

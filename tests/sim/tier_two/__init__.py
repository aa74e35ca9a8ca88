"""Tier two: what `raftkv serve` runs between its sockets and the operating system, in virtual time.

    clients ─► network ─► Node ─► ApplyQueue ─► StateMachine on LMDB        (ports: whose turn it is)
                           │  └─► WalQueue ───► Wal ─► Files, a fake disk   (disk: what must be on it)
                           └────► Link ───────► World: loss, doubles, cuts  (link)

Everything but the fakes is the product's own code. `loop` is an asyncio event loop in virtual time on which a process is a
context: whatever a node has started, in whatever depth, stands still when it is paused and is gone when it is killed. The work
of threads is done on that loop too, later, in the product's own steps.

A crash leaves of the fake disk what the dice leave: of everything not synced any sector and any name. LMDB's files are real
ones; what was not committed is gone. Clients' histories are judged by `raftkv.lab.linearizability`, by both its oracles.
"""

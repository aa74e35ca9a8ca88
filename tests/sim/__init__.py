"""The simulator: a whole cluster in one process, in virtual time, with everything that can go wrong going wrong.

One seed is one run, to the byte: the same elections, the same crashes, the same trace.

    swarm ──► what this seed suffers from: rates, sizes, speeds            schedule: what of it is left out
                 │                                                             │ (shrink)
    nemesis ─► world: clock and network ──► member ─────────────────┐          │
                 │                            │ tier_one: a core    │ tier_two: a whole node
                 │                            ▼                     ▼
                 └──────────────────────► checkers: look at all of it from outside, after every step

A run has two phases (`scenario`). In the first anything may break at any time: nothing wrong may happen (safety). Then a
quorum is healed, the rest stays as broken as it was: the quorum must elect a leader and commit. Then everything is healed:
everybody must catch up, and quiet must follow (liveness).

- `tier_one` runs bare cores, with fakes around them: a thousand lives a minute.
- `tier_two` runs what `raftkv serve` runs between its sockets and the operating system: the node, the state machine on LMDB,
  the log and its recovery, on a virtual event loop and a fake disk.

`python -m tests.sim` runs any number of seeds, replays one of them with a readable trace, and cuts a failing one down.
`known_bugs` holds patches that put classic bugs into core and node, each of which must be caught: a checker that cannot fail
checks nothing.

Not done here: gRPC and the sockets, a crash in the middle of an LMDB commit or of swapping a snapshot in, power cuts on real
file systems, data directories that are lost or old: those are the storage suites'.
"""

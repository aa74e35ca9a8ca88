"""The simulator: a whole cluster in one process, in virtual time, with everything that can go wrong going wrong.

One seed is one run, to the byte: the same elections, the same crashes, the same trace. Tier one runs bare cores
(`raftkv.raft.Raft`) with the shell's own held proposals, reads and recovery around them; disk, network and state machine are
fakes that lie as badly as real ones may, and never worse.

    swarm ──► what this seed suffers from: rates, sizes, speeds
                 │
    nemesis ─► world: clock and network ──► member: core + shell ──► disk, machine
                 │                              │
                 └──────────► checkers: look at all of it from outside, after every step

A run has two phases (`run`). In the first anything may break at any time: nothing wrong may happen (safety). Then a quorum is
healed, the rest stays as broken as it was: the quorum must elect a leader and commit. Then everything is healed: everybody
must catch up, and quiet must follow (liveness).

`python -m tests.sim` runs any number of seeds and replays one of them with a readable trace. `known_bugs` holds patches that
put a classic bug into the core, each of which must be caught: a checker that cannot fail checks nothing.

Not done here: the event loop, gRPC, LMDB and the log's bytes; that is tier two and the storage suites.
"""

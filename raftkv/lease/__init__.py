"""Leases: keys that go when their owner falls silent. Time is a part of the log.

    owner ── grant, keep alive ──► command ──► log ──► deadline = the log's clock + TTL + slack
                                                        │
    leader's ticks ──► clock ──► "it is now 4250 ms" ──►│ log's clock = 4250
                                                        └─► deadlines that have come: keys deleted, lease gone

Nodes have no common clock, and a leader that counts a lease's time in its memory takes the count with it when it dies: etcd
then begins each lease anew, and old leases can outlive their owners by many changes of leader. Here the time itself is
replicated. The state holds a clock in milliseconds, which only a leader's entries advance, about four times a second while
there is a lease, and at the moment when the next one ends. What ends a lease is such an entry: so it ends on every node at
the same index, in an order that the log gives (by deadline, then id), each lease's keys in one revision.

- A renewal is an entry too: once answered, it is on a quorum of disks, and no leader that comes later knows less of it.
- A new leader counts on from the log's clock. What passed between the two leaders is not counted: a lease lives longer by as
  much (an election, and a quarter of a second), and is never cut.
- A deposed leader ends nothing: its advance commits in its own term, and then it was true, or not at all. One that is passed
  on to another leader would stand in another term than it names, and is ignored.
- A leader's own clock may be up to half a second ahead of the log's; each deadline has that added to it. If the log stalls,
  time does.
- Without leases nothing is written.

    validate   which TTLs are granted             clock     when the leader advances the log's clock, and to what
    commands   grant, renew, revoke, advance      reading   time to live, the list

Where they lie is `raftkv.mvcc.leases`, in the transaction of the keys they hold. 100,000 leases cost no memory and no scan.

Not done: a lease with very many keys is still ended in one piece, as it must be to be one revision, and holds up the state
machine for some 10 µs a key; so does the list of all leases, for 1 µs a lease.
"""

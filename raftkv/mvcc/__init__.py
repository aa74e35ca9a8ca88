"""The versioned key space: etcd's data model on LMDB. Every write makes a revision; history stays until it is compacted.

    put a=1, put b=2, (put a=3, delete b) in one txn, put a=4        revision: main.sub

       database `index` (DUPSORT)                         database `revisions` (append only)
       user key -> its versions, oldest first             revision -> serialized mvccpb.KeyValue

       "a" ─┬─ 2.0  create 2  version 1 ────────────────► 2.0   KeyValue(a=1, create 2, mod 2, version 1)
            ├─ 4.0  create 2  version 2 ──────────┐  ┌──► 3.0   KeyValue(b=2, create 3, mod 3, version 1)
            └─ 5.0  create 2  version 3 ───────┐  └──┼──► 4.0   KeyValue(a=3, create 2, mod 4, version 2)
       "b" ─┬─ 3.0  create 3  version 1 ───────┼─────┘ ┌► 4.1   KeyValue(b, mod 4, version 0)     tombstone
            └─ 4.1  version 0: deleted ────────┼───────┘
                                               └────────► 5.0   KeyValue(a=4, create 2, mod 5, version 3)

       database `meta`: "mvcc" -> revision, compact revision, how far physical removal has come;
                        and the records of the state machine above (applied index, members, sessions)
       databases `leases`, `lease_deadlines`, `lease_keys`: which leases there are, and the keys that go with each

A read at revision R takes a key's last version at or below R. A value is stored once, under its revision, in the form in
which it is sent: a range is answered by concatenation. A hot key's versions move into a tree of their own (LMDB's
sub-databases), so the last of a million is found as quickly as the last of three.

Nothing is kept in memory but a few counters and cursors. LMDB's write transaction stays open between commits, and reads
are answered from it: they see what is applied, not what is synced.

    schema       packing                      validate     etcd's checks of a request, without state
    environment  LMDB: map, readers, errors   commands     put, delete range, txn, compaction
    store        counters, put, delete, get   reading      range with all its options, in slices
    compaction   physical removal             hashing      HashKV
    history      changes from a revision on, for watches
    pages        LMDB's file, without LMDB    checking     is all of it what was written?
    leases       what was granted, until when, and which keys hang on it
    sealed       a file that nobody writes to
    allowance    how much the commands of one log entry may look at and answer
    values_reader  half of what `checking` does, in a process of its own

LMDB has no checksums, so there are some here. An entry of the index holds that of its value, and every read of a value
checks it. The counters hold the sum of the hashes of all entries of the index, kept up to date with each write: with it, and
with a walk over LMDB's pages, `checking` finds any damage done while the file was closed, before LMDB opens it. That takes
0.75 µs of processor time a record (1.5 s for a million keys, shared by two processes), at every start and for every snapshot
received; keeping the sums costs a put 10 % of its time in the state machine.

Compaction raises the compact revision, for every reader at once; `compaction` then removes what has become invisible in
small slices. How far that has come is the one thing in which two nodes with equal logs may differ. Removing a record costs
about 10 µs where keys are written at random, most of it LMDB's: each record lies on pages of its own, to be found,
copied, and written by the next commit.

Not done: keys above 511 bytes (LMDB's limit); a search for damage while the store is open (values are checked when they are
read, the index is not); a count of a large range without walking it (etcd walks it too, in memory); removal in the order of
what is removed, not of what superseded it, for many thousand records at a time: where keys are written at random it would
bring half as many pages into a commit, but how far it has come would be two numbers instead of one. Free pages are reused by
LMDB and never given back to the file system, but for a copy without them that is swapped in (`statemachine`: `defragment`).
"""

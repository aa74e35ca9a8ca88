"""The same random operations, over gRPC, to a real etcd and to raftkv; every answer compared, field by field.

    steps.py     what is asked: one seed is one sequence of steps
    watches.py   watches on both: created, cancelled, and the events of each compared in order
    comparing.py what of an answer must be equal
    runs.py      fresh servers, all steps one after the other, the first difference
    shrinking.py the shortest sequence that still differs
    __main__.py  python -m tests.compat.differential --operations 20000 --seed 1

Both start empty, so revisions must be equal, too. Left out of the comparison: ids of clusters and members, terms, how many
seconds a lease has left, hashes (of another file format), and the order among keys that a sort calls equal.

Differences that are known, and are not asked for:

- the least TTL that is granted follows from the election timeout: 2 s there, 1 s here;
- an id of a watch that a compaction has ended is taken for ever on that stream there, and free again here;
- a watch that begins at the compact revision itself may miss deletions of that revision, as fast as they are removed;
- whether a watch that begins in the past is overtaken by a compaction is a matter of time: it is cancelled before.

What the store answers is compared faster, without servers, in `tests/mvcc/test_against_etcd.py`, whose generator this one extends.
A seeded generator and not Hypothesis: one long history finds what a thousand short ones do not, and a thousand fresh pairs of
servers would take an hour. For that the shrinking is done here, by leaving steps out.

Not done: leases that end by themselves (``lease`` has tests of their times); more than one client at a time.
"""

"""The drill: breaks a live cluster on purpose, measures what clients saw, and judges whether the cluster kept its word.

    options ─► target.py   is this a healthy raftkv cluster of three or more, with nothing under our prefix?
                  │
               lock.py     one drill at a time
                  │ each round
               canary.py   clients that record everything ──┐
               faults.py   break the leader, make it good ──┼─► measuring.py ─► verdict.py ─► table, JSON
               watch.py    who leads, in which term ────────┘                  └─► report.py, picture.py: one HTML file

``run.py`` has the order of things, above all of the end: whatever happens, what was broken is made good, the canary's keys are
removed, and the lock is given back.

A cluster of ``cluster/local.py`` is broken from outside, with signals and cut links. The nodes of a cluster elsewhere can be asked
to hand leadership over, and those started with ``--enable-drills`` to break something in themselves for a while; each such
fault ends by itself. While a local cluster is broken, ``guard.py`` waits in a process of its own to make it good if the drill dies.

Not done: faults on followers, several faults at once, clocks, and clusters with members that serve no clients. Where a drill dies
so hard that it cannot clean up, its keys stay, and the next one refuses the prefix and says so.
"""

"""Bugs that fresh implementations of Raft make, as patches over core and node. The simulator must catch every one.

A bug has the number it carries in the project's list of known bugs, and a patch that puts it into the running process until
`planted` ends. Nothing of this is in the shipped code, so the patches reach into private parts: if the core changes and one
does not fit any more, write it anew.

Some of the list's bugs cannot show in this core, because something else makes up for them; there is no patch for those:
7 (a refused append is tried at the commit index next), 18 (a lost pre-vote makes a follower of whoever waits), 19 (a leader
that hears no answers steps down), 38 (the leader's own save counts everything again). Of 9, a reply from an earlier term was
planted and not caught in 800 seeds; a named test of the core holds it. A learner that never forgets a silent leader does no harm
any more that a run would show, since leaders say when they resign: `tests/raft/test_silent_leader.py` holds that.

`python -m tests.sim.mutants` prints which seed catches which bug, and by which property.
"""

from __future__ import annotations

from tests.sim import bugs_elections, bugs_fitness, bugs_leases, bugs_log, bugs_nodes, bugs_of_ours, bugs_requests
from tests.sim.planting import BUGS, KnownBug, planted

__all__ = [
    "BUGS",
    "KnownBug",
    "bugs_elections",
    "bugs_fitness",
    "bugs_leases",
    "bugs_log",
    "bugs_nodes",
    "bugs_of_ours",
    "bugs_requests",
    "planted",
]

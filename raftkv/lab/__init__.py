"""The laboratory: real clusters on one machine, and what can be done to them.

    cluster/local.py   raftkv demo   tests   benchmarks
           └───────────────┴──────┬────┴─────────┘
                             LocalCluster (cluster.py)
              state.py  cluster.json: which processes and ports are ours
              plan.py   a new cluster on paper          ports.py  free ports, held
              nodes.py  flags, logs, readiness
              process.py  pids that cannot lie          leash.py  cleans up after a parent that died (survivor.py)
              links.py  rules for traffic between nodes
                 │ control port
              proxy.py, pump.py  one process through which the nodes dial each other

Each node is an operating-system process as a user would start it; nothing in it knows that it is being watched, but for one
flag, ``--peer-dial``, which makes it dial its peers through the proxy. Faults are made from outside: SIGKILL, SIGSTOP, and links
that are cut, one way or both, or delayed, without root.

A cluster lives in a directory, so that a command from another shell finds it, and never mistakes somebody else's process for a
node of its own. ``demo.py`` is the first minute with raftkv: it kills a leader in front of the user and counts.

What clients saw is recorded (``history.py``) and judged (``linearizability.py``, which draws the parts): whether one store, doing
one thing at a time, could have answered so. The judge knows nothing of clusters, and two oracles that share no code must agree.

Every node keeps a record of elections, failures and their evidence. ``raftkv why`` merges them: ``timeline.py`` puts them in an
order that contradicts no message, ``incidents.py`` finds what happened, ``explanation.py`` why, ``narration.py`` has the words.

``drill/`` breaks a live cluster on purpose and proves the outcome; ``rolling.py`` restarts one node by node under its clients.
``gate.py`` lets the proxy stand between nodes of etcd, too, for comparisons.

Not done: faults of clocks; loss, duplication and reordering of single messages; starting nodes on several machines.
"""

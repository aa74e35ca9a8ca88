"""The outside judges: clients of etcd that others wrote, with the tests that they wrote for them.

    packages.py     fetches a judge from its registry, pinned by hash, into .raftkv/judges (ignored by git), and installs it
    judges.py       which judges there are, and how each is run by its own runner
    results.py      what a runner has written (JUnit's XML, mocha's JSON), test by test
    systems.py      three nodes of etcd, or of raftkv
    sessions.py     one judge before one system
    tls_front.py    TLS before a server that speaks none, for the judge that insists on it
    inside/         loaded into a judge's own process: points its default client at the server
    differences.py  what may differ, and why
    judgement.py    compares test by test; the table
    baseline.json   what passes on etcd 3.4.23, as `make compat` last found it
    differential/   random operations, the same to etcd and to raftkv, every answer compared

`make compat` runs every judge against three nodes of etcd, then against three of raftkv. Every test that passes on etcd must pass
on raftkv, but for those that ``differences.py`` names; and whatever it names must differ still, or the list would rot.
Continuous integration runs raftkv alone, against the recorded baseline.

None of the judges' code is in this repository. etcdctl judges in ``tests/server/test_etcdctl.py``: its outputs, side by side.

Not done: Patroni; suites that need authentication or a server's own TLS.
"""

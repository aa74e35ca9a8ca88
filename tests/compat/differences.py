"""What may differ, and why: tests that no system is asked, and tests that pass on etcd and fail on raftkv.

Every line has its reason. A difference that is no longer there fails too (``judgement.py``): whoever closes it deletes the line.
"""

from __future__ import annotations

AUTH = "needs authentication"
BBOLT = "`etcdctl snapshot status` opens a bbolt file, and ours is none"

LEFT_OUT: dict[str, dict[str, str]] = {
    "aetcd": {"tests/integration/test_auth.py::test_auth": AUTH},
    "etcd3 (Python)": {},
    "etcd3gw": {},
    "etcd3 (npm)": {"roles and auth": AUTH, "emits an error if a watcher is cancelled upon creation": AUTH},
}
"""By judge: what its runner is told to leave out. Names as the runner takes them."""

EXPECTED: dict[str, dict[str, str]] = {
    "aetcd": {
        "test_maintenance::test_snapshot": BBOLT,
    },
    "etcd3 (Python)": {
        "TestEtcd3::test_snapshot": BBOLT,
    },
    "etcd3gw": {},
    "etcd3 (npm)": {},
}
"""By judge: tests that pass on etcd and not on raftkv."""

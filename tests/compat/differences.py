"""What may differ, and why: tests that no system is asked, and tests that pass on etcd and fail on raftkv.

Every line has its reason. A difference that is no longer there fails too (``judgement.py``): whoever closes it deletes the line.
"""

from __future__ import annotations

AUTH = "needs authentication"

LEFT_OUT: dict[str, dict[str, str]] = {
    "aetcd": {"tests/integration/test_auth.py::test_auth": AUTH},
    "etcd3 (Python)": {},
    "etcd3gw": {},
    "etcd3 (npm)": {"roles and auth": AUTH},
}
"""By judge: what its runner is told to leave out. Names as the runner takes them."""

EXPECTED: dict[str, dict[str, str]] = {
    "aetcd": {},
    "etcd3 (Python)": {},
    "etcd3gw": {},
    "etcd3 (npm)": {},
}
"""By judge: tests that pass on etcd and not on raftkv."""

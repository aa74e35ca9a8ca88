"""Alarms and snapshots as JSON, and what alarms do to /health, beside etcd's."""

from __future__ import annotations

import base64
import hashlib
import json

from tests.gateway.http import Both, Http


def test_an_alarm_is_listed_and_seen_by_the_probes_as_by_etcd(both: Both) -> None:
    alarm = {"alarm": "NOSPACE", "memberID": "77"}
    both.post("/v3/maintenance/alarm", {})
    try:
        both.post("/v3/maintenance/alarm", {"action": "ACTIVATE", **alarm})
        assert both.post("/v3/maintenance/alarm", {"action": "GET", "alarm": "NOSPACE"}).json == {"alarms": [alarm]}
        assert both.ask("GET", "/health").status == 503
        assert both.ask("GET", "/health?exclude=NOSPACE").status == 200
        assert both.ours.get("/livez").status == both.ours.get("/readyz").status == 200
    finally:
        both.post("/v3/maintenance/alarm", {"action": "DEACTIVATE", **alarm})
    assert both.ask("GET", "/health").status == 200


def test_a_snapshot_comes_in_lines_and_whole(ours: Http) -> None:
    """Its last 32 bytes are the digest of the rest, as etcdctl expects of one."""
    ours.put_key(b"snapshot", b"x" * 300_000)

    answer = ours.post("/v3/maintenance/snapshot", {})

    assert answer.status == 200
    blob = b"".join(base64.b64decode(json.loads(line)["result"].get("blob", "")) for line in answer.body.splitlines())
    assert hashlib.sha256(blob[:-32]).digest() == blob[-32:]

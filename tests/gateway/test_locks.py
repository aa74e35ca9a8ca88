"""Locks and elections over JSON, as by etcd."""

from __future__ import annotations

import json

from tests.gateway.http import Both, b64


def test_a_lock_is_taken_and_let_go_as_of_etcd(both: Both) -> None:
    both.post("/v3/lease/grant", {"TTL": "60", "ID": "43"})
    key = both.post("/v3/lock/lock", {"name": b64(b"door"), "lease": "43"}).json["key"]
    both.post("/v3/lock/lock", {"name": b64(b"door"), "lease": "99"})
    both.post("/v3/lock/unlock", {"key": key})
    both.post("/v3/lock/unlock", {})
    both.post("/v3/lock/unlock", {"key": key})


def test_an_election_is_held_as_in_etcd(both: Both) -> None:
    name = b64(b"office")
    both.post("/v3/election/leader", {"name": name})
    both.post("/v3/election/campaign", {"name": name, "lease": "99"})
    both.post("/v3/lease/grant", {"TTL": "60", "ID": "44"})
    leader = both.post("/v3/election/campaign", {"name": name, "lease": "44", "value": b64(b"me")}).json["leader"]
    both.post("/v3/election/leader", {"name": name})
    assert both.lines("/v3/election/observe", json.dumps({"name": name}), 1)[0]["result"]["kv"]["value"] == b64(b"me")
    both.post("/v3/election/observe", "zz")
    both.post("/v3/election/proclaim", {"leader": leader, "value": b64(b"still me")})
    both.post("/v3/election/proclaim", {"value": b64(b"nobody")})
    both.post("/v3/election/resign", {"leader": leader})
    both.post("/v3/election/resign", {})
    both.post("/v3/election/leader", {"name": name})

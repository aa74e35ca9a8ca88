"""Leases as JSON, beside etcd's."""

from __future__ import annotations

from tests.gateway.http import Both, b64


def test_leases_are_granted_kept_and_revoked_as_by_etcd(both: Both) -> None:
    both.post("/v3/lease/grant", {"TTL": "60", "ID": "4242"})
    both.post("/v3/lease/grant", {"TTL": "60", "ID": "4242"})
    both.post("/v3/lease/grant", {"TTL": "9000000001"})
    both.post("/v3/kv/put", {"key": b64(b"leased"), "value": "YQ==", "lease": "4242"})
    for path in ("/v3/lease/timetolive", "/v3/kv/lease/timetolive", "/v3beta/lease/timetolive"):
        ours, theirs = (http.post(path, {"ID": "4242", "keys": True}).json for http in (both.ours, both.theirs))
        assert {**ours, "TTL": 0, "header": 0} == {**theirs, "TTL": 0, "header": 0}
        assert ours["grantedTTL"] == "60"
        both.post(path, {"ID": "1"})
    for path in ("/v3/lease/leases", "/v3/kv/lease/leases"):
        for http in (both.ours, both.theirs):  # Other tests may have left leases to one of them.
            assert {"ID": "4242"} in http.post(path, {}).json["leases"]
    assert both.lines("/v3/lease/keepalive", '{"ID":"4242"}{"ID":"7"}', 2)[0]["result"]["TTL"] == "60"
    assert both.post("/v3/lease/keepalive", "").body == b""
    both.post("/v3/lease/keepalive", "{")
    both.post("/v3/lease/revoke", {"ID": "4242"})
    assert both.post("/v3/lease/revoke", {"ID": "4242"}).status == 404
    both.post("/v3/kv/lease/revoke", {"ID": "4242"})
    both.post("/v3/kv/range", {"key": b64(b"leased")})
